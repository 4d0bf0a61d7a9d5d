//! The record of a task on disk: what was offered, how far it is, and how it ended.
//!
//! A record is replaced as a whole (temporary file, fsync, rename), so that whoever reads it after a crash meets the
//! state before or after a step and never a mixture. Whether a worker begins a task or goes on with one after a
//! restart, it reads the record and does what its phase says.

mod discards;
mod reserve;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::platform;
use crate::protocol::{FinalStatus, LeftOut, Task};
use reserve::Reserve;

pub use discards::Discards;

/// How far a task is. Each phase names what has been done and is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The offer is written down, and `accept` may have been sent and may have taken effect.
    Accepting,
    /// The Server has given us the task.
    Accepted,
    /// The workspace is complete; the container may exist.
    Prepared,
    /// How the task ended is written down; the container isn't needed any more.
    Exited,
    /// Every result that can be delivered is on the Server.
    Uploaded,
    /// The Server knows the end.
    Settled,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepting => "accepting",
            Self::Accepted => "accepted",
            Self::Prepared => "prepared",
            Self::Exited => "exited",
            Self::Uploaded => "uploaded",
            Self::Settled => "settled",
        })
    }
}

/// Why a task is being stopped. Written down before the container is, so that a crash in between doesn't change
/// what the task's end is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// It ran longer than `executor.timeout_minutes`.
    Timeout {
        /// The limit at that time.
        minutes: u64,
    },
    /// It printed nothing for `executor.idle_timeout_minutes`.
    Idle {
        /// The limit at that time.
        minutes: u64,
    },
    /// The Server asked for it.
    Cancel,
    /// Somebody on this machine asked for it, with `stop --abort`.
    Operator,
}

/// A process that must be found again after a crash of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id, which is its group's too.
    pub id: u32,
    /// When it started, in the system's words: tells it from a later process of the same id.
    pub started: Option<String>,
}

/// How a task ended, whether or not the Server knows it yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// What the Server is told.
    pub status: FinalStatus,
    /// The container's exit status, where there was one.
    pub exit_code: Option<i32>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// Seconds between the container's start and its exit.
    pub duration_secs: f64,
    /// When it ended.
    pub at: Timestamp,
}

/// Everything about a task that must survive a crash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The offer, whole.
    pub task: Task,
    /// The service for which the task was taken: after a re-registration its work is not sent to another.
    pub service_id: String,
    /// The Server from which it came.
    pub base_url: String,
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    #[serde(default)]
    pub phase_since: Option<Timestamp>,
    /// When it was offered.
    pub offered_at: Timestamp,
    /// The client that may still be making or starting the container.
    #[serde(default)]
    pub client: Option<Process>,
    /// Whether a container that was made and never started is being removed, to be made again.
    #[serde(default)]
    pub replacing: bool,
    /// Why it is being stopped, if it is.
    #[serde(default)]
    pub stop: Option<StopReason>,
    /// How it ended, from [`Phase::Exited`] on.
    #[serde(default)]
    pub ending: Option<Ending>,
    /// Whether a report whose answer we never saw may have arrived.
    #[serde(default)]
    pub report_in_doubt: bool,
    /// Whether the ledger doesn't tell yet what became of a report.
    #[serde(default)]
    pub report_open: bool,
    /// Whether something is here that the task wrote for the Server and that the Server doesn't have: such a workspace
    /// isn't removed to make room.
    #[serde(default)]
    pub kept_back: bool,
    /// That the operator has given its result up, and what came of telling the Server.
    #[serde(default)]
    pub discarded: Option<Discarded>,
    /// What only the engine could read of the results and was brought here, once that is done.
    #[serde(default)]
    pub fetched: Option<Vec<Fetched>>,
    /// Whether the container is known to be gone.
    #[serde(default)]
    pub container_removed: bool,
    /// When the Server knew, from [`Phase::Settled`] on.
    #[serde(default)]
    pub settled_at: Option<Timestamp>,
}

/// A result that the operator has given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discarded {
    /// Why the Server wasn't told, if it wasn't.
    pub untold: Option<String>,
}

