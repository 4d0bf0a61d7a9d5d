//! The times at which containers make files in a folder that they share with this process.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::docker::wait_until;

/// How often the watch looks whether it should end, in milliseconds. It wakes up for a file at once.
const LOOK_FOR_END: u8 = 50;

/// Notes when each file of a folder appears.
pub struct Marks {
    seen: Arc<Mutex<HashMap<String, Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Marks {
    /// Watches a folder, which must exist, from now on.
    pub fn watch(folder: &Path) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).expect("watch files");
        inotify.add_watch(folder, AddWatchFlags::IN_CREATE).expect("watch the folder");
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (noted, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let mut wanted = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
                // Whether there are events is seen below.
                let _ = poll(&mut wanted, LOOK_FOR_END);
                match inotify.read_events() {
                    Ok(events) => {
                        let now = Instant::now();
                        let mut noted = noted.lock().expect("no thread panics with this lock");
                        let names = events.into_iter().filter_map(|event| event.name);
                        noted.extend(names.map(|name| (name.to_string_lossy().into_owned(), now)));
                    }
                    Err(Errno::EAGAIN) => {}
                    Err(error) => panic!("the watch broke off: {error}"),
                }
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// When this file appeared; waits for it, and fails after a minute.
    pub fn at(&self, name: &str) -> Instant {
        let mut at = None;
        wait_until(&format!("the file `{name}`"), Duration::from_secs(60), || {
            at = self.seen.lock().expect("no thread panics with this lock").get(name).copied();
            at.is_some()
        });
        at.expect("it was seen")
    }

    /// The number of files so far whose name begins so.
    pub fn count(&self, prefix: &str) -> usize {
        let seen = self.seen.lock().expect("no thread panics with this lock");
        seen.keys().filter(|name| name.starts_with(prefix)).count()
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It ends by itself, or has said why it couldn't.
            let _ = thread.join();
        }
    }
}
