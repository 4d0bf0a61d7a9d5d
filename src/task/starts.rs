//! Whether containers can be started at present, for all workers of an agent.
//!
//! A start that fails because of this machine would fail for each task alike. The first task that it keeps from running
//! fails and names the reason; the others wait until a container of the agent's own has started.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For so long it is believed that the image hides nothing of a workspace. A look costs as much as the end of a task, and
/// whether it was so after all is seen at each container's end.
const IMAGE_KNOWN: Duration = Duration::from_secs(10);

/// What the workers know of failed starts.
#[derive(Debug, Default)]
pub struct Starts {
    /// Why no container is started at present.
    trouble: Mutex<Option<String>>,
    /// When the image was last found to hide nothing of a workspace.
    image_seen: Mutex<Option<Instant>>,
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

    /// The image hides nothing of a workspace.
    pub fn note_image(&self, now: Instant) {
        *self.image_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// Whether the image was found to hide nothing of a workspace a moment ago.
    pub fn knows_image(&self, now: Instant) -> bool {
        let seen = *self.image_seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_some_and(|at| now.saturating_duration_since(at) < IMAGE_KNOWN)
    }

    /// A container has started.
    pub fn resume(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