/// A result that was fetched from the container, since our uid may not read it where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The name on the Server.
    pub file: String,
    /// Its number, and its file name in [`TaskFiles::fetched_dir`].
    pub number: usize,
}

impl Record {
    /// A record of an offer that nobody has accepted yet.
    pub fn of_offer(task: Task, service_id: &str, base_url: &str) -> Self {
        Self {
            task,
            service_id: service_id.to_owned(),
            base_url: base_url.to_owned(),
            phase: Phase::Accepting,
            phase_since: Some(Timestamp::now()),
            offered_at: Timestamp::now(),
            client: None,
            replacing: false,
            stop: None,
            ending: None,
            report_in_doubt: false,
            report_open: false,
            kept_back: false,
            discarded: None,
            fetched: None,
            container_removed: false,
            settled_at: None,
        }
    }

    /// Notes how far it is now.
    pub fn enter(&mut self, phase: Phase) {
        if self.phase != phase {
            self.phase = phase;
            self.phase_since = Some(Timestamp::now());
        }
    }
}

/// A task's name in files and containers: the Server's id where that is harmless, else a safe spelling of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey(String);

/// The longest key: with a prefix it is still a file name and a container name.
const KEY_MAX: usize = 128;

impl TaskKey {
    /// The key of an id, or `None` for an id that is empty or too long to be one.
    ///
    /// Two ids never share a key: plain ids begin with a letter or digit, spelled-out ones with an underscore.
    pub fn of(id: &str) -> Option<Self> {
        let key = if is_plain(id) { id.to_owned() } else { spell_out(id) };
        (!id.is_empty() && key.len() <= KEY_MAX).then_some(Self(key))
    }

    /// Reads a key back from a container's or folder's name.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        (allowed && !text.is_empty() && !text.starts_with(['.', '-']) && text.len() <= KEY_MAX)
            .then(|| Self(text.to_owned()))
    }

    /// The text, made of `A-Z a-z 0-9 _ . -`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(id: &str) -> bool {
    let allowed = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let begins_well = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    // Windows drops dots at a name's end and takes some names for devices, with any extension.
    let stem = id.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4 && (stem.starts_with("COM") || stem.starts_with("LPT")));
    allowed && begins_well && !id.ends_with('.') && !device
}

fn spell_out(id: &str) -> String {
    let mut key = "_".to_owned();
    for byte in id.bytes().take(KEY_MAX + 1) {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            key.push(char::from(byte));
        } else {
            key.push_str(&format!("_{byte:02x}"));
        }
    }
    key
}

/// A line of `uploads.jsonl`: what was sent, is being sent, or will not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum UploadEvent {
    /// The files that the Server had for this task before our first upload; none of them is ours.
    Before {
        /// Their ids.
        ids: Vec<String>,
    },
    /// An upload begins. Without a [`UploadEvent::Done`] after it, it may or may not have arrived; without anything
    /// after it, the ledger doesn't tell yet what became of it.
    Begin {
        /// The name on the Server.
        file: String,
        /// Bytes.
        size: u64,
        /// When.
        #[serde(default)]
        at: Option<Timestamp>,
    },
    /// The ledger tells of an attempt that may or may not have arrived.
    Told {
        /// The name on the Server.
        file: String,
    },
    /// An attempt that didn't arrive although the Server could be reached.
    Failed {
        /// The name on the Server.
        file: String,
    },
    /// A file is on the Server.
    Done {
        /// The name on the Server.
        file: String,
        /// Bytes.
        size: u64,
        /// The Server's id of it.
        file_id: String,
    },
    /// A file stays here.
    LeftOut(LeftOut),
    /// So many more stay here and aren't named.
    Unnamed {
        /// How many.
        count: u64,
    },
}

/// The folder of one task's record and logs.
#[derive(Debug, Clone)]
pub struct TaskFiles {
    dir: PathBuf,
    key: TaskKey,
}

impl TaskFiles {
    /// The task's key.
    pub fn key(&self) -> &TaskKey {
        &self.key
    }

    /// What the container printed on its standard output.
    pub fn stdout(&self) -> PathBuf {
        self.dir.join("stdout.log")
    }

