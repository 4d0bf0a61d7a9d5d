//! Questions that may never be answered: a network drive whose server is away holds whoever asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What comes of a question, or `None` where it takes longer than [`LIMIT`]. The thread that a dead drive holds ends
/// with the program, so this is for what is asked a few times.
pub fn with_timeout<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    SingleFlight::default().ask(|_| ask()).ok()
}

/// What a missing answer is called.
pub fn timeout_message() -> String {
    format!("gave no answer within {} s", LIMIT.as_secs())
}

/// A question that is asked again and again: while it is unanswered it isn't asked once more, so that a drive that is
/// away for days holds one thread.
pub struct SingleFlight<T> {
    open: Option<Receiver<T>>,
    about: ProbeLabel,
}

/// Where somebody who asks says what is being looked at.
#[derive(Debug, Clone, Default)]
pub struct ProbeLabel(Arc<Mutex<String>>);

impl ProbeLabel {
    /// From now on it is this.
    pub fn note(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    fn read(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { open: None, about: ProbeLabel::default() }
    }
}

impl<T: Send + 'static> SingleFlight<T> {
    /// The answer, also a late one to the question before. The error is what was being looked at.
    pub fn ask(&mut self, ask: impl FnOnce(&ProbeLabel) -> T + Send + 'static) -> Result<T, String> {
        let answer = match self.open.take() {
            Some(open) => open,
            None => {
                let (done, answer) = bounded(1);
                let about = self.about.clone();
                // Without a thread there is nobody to wait for, and nobody listens any more once this has gone.
                let spawned =
                    thread::Builder::new().name("disk".to_owned()).spawn(move || drop(done.send(ask(&about))));
                spawned.map_err(|error| format!("(no thread: {error})"))?;
                answer
            }
        };
        answer.recv_timeout(LIMIT).map_err(|error| {
            if error == RecvTimeoutError::Timeout {
                self.open = Some(answer);
            }
            self.about.read()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SingleFlight;
    use crossbeam_channel::{bounded, unbounded};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_pending_call_is_not_repeated_and_its_late_result_counts() {
        let (go, wait) = bounded::<()>(0);
        let (begun, begins) = unbounded();
        let asked = Arc::new(AtomicUsize::new(0));
        let mut repeated = SingleFlight::default();
        let question = || {
            let (wait, begun, asked) = (wait.clone(), begun.clone(), Arc::clone(&asked));
            move |about: &super::ProbeLabel| {
                about.note("the drive");
                asked.fetch_add(1, Ordering::Relaxed);
                begun.send(()).unwrap();
                wait.recv().unwrap();
                7
            }
        };
        assert_eq!(repeated.ask(question()), Err("the drive".to_owned()));
        begins.recv().unwrap();
        let answer = std::thread::spawn(move || go.send(()));
        assert_eq!(repeated.ask(question()), Ok(7));
        answer.join().unwrap().unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
