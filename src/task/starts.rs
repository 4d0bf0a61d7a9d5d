//! Whether containers can be started at present, for all workers of an agent.
//!
//! A start that fails because of this machine would fail for each task alike. The first task that it keeps from running
//! fails and names the reason; the others wait until a container of the agent's own has started.

use std::sync::{Mutex, PoisonError};

/// What the workers know of failed starts.
#[derive(Debug, Default)]
pub struct Starts {
    /// Why no container is started at present.
    trouble: Mutex<Option<String>>,
}

impl Starts {
    /// Why no container is to be started now.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No container is started until [`Starts::resume`]. Returns whether that is new.
    pub fn suspend(&self, why: &str) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = trouble.is_none();
        trouble.get_or_insert_with(|| why.to_owned());
        is_new
    }

    /// A container has started.
    pub fn resume(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