    /// What it printed on its standard error, and docker's own words if it never started.
    pub fn stderr(&self) -> PathBuf {
        self.dir.join("stderr.log")
    }

    /// Where docker writes the container's id.
    pub fn cid(&self) -> PathBuf {
        self.dir.join("cid")
    }

    /// Where an input file lies until it is whole.
    pub fn partial_download(&self) -> PathBuf {
        self.dir.join("download.part")
    }

    /// The folder of what was fetched from the container, each file under its number.
    pub fn fetched_dir(&self) -> PathBuf {
        self.dir.join("fetched")
    }

    /// Removes what was fetched from the container.
    pub fn remove_fetched(&self) -> io::Result<()> {
        ignore_missing(fs::remove_dir_all(self.fetched_dir()))
    }

    /// The variables of the container's environment that stand in no command line, as docker's `--env-file` reads them.
    pub fn env(&self) -> PathBuf {
        self.dir.join("env")
    }

    /// Writes [`TaskFiles::env`], readable by its owner only. The names and values must be such as the file can hold.
    pub fn save_env<'v>(&self, variables: impl IntoIterator<Item = (&'v str, &'v str)>) -> io::Result<()> {
        let mut file = File::create(self.env())?;
        platform::hide_file(&file)?;
        let lines = variables.into_iter().map(|(name, value)| format!("{name}={value}\n"));
        file.write_all(lines.collect::<String>().as_bytes())
    }

    /// Writes the command that a person can run again by hand.
    pub fn save_command(&self, line: &str) -> io::Result<()> {
        let mut file = File::create(self.dir.join("command.sh"))?;
        platform::hide_file(&file)?;
        writeln!(file, "#!/bin/sh\n# Runs this task's container again, in the same workspace.\n{line}")
    }

    /// Replaces the record in one step. Where the disk is full, the room that was kept for it is used.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        let temporary = self.dir.join("record.json.tmp");
        self.reserve().write(|| {
            let mut file = File::create(&temporary)?;
            platform::hide_file(&file)?;
            file.write_all(&text)?;
            file.sync_all()
        })?;
        // Before the rename, so that no crash leaves it to a task that needs nothing any more.
        if record.phase == Phase::Settled {
            if let Err(error) = self.reserve().remove() {
                log::warn!("task {}: the room that was kept for its record isn't free yet: {error}", self.key);
            }
        }
        fs::rename(&temporary, self.dir.join("record.json"))?;
        platform::sync_dir(&self.dir)
    }

    /// Reads the record, or `None` if there is none.
    pub fn load(&self) -> io::Result<Option<Record>> {
        let text = match fs::read(self.dir.join("record.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let record: Record = serde_json::from_slice(&text)?;
        if TaskKey::of(&record.task.id).as_ref() != Some(&self.key) {
            // Names that differ only in case are one file on some systems.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the record is another task's"));
        }
        Ok(Some(record))
    }

    /// Appends lines to `uploads.jsonl` and returns when they are on the disk.
    pub fn note_uploads(&self, events: &[UploadEvent]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        let path = self.dir.join("uploads.jsonl");
        self.reserve().write(|| {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            platform::hide_file(&file)?;
            let whole = file.metadata()?.len();
            let written = file.write_all(&lines).and_then(|()| file.sync_data());
            if written.is_err() {
                // Whoever comes next must not be glued to half a line.
                file.set_len(whole)?;
            }
            written
        })
    }

    /// Writes something about the task that lies elsewhere, and where the disk is full with the room that was kept for
    /// the task. What a failed try has written must not matter to the next.
    pub fn write_elsewhere(&self, write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        self.reserve().write(write)
    }

    fn reserve(&self) -> Reserve {
        Reserve::of(&self.dir)
    }

    /// All lines of `uploads.jsonl`. A last line that a crash cut off counts as not written, and is removed. For the
    /// agent that holds the data_dir.
    pub fn uploads(&self) -> io::Result<Vec<UploadEvent>> {
        let (events, cut) = self.read_uploads()?;
        if let Some(whole) = cut {
            // The next line would be glued to it.
            OpenOptions::new().write(true).open(self.dir.join("uploads.jsonl"))?.set_len(whole)?;
        }
        Ok(events)
    }

    /// The same for somebody else, who changes nothing: a last line that isn't whole is just being written.
    pub fn look_at_uploads(&self) -> io::Result<Vec<UploadEvent>> {
        self.read_uploads().map(|(events, _)| events)
    }

    /// The whole lines, and how long they are where half a line follows.
    fn read_uploads(&self) -> io::Result<(Vec<UploadEvent>, Option<u64>)> {
        let file = match File::open(self.dir.join("uploads.jsonl")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
            Err(error) => return Err(error),
        };
        let mut events = Vec::new();
        let mut reader = BufReader::new(file);
        let (mut line, mut whole) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.last() != Some(&b'\n') {
                return Ok((events, Some(whole)));
            }
            whole += line.len() as u64;
            events.push(serde_json::from_slice(&line)?);
            line.clear();
        }
        Ok((events, None))
    }
}

