//! Removes containers whose outcome is recorded, beside all else: no result, no report and no other task waits for it. What
//! has come together while the engine removes some is removed by one call.
//!
//! Nothing is lost with the process: a task that isn't settled removes its container itself after a restart, and the
//! health thread those of settled tasks.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::docker::{Docker, DockerError, Status};

/// How many containers one call removes, at most: within its time limit.
const AT_ONCE: usize = 16;
/// How many failed removals are remembered. Of what is beyond that, the health thread removes what is left.
const FAILED_MAX: usize = 1000;

/// A container to remove.
#[derive(Debug, Clone)]
struct Removal {
    name: String,
    /// Another container may have the name by then.
    id: String,
}

/// The removals of one agent.
#[derive(Debug)]
pub struct Removals {
    queue: Sender<Removal>,
    waiting: Arc<Waiting>,
}

/// The names of the containers that are being removed, and how many removals each waits for.
#[derive(Debug, Default)]
struct Waiting {
    names: Mutex<HashMap<String, usize>>,
    changed: Condvar,
    /// The names of containers that couldn't be removed.
    failed: Mutex<HashSet<String>>,
}

impl Removals {
    /// Starts the thread. It ends with the last use of what this returns.
    pub fn start(docker: Docker) -> io::Result<Self> {
        let (queue, removals) = unbounded();
        let waiting = Arc::<Waiting>::default();
        let removals_of_thread = Arc::clone(&waiting);
        let run = move || run(&docker, &removals, &removals_of_thread);
        thread::Builder::new().name("removals".to_owned()).spawn(run)?;
        Ok(Self { queue, waiting })
    }

    /// Has a container removed that has exited, by its id.
    pub fn request(&self, name: &str, id: &str) {
        self.waiting.failed().remove(name);
        *self.waiting.names().entry(name.to_owned()).or_default() += 1;
        let removal = Removal { name: name.to_owned(), id: id.to_owned() };
        if self.queue.send(removal).is_err() {
            // The thread has ended with a panic. What it leaves behind is removed later.
            self.waiting.note_failed(name);
            self.waiting.note_done(name);
        }
    }

    /// Whether a container of this name is being removed.
    pub fn is_waiting(&self, name: &str) -> bool {
        self.waiting.names().contains_key(name)
    }

    /// Whether the removal of this container has failed. That is said once.
    pub fn take_failure(&self, name: &str) -> bool {
        self.waiting.failed().remove(name)
    }

    /// Waits until the container of this name is removed, or couldn't be, but not longer than this.
    pub fn wait_for(&self, name: &str, limit: Duration) {
        self.waiting.wait(limit, |names| !names.contains_key(name));
    }

    /// Waits until none is being removed, but not longer than this.
    pub fn wait_for_all(&self, limit: Duration) {
        self.waiting.wait(limit, HashMap::is_empty);
    }
}

impl Waiting {
    fn names(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, HashSet<String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A settled task never asks for its own.
    fn note_failed(&self, name: &str) {
        let mut failed = self.failed();
        if failed.len() < FAILED_MAX {
            failed.insert(name.to_owned());
        }
    }

    fn note_done(&self, name: &str) {
        let mut names = self.names();
        if let Some(count) = names.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                names.remove(name);
            }
        }
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration, is_over: impl Fn(&HashMap<String, usize>) -> bool) {
        let deadline = Instant::now() + limit;
        let mut names = self.names();
        while !is_over(&names) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            names = self.changed.wait_timeout(names, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn run(docker: &Docker, queue: &Receiver<Removal>, waiting: &Waiting) {
    while let Ok(first) = queue.recv() {
        let batch: Vec<Removal> = [first].into_iter().chain(queue.try_iter().take(AT_ONCE - 1)).collect();
        let ids: Vec<&str> = batch.iter().map(|removal| &*removal.id).collect();
        if let Err(error) = docker.remove_all(&ids) {
            log::debug!("{error}; removing each container by a call of its own");
            for removal in &batch {
                if let Err(error) = remove_one(docker, &removal.id) {
                    log::warn!("the container `{}` can't be removed yet: {error}", removal.name);
                    waiting.note_failed(&removal.name);
                }
            }
        }
        batch.iter().for_each(|removal| waiting.note_done(&removal.name));
    }
}

/// One that is absent, or is being removed by the engine, is no error.
fn remove_one(docker: &Docker, id: &str) -> Result<(), DockerError> {
    match docker.inspect(id)? {
        Some(found) if found.state.status != Status::Removing => docker.remove(id),
        _ => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::Removals;
    use crate::docker::stand_in::stand_in;
    use std::fs;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn containers_that_come_together_are_removed_by_one_call() {
        let dir = tempfile::tempdir().unwrap();
        let calls = dir.path().join("calls");
        let body = format!("echo \"$@\" >> '{0}'; until [ -e '{0}.go' ]; do sleep 0.01; done", calls.display());
        let removals = Removals::start(stand_in(dir.path(), &body)).unwrap();
        removals.request("a", "1");
        while !calls.exists() {
            std::thread::yield_now();
        }
        for (name, id) in [("b", "2"), ("c", "3"), ("b", "4")] {
            removals.request(name, id);
        }
        assert!(removals.is_waiting("a") && removals.is_waiting("b"));
        removals.wait_for_all(Duration::from_millis(10));
        assert!(removals.is_waiting("c"), "the wait is bounded");
        fs::write(dir.path().join("calls.go"), "").unwrap();
        removals.wait_for("b", LONG);
        assert!(!removals.is_waiting("b"));
        removals.wait_for_all(LONG);
        assert_eq!(fs::read_to_string(&calls).unwrap(), "rm -v 1\nrm -v 2 3 4\n");
    }

    #[test]
    fn a_container_that_cannot_be_removed_keeps_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let calls = dir.path().join("calls");
        let exited = r#"{"Id":"bad","State":{"Status":"exited"},"Labels":null}"#;
        let body = format!(
            "echo \"$@\" >> '{}'
            case \"$*\" in inspect*bad) echo '{exited}' ;; inspect*) exit 1 ;; rm*bad*) echo stuck >&2; exit 1 ;; esac",
            calls.display()
        );
        let removals = Removals::start(stand_in(dir.path(), &body)).unwrap();
        removals.request("a", "bad");
        removals.request("b", "2");
        removals.wait_for_all(LONG);
        assert!(!removals.is_waiting("a") && !removals.is_waiting("b"));
        assert_eq!(["a", "b", "a"].map(|name| removals.take_failure(name)), [true, false, false]);
        assert!(fs::read_to_string(&calls).unwrap().contains("rm -v bad\n"));
    }
}
