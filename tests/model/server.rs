//! The Server, as the manual's page `protocol` describes it.

use crate::phase::Phase;
use crate::state::{AGENTS, Ending, Late, State, Status};

/// A call of an agent that changes something on the Server. A poll, a heartbeat, a download and a list of files don't;
/// what a Server does that hears no heartbeat is [`State::requeue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Accept,
    Upload,
    Complete(Ending),
}

impl Call {
    /// The same call, under way.
    pub fn late(self) -> Late {
        match self {
            Self::Accept => Late::Accept,
            Self::Upload => Late::Upload,
            Self::Complete(Ending::Completed) => Late::Completed,
            Self::Complete(Ending::Failed | Ending::None) => Late::Failed,
            Self::Complete(Ending::Cancelled) => Late::Cancelled,
        }
    }

    pub fn from_late(late: Late) -> Option<Self> {
        match late {
            Late::None => None,
            Late::Accept => Some(Self::Accept),
            Late::Upload => Some(Self::Upload),
            Late::Completed => Some(Self::Complete(Ending::Completed)),
            Late::Failed => Some(Self::Complete(Ending::Failed)),
            Late::Cancelled => Some(Self::Complete(Ending::Cancelled)),
        }
    }
}

impl State {
    /// What the Server does with a call. Returns whether it takes it; otherwise the answer is 400.
    pub fn serve(&mut self, agent: usize, task: usize, call: Call) -> bool {
        match call {
            Call::Accept => self.serve_accept(agent, task),
            Call::Upload => {
                // In every state of the task (PROTOCOL 7).
                let count = &mut self.tasks[task].files[agent];
                *count = (*count + 1).min(3);
                true
            }
            Call::Complete(ending) => self.serve_complete(agent, task, ending),
        }
    }

    /// PROTOCOL 1: only a task that is pending.
    fn serve_accept(&mut self, agent: usize, task: usize) -> bool {
        if self.tasks[task].status != Status::Pending {
            return false;
        }
        // A record after the first `accept`, whatever has become of it.
        let had_twin =
            (0..AGENTS).any(|twin| twin != agent && self.held[twin][task].record.phase > Some(Phase::Accepting));
        let on_server = &mut self.tasks[task];
        on_server.status = Status::Running;
        on_server.was_taken_over |= had_twin;
        on_server.owner = agent as u8 + 1;
        true
    }

    /// PROTOCOL 5: only a task that is running or being cancelled, whichever agent of the service has it.
    fn serve_complete(&mut self, agent: usize, task: usize, ending: Ending) -> bool {
        let on_server = &mut self.tasks[task];
        if !matches!(on_server.status, Status::Running | Status::Cancelling) {
            return false;
        }
        on_server.status = match ending {
            Ending::Completed => Status::Completed,
            Ending::Failed | Ending::None => Status::Failed,
            Ending::Cancelled => Status::Cancelled,
        };
        on_server.reporter = agent as u8 + 1;
        true
    }

    /// PROTOCOL 3: the service is offline. After so many retries the Server fails a task.
    pub fn requeue(&mut self, max_retries: u8) {
        for task in &mut self.tasks {
            match task.status {
                Status::Running if task.retries >= max_retries => task.status = Status::Failed,
                Status::Running => {
                    task.status = Status::Pending;
                    task.retries += 1;
                }
                Status::Cancelling => task.status = Status::Cancelled,
                Status::Pending | Status::Completed | Status::Failed | Status::Cancelled => {}
            }
        }
    }

    /// PROTOCOL 2 and 3: the submitter cancels a task.
    pub fn cancel(&mut self, task: usize) {
        let status = &mut self.tasks[task].status;
        *status = match *status {
            Status::Pending => Status::Cancelled,
            Status::Running => Status::Cancelling,
            other => other,
        };
    }

    /// The task whose cancellation every poll names.
    pub fn cancelling(&self) -> Option<usize> {
        self.tasks.iter().position(|task| task.status == Status::Cancelling)
    }

    /// The task that every poll offers: the oldest.
    pub fn offered(&self) -> Option<usize> {
        self.tasks.iter().position(|task| task.status == Status::Pending)
    }
}
