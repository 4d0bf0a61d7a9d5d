//! A task that somebody tries out: the same steps as for the Server's tasks, up to where something would be sent.

use super::{Context, Job, StepError, TaskRunner};
use crate::task::outputs::{OutputFile, Skipped};
use crate::task::record::{Ending, Phase, StopReason};

/// What came of a trial.
pub struct Trial {
    /// How it ended.
    pub ending: Ending,
    /// Why it was stopped, if it was.
    pub stop: Option<StopReason>,
    /// What would be sent, in this order.
    pub files: Vec<OutputFile>,
    /// What would be left out, and why.
    pub left_out: Skipped,
}

/// Does a task whose record is [`Phase::Accepted`] and whose inputs lie in its workspace. The error says why it could
/// not be brought to an end; its container may be left then.
pub fn try_out(context: &Context, job: Job) -> Result<Trial, String> {
    TaskRunner::new(context, job).try_out().map_err(|halt| match halt {
        StepError::Shutdown | StepError::Discarded => "interrupted".to_owned(),
        StepError::Retry { why, .. } => why,
    })
}

impl TaskRunner<'_> {
    fn try_out(&mut self) -> Result<Trial, StepError> {
        while self.record.phase < Phase::Exited {
            match self.record.phase {
                // Inputs that lie in their place aren't fetched, so that nobody is asked for any.
                Phase::Accepted => self.prepare()?,
                Phase::Prepared => self.execute()?,
                _ => return Err(StepError::retry("the task isn't accepted")),
            }
        }
        let (files, left_out) = if self.is_cancelled() { Default::default() } else { self.find()? };
        self.remove_container()?;
        let Some(ending) = self.record.ending.clone() else {
            return Err(StepError::retry("the record names no ending"));
        };
        Ok(Trial { ending, stop: self.record.stop, files, left_out })
    }
}
