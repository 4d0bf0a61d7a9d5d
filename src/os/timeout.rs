//! Calls that may block forever, such as `stat` on a dead network mount, run on a helper thread with a time limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

/// The time limit of a call.
const LIMIT: Duration = Duration::from_secs(10);

/// The result of a call, or `None` after the time limit. A blocked thread lasts until the program's end, so this is for
/// calls that are made a few times only.
pub fn with_timeout<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    SingleFlight::default().run(|_| call()).ok()
}

/// The words for a call that reached the time limit.
pub fn timeout_message() -> String {
    format!("gave no answer within {} s", LIMIT.as_secs())
}

/// Why a call has no result.
#[derive(Debug, PartialEq, Eq)]
pub enum NoResult {
    /// It reached the time limit. The label at that moment.
    TooLate(String),
    /// This machine has no thread for it, in the system's words.
    NoThread(String),
}

/// A call that is repeated, but never made twice at the same time, so that a drive that is dead for days blocks one thread.
pub struct SingleFlight<T> {
    /// The result of a call that reached the time limit.
    pending: Option<Receiver<T>>,
    label: ProbeLabel,
}

/// A label for the path being checked, so that a timeout can name it.
#[derive(Debug, Clone, Default)]
pub struct ProbeLabel(Arc<Mutex<String>>);

impl ProbeLabel {
    /// Replaces the label.
    pub fn set(&self, label: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = label.into();
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { pending: None, label: ProbeLabel::default() }
    }
}

impl<T: Send + 'static> SingleFlight<T> {
    /// Waits up to the time limit for the result. A late result of the previous call counts.
    pub fn run(&mut self, call: impl FnOnce(&ProbeLabel) -> T + Send + 'static) -> Result<T, NoResult> {
        let result = match self.pending.take() {
            Some(pending) => pending,
            None => {
                let (sender, result) = bounded(1);
                let label = self.label.clone();
                // A send error means that the receiver has given up; ignore it.
                let spawned =
                    thread::Builder::new().name("disk".to_owned()).spawn(move || drop(sender.send(call(&label))));
                spawned.map_err(|error| NoResult::NoThread(error.to_string()))?;
                result
            }
        };
        result.recv_timeout(LIMIT).map_err(|error| {
            if error == RecvTimeoutError::Timeout {
                self.pending = Some(result);
            }
            NoResult::TooLate(self.label.get())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{NoResult, SingleFlight};
    use crossbeam_channel::{bounded, unbounded};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_blocked_call_is_not_repeated_and_its_late_result_counts() {
        let (go, wait) = bounded::<()>(0);
        let (begun, begins) = unbounded();
        let count = Arc::new(AtomicUsize::new(0));
        let mut flight = SingleFlight::default();
        let call = || {
            let (wait, begun, count) = (wait.clone(), begun.clone(), Arc::clone(&count));
            move |label: &super::ProbeLabel| {
                label.set("the drive");
                count.fetch_add(1, Ordering::Relaxed);
                begun.send(()).unwrap();
                wait.recv().unwrap();
                7
            }
        };
        assert_eq!(flight.run(call()), Err(NoResult::TooLate("the drive".to_owned())));
        begins.recv().unwrap();
        let late = std::thread::spawn(move || go.send(()));
        assert_eq!(flight.run(call()), Ok(7));
        late.join().unwrap().unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
