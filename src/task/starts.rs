//! Whether containers can be started at present, for all workers of an agent.
//!
//! A start that fails because of this machine would fail for each task alike. The first task that it keeps from running
//! fails and names the reason; the others wait until a container of the agent's own has started.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For so long it is believed that the image of this name hides nothing of a workspace. A look costs as much as the end of
/// a task. A container whose end the engine's events tell isn't looked at for that again.
const IMAGE_KNOWN: Duration = Duration::from_secs(10);

/// What the workers know of failed starts.
#[derive(Debug, Default)]
pub struct Starts {
    /// Why no container is started at present.
    trouble: Mutex<Option<String>>,
    /// The image that was last found to hide nothing of a workspace, and when.
    image_seen: Mutex<Option<(String, Instant)>>,
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
    pub fn note_image(&self, image: &str, now: Instant) {
        *self.image_seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((image.to_owned(), now));
    }

    /// Whether this image was found to hide nothing of a workspace a moment ago. A configuration that was read again may
    /// name another one.
    pub fn knows_image(&self, image: &str, now: Instant) -> bool {
        let seen = self.image_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: Instant| now.saturating_duration_since(at) < IMAGE_KNOWN;
        seen.as_ref().is_some_and(|(name, at)| name == image && is_recent(*at))
    }

    /// A container has started.
    pub fn resume(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::{IMAGE_KNOWN, Starts};
    use std::time::Instant;

    #[test]
    fn another_image_is_not_known_by_the_look_at_the_last_one() {
        let (starts, now) = (Starts::default(), Instant::now());
        assert!(!starts.knows_image("a", now));
        starts.note_image("a", now);
        assert!(starts.knows_image("a", now) && !starts.knows_image("b", now));
        assert!(!starts.knows_image("a", now + IMAGE_KNOWN));
        starts.note_image("b", now);
        assert!(starts.knows_image("b", now) && !starts.knows_image("a", now));
    }
}