/// All tasks of a data_dir.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in `{data_dir}/tasks`, made if it isn't there.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("tasks");
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// The files of a task, whether or not they exist.
    pub fn task(&self, key: &TaskKey) -> TaskFiles {
        TaskFiles { dir: self.root.join(key.as_str()), key: key.clone() }
    }

    /// Makes the folder of a task, writes its first record and takes the room that the later ones may need.
    pub fn create(&self, key: &TaskKey, record: &Record) -> io::Result<TaskFiles> {
        let files = self.task(key);
        // A crash in the middle of a removal may have left parts of an earlier task of this name.
        self.remove(key)?;
        fs::create_dir_all(&files.dir)?;
        files.save(record)?;
        files.reserve().make()?;
        platform::sync_dir(&self.root)?;
        Ok(files)
    }

    /// Forgets a task altogether.
    pub fn remove(&self, key: &TaskKey) -> io::Result<()> {
        ignore_missing(fs::remove_dir_all(self.root.join(key.as_str())))
    }

    /// Removes what a crash has left of records that were never written whole: the offer is on the disk before the
    /// Server is asked for the task, so nobody waits for these. For the agent that holds the data_dir.
    pub fn remove_unwritten(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let dir = entry?.path();
            if !dir.is_dir() || dir.join("record.json").exists() {
                continue;
            }
            // A folder that holds anything else stays as it is.
            let removed =
                ignore_missing(fs::remove_file(dir.join("record.json.tmp"))).and_then(|()| fs::remove_dir(&dir));
            if let Err(error) = removed {
                log::warn!("`{}` holds no record and can't be removed: {error}", dir.display());
            }
        }
        Ok(())
    }

    /// Reads every record, one after the other, and returns what `take` wants of them: settled tasks may be many, and
    /// their offers large.
    pub fn load_all<T>(&self, mut take: impl FnMut(TaskFiles, Record) -> Option<T>) -> io::Result<Loaded<T>> {
        let (mut taken, mut broken) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.root)? {
            let dir = entry?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(key) = TaskKey::parse(&name) else { continue };
            let files = TaskFiles { dir: dir.clone(), key };
            match files.load() {
                Ok(Some(record)) => taken.extend(take(files, record)),
                Ok(None) => {}
                Err(error) => broken.push((dir, error)),
            }
        }
        Ok(Loaded { taken, broken })
    }
}

