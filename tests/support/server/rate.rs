//! The Server's rate limit: a sliding window over the calls of each key.

use super::options::RateLimit;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

/// The times of each key's calls within the window.
#[derive(Default)]
pub struct Windows(HashMap<String, VecDeque<Instant>>);

impl Windows {
    /// True if the call is allowed. A refused call isn't counted.
    pub fn admit(&mut self, key: &str, now: Instant, limit: &RateLimit) -> bool {
        let calls = self.0.entry(key.to_owned()).or_default();
        while calls.front().is_some_and(|&at| now.saturating_duration_since(at) >= limit.window) {
            calls.pop_front();
        }
        if calls.len() >= limit.calls {
            return false;
        }
        calls.push_back(now);
        true
    }
}
