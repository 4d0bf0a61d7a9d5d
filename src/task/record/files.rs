//! The files of one task beside its workspace: the record, what was sent, what the container printed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::reserve::Reserve;
use super::{Phase, Record, TaskKey, UploadEvent};
use crate::os::files::{Durability, Replacement, ignore_missing};
use crate::os::platform;

/// The folder of one task's record and logs.
#[derive(Debug, Clone)]
pub struct TaskFiles {
    dir: PathBuf,
    key: TaskKey,
}

impl TaskFiles {
    /// The files of a task in its folder, whether or not they exist.
    pub(super) fn in_dir(dir: PathBuf, key: TaskKey) -> Self {
        Self { dir, key }
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

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

    /// Whether docker has written the container's id: the file is created first, and filled when the container exists.
    pub fn has_cid(&self) -> bool {
        fs::metadata(self.cid()).is_ok_and(|meta| meta.len() > 0)
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
        platform::make_private(&file)?;
        let lines = variables.into_iter().map(|(name, value)| format!("{name}={value}\n"));
        file.write_all(lines.collect::<String>().as_bytes())
    }

    /// Writes the command that a person can run again by hand.
    pub fn save_command(&self, line: &str) -> io::Result<()> {
        let mut file = File::create(self.dir.join("command.sh"))?;
        platform::make_private(&file)?;
        writeln!(file, "#!/bin/sh\n# Runs this task's container again, in the same workspace.\n{line}")
    }

    /// Replaces the record in one step. Where the disk is full, the room that was kept for it is used.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        let path = self.dir.join("record.json");
        let replacement = self.reserve().write(|| Replacement::write(&path, &text, Durability::PowerCut))?;
        // Before the record is replaced, so that a crash in between can't leave the reserve to a settled task.
        if record.phase == Phase::Settled {
            if let Err(error) = self.reserve().remove() {
                log::warn!(task:% = self.key; "the room that was kept for its record isn't free yet: {error}");
            }
        }
        replacement.commit()
    }

    /// Reads the record, or `None` if there is none.
    pub fn load(&self) -> io::Result<Option<Record>> {
        let text = match fs::read(self.dir.join("record.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let record: Record = serde_json::from_slice(&text)?;
        if TaskKey::from_id(&record.task.id).as_ref() != Some(&self.key) {
            // Names that differ only in case are one file on some systems.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the record is another task's"));
        }
        Ok(Some(record))
    }

    /// Appends lines to `uploads.jsonl` and returns when they are on the disk.
    pub fn append_uploads(&self, events: &[UploadEvent]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        let path = self.dir.join("uploads.jsonl");
        self.reserve().write(|| {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            platform::make_private(&file)?;
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
    pub fn with_reserve(&self, write: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        self.reserve().write(write)
    }

    pub(super) fn reserve(&self) -> Reserve {
        Reserve::new(&self.dir)
    }

    /// All lines of `uploads.jsonl`. A last line that a crash cut off counts as not written, and is removed. For the
    /// agent that holds the data_dir.
    pub fn load_uploads(&self) -> io::Result<Vec<UploadEvent>> {
        let (events, cut) = self.parse_uploads()?;
        if let Some(whole) = cut {
            // The next line would be glued to it.
            OpenOptions::new().write(true).open(self.dir.join("uploads.jsonl"))?.set_len(whole)?;
        }
        Ok(events)
    }

    /// The same for somebody else, who changes nothing: a last line that isn't whole is just being written.
    pub fn read_uploads(&self) -> io::Result<Vec<UploadEvent>> {
        self.parse_uploads().map(|(events, _)| events)
    }

    /// The whole lines, and how long they are where half a line follows.
    fn parse_uploads(&self) -> io::Result<(Vec<UploadEvent>, Option<u64>)> {
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

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::{Record, TaskKey, UploadEvent};
    use crate::data_dir::DataDir;
    use crate::server::protocol::Task;
    use std::fs;

    fn task(id: &str) -> Task {
        Task { id: id.to_owned(), task_prompt: "p".to_owned(), ..Task::default() }
    }

    #[test]
    fn a_line_truncated_by_a_crash_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let files = store.create(&TaskKey::from_id("t").unwrap(), &Record::from_offer(task("t"), "s", "u")).unwrap();
        let begin = UploadEvent::Begin { file: "a".to_owned(), size: 1, at: None };
        files.append_uploads(std::slice::from_ref(&begin)).unwrap();
        let path = dir.path().join("tasks/t/uploads.jsonl");
        let cut = fs::read_to_string(&path).unwrap() + "{\"event\":\"do";
        fs::write(&path, &cut).unwrap();
        assert_eq!(files.read_uploads().unwrap(), std::slice::from_ref(&begin));
        assert_eq!(fs::read_to_string(&path).unwrap(), cut, "who only looks doesn't cut into the writer's line");
        assert_eq!(files.load_uploads().unwrap(), std::slice::from_ref(&begin));
        files.append_uploads(std::slice::from_ref(&begin)).unwrap();
        assert_eq!(files.load_uploads().unwrap(), [begin.clone(), begin]);
    }
}