fn ignore_missing(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What [`Store::load_all`] found.
pub struct Loaded<T> {
    /// What was taken of the records, in no order.
    pub taken: Vec<T>,
    /// Folders whose record can't be read, and why.
    pub broken: Vec<(PathBuf, io::Error)>,
}

#[cfg(test)]
mod tests {
    use super::{Phase, Record, StopReason, Store, TaskKey, UploadEvent};
    use crate::protocol::Task;
    use std::collections::HashSet;
    use std::fs;

    fn task(id: &str) -> Task {
        Task {
            id: id.to_owned(),
            task_prompt: "p".to_owned(),
            output_prompt: None,
            session_id: None,
            input_files: vec![],
        }
    }

    #[test]
    fn harmless_ids_are_their_own_keys_and_no_two_ids_share_one() {
        let ids =
            ["t1", "A.b-c_9", "_t1", "t 1", "t_201", "../x", "..", "NUL", "nul.txt", "com1", "t1.", "t/1", "ü", "-v"];
        let keys: Vec<String> = ids.iter().map(|id| TaskKey::of(id).unwrap().as_str().to_owned()).collect();
        assert_eq!(keys[..2], ["t1", "A.b-c_9"]);
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), ids.len(), "{keys:?}");
        for key in &keys {
            assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)), "{key}");
            assert!(!key.starts_with(['.', '-']) && !key.ends_with('.'), "{key}");
        }
    }

    #[test]
    fn ids_that_are_no_names_have_no_key() {
        assert!(TaskKey::of("").is_none());
        assert!(TaskKey::of(&"x".repeat(129)).is_none());
        assert!(TaskKey::of(&"/".repeat(10_000_000)).is_none());
        assert!(TaskKey::of(&"x".repeat(128)).is_some());
    }

    #[test]
    fn a_record_that_was_never_written_whole_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let whole = Record::of_offer(task("whole"), "s", "http://h");
        store.create(&TaskKey::of("whole").unwrap(), &whole).unwrap();
        for (key, file) in [("whole", "record.json.tmp"), ("half", "record.json.tmp"), ("other", "stdout.log")] {
            fs::create_dir_all(dir.path().join("tasks").join(key)).unwrap();
            fs::write(dir.path().join("tasks").join(key).join(file), "{").unwrap();
        }
        fs::create_dir(dir.path().join("tasks/empty")).unwrap();
        store.remove_unwritten().unwrap();
        let left = fs::read_dir(dir.path().join("tasks")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<HashSet<_>>(), HashSet::from(["whole".into(), "other".into()]));
        assert_eq!(store.load_all(|_, record| Some(record)).unwrap().taken.len(), 1);
    }

    #[test]
    fn a_record_survives_a_round_and_is_replaced_in_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let key = TaskKey::of("t/1").unwrap();
        let mut record = Record::of_offer(task("t/1"), "s", "http://x");
        let files = store.create(&key, &record).unwrap();
        record.phase = Phase::Prepared;
        record.stop = Some(StopReason::Timeout { minutes: 3 });
        files.save(&record).unwrap();
        let loaded = store.load_all(|_, record| Some(record)).unwrap();
        assert!(loaded.broken.is_empty());
        assert_eq!(format!("{:?}", loaded.taken[0]), format!("{record:?}"));
    }

    #[test]
    fn a_broken_record_is_named_and_an_empty_folder_is_no_task() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join("tasks/empty")).unwrap();
        fs::create_dir(dir.path().join("tasks/broken")).unwrap();
        fs::write(dir.path().join("tasks/broken/record.json"), "{\"pha").unwrap();
        let loaded = store.load_all(|_, record| Some(record)).unwrap();
        assert!(loaded.taken.is_empty());
        assert_eq!((loaded.broken.len(), &loaded.broken[0].0), (1, &dir.path().join("tasks/broken")));
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_dropped_and_the_next_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let files = store.create(&TaskKey::of("t").unwrap(), &Record::of_offer(task("t"), "s", "u")).unwrap();
        let begin = UploadEvent::Begin { file: "a".to_owned(), size: 1, at: None };
        files.note_uploads(std::slice::from_ref(&begin)).unwrap();
        let path = dir.path().join("tasks/t/uploads.jsonl");
        let cut = fs::read_to_string(&path).unwrap() + "{\"event\":\"do";
        fs::write(&path, &cut).unwrap();
        assert_eq!(files.look_at_uploads().unwrap(), std::slice::from_ref(&begin));
        assert_eq!(fs::read_to_string(&path).unwrap(), cut, "who only looks doesn't cut into the writer's line");
        assert_eq!(files.uploads().unwrap(), std::slice::from_ref(&begin));
        files.note_uploads(std::slice::from_ref(&begin)).unwrap();
        assert_eq!(files.uploads().unwrap(), [begin.clone(), begin]);
    }
}
