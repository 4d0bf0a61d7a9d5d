//! What a case is made of: the task, what happens to it and to the agent, and how it has to end.

use crate::expected::Due;
use crate::point::Point;
use std::fmt;

/// One row of the matrix.
#[derive(Clone, Debug)]
pub struct Case {
    pub kind: Kind,
    /// Whether the container waits, once it has begun, until [`Act::Release`].
    pub held: bool,
    pub acts: Vec<Act>,
    pub due: Due,
}

/// The kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two inputs, two outputs, exit status 0.
    Success,
    /// The same, with exit status 3.
    Failure,
    /// Cancelled by the person who submitted it.
    Cancel,
    /// Stopped after its minute.
    Timeout,
    /// As [`Kind::Success`], with outputs that only the engine can read.
    Guarded,
}

/// What happens, one after the other.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// The agent is started, and killed at this point.
    Kill(Point),
    /// The same; the task is cancelled as soon as its container has begun.
    KillCancelled(Point),
    /// The same; the container is released as soon as the agent follows it.
    KillReleased(Point),
    /// The held container may go on.
    Release,
    /// The container has ended.
    Ended,
    /// The container is removed behind the agent's back, as `docker container prune` would.
    Prune,
    /// The task is cancelled.
    Cancel,
    /// The input files are no longer on the Server.
    NoInputs,
    /// The input files come to a standstill in the middle.
    SlowInputs,
    /// Of the record, the first writing of which a crash has cut off, there is a part.
    HalfRecord,
    /// The agent is started, and not killed any more.
    Revive,
    /// The agent follows the running container.
    Followed,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:", self.kind)?;
        for act in &self.acts {
            match act {
                Act::Kill(point) => write!(f, " kill at {point},")?,
                Act::KillCancelled(point) => write!(f, " cancel, kill at {point},")?,
                Act::KillReleased(point) => write!(f, " follow, release, kill at {point},")?,
                Act::Revive => write!(f, " revive")?,
                Act::Followed => write!(f, ", followed")?,
                Act::Release if matches!(self.acts.last(), Some(Act::Release)) => write!(f, ", release")?,
                other => write!(f, " {},", format!("{other:?}").to_lowercase())?,
            }
        }
        Ok(())
    }
}
