//! Waiting for another process.

use std::thread;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(50);

/// Calls `look` until it returns a value; `None` after the time limit.
pub fn wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        thread::sleep(LOOK);
    }
}
