//! A case of the matrix: the task, the steps, and the expected end.

use crate::expected::Expected;
use crate::point::{Call, Point, When};
use std::fmt;

/// One row of the matrix.
#[derive(Clone, Debug)]
pub struct Case {
    pub kind: Kind,
    /// Whether the container waits for [`Act::Release`] after its start.
    pub held: bool,
    pub acts: Vec<Act>,
    pub expected: Expected,
}

/// The kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two inputs, two outputs, exit status 0.
    Success,
    /// As [`Kind::Success`], with exit status 3.
    Failure,
    /// Cancelled on the Server.
    Cancel,
    /// Stopped after its minute.
    Timeout,
    /// As [`Kind::Success`], with outputs that only the engine can read.
    Guarded,
    /// As [`Kind::Failure`], with a note of the agent's own.
    Noted,
    /// As [`Kind::Success`], with the outputs in an archive.
    Archived,
}

/// One step of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Start the agent, and kill it at this point.
    Kill(Point),
    /// The same; cancel the task as soon as its container has started.
    KillCancelled(Point),
    /// The same; release the container as soon as the agent follows it.
    KillReleased(Point),
    /// Let the waiting container continue.
    Release,
    /// Wait until the container has exited.
    Ended,
    /// Remove the container while no agent runs, as `docker container prune` does.
    Prune,
    /// Cancel the task.
    Cancel,
    /// Make the downloads of the inputs fail.
    NoInputs,
    /// Make the downloads of the inputs stall.
    SlowInputs,
    /// Leave a part of a record, as a crash during its first write does.
    HalfRecord,
    /// Start the agent, and don't kill it again.
    Restart,
    /// Wait until the agent follows the running container.
    Followed,
}

impl Case {
    /// Whether it waits for a timeout, or until refusals of the Server are believed.
    pub fn takes_minutes(&self) -> bool {
        // An accept of a task that was cancelled meanwhile is refused as if an earlier one had arrived.
        let accept = Point::Request(Call::Accept(1), When::Before);
        self.kind == Kind::Timeout
            || self.acts.contains(&Act::NoInputs)
            || self.acts == [Act::Kill(accept), Act::Cancel, Act::Restart]
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:", self.kind)?;
        for act in &self.acts {
            match act {
                Act::Kill(point) => write!(f, " kill at {point},")?,
                Act::KillCancelled(point) => write!(f, " cancel, kill at {point},")?,
                Act::KillReleased(point) => write!(f, " follow, release, kill at {point},")?,
                Act::Restart => write!(f, " restart")?,
                Act::Followed => write!(f, ", followed")?,
                Act::Release if matches!(self.acts.last(), Some(Act::Release)) => write!(f, ", release")?,
                other => write!(f, " {},", format!("{other:?}").to_lowercase())?,
            }
        }
        Ok(())
    }
}
