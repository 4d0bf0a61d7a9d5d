//! Watches a folder for files that other users could open, even if only for a moment.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Notes each file and folder below a folder that other users have rights on, and each whose mode is changed: what is
/// closed after its creation was open in between, also where a look at it comes too late.
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Watcher {
    /// Starts to watch. Paths for which `is_public` holds may be open.
    pub fn start(root: &Path, is_public: fn(&Path) -> bool) -> Self {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).expect("watch files");
        let mut watch = Watch { inotify, folders: HashMap::new(), root: root.to_owned(), is_public, found: Vec::new() };
        watch.add(root);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            loop {
                let is_last = stopped.load(Ordering::SeqCst);
                while watch.read_events() {}
                if is_last {
                    return watch.found;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, thread }
    }

    /// Fails the test if something was open to other users.
    pub fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        let found = self.thread.join().expect("the watcher ends");
        assert!(found.is_empty(), "open to other users for a moment:\n{}", found.join("\n"));
    }
}

struct Watch {
    inotify: Inotify,
    folders: HashMap<WatchDescriptor, PathBuf>,
    root: PathBuf,
    is_public: fn(&Path) -> bool,
    found: Vec<String>,
}

impl Watch {
    /// Watches a folder and those in it. What was made before the watch began is looked at.
    fn add(&mut self, folder: &Path) {
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW;
        let Ok(descriptor) = self.inotify.add_watch(folder, events) else { return };
        self.folders.insert(descriptor, folder.to_owned());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            self.look(&entry.path(), "there");
        }
    }

    /// Returns whether there may be more.
    fn read_events(&mut self) -> bool {
        let events = match self.inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN) => return false,
            Err(error) => panic!("the watch broke off: {error}"),
        };
        for event in events {
            assert!(!event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW), "the watcher was too slow");
            let (Some(folder), Some(name)) = (self.folders.get(&event.wd), event.name) else { continue };
            let path = folder.join(name);
            let is_change = event.mask.contains(AddWatchFlags::IN_ATTRIB);
            if is_change && !self.is_public(&path) {
                self.note(&path, "its mode was changed after its creation");
            }
            self.look(&path, if is_change { "changed" } else { "made" });
        }
        true
    }

    fn look(&mut self, path: &Path, when: &str) {
        let Ok(metadata) = fs::symlink_metadata(path) else { return };
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 && !metadata.is_symlink() && !self.is_public(path) {
            self.note(path, &format!("{when} with mode {mode:o}"));
        }
        if metadata.is_dir() {
            self.add(path);
        }
    }

    fn is_public(&self, path: &Path) -> bool {
        path.strip_prefix(&self.root).is_ok_and(self.is_public)
    }

    fn note(&mut self, path: &Path, what: &str) {
        self.found.push(format!("{}: {what}", path.display()));
    }
}
