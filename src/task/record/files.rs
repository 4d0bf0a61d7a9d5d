//! The files of one task beside its workspace: the record, the uploads, the container's output.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::reserve::{TaskReserve, Waiting};
use super::{Phase, Record, TaskKey};
use crate::docker::is_id;
use crate::os::digest::fnv;
use crate::os::files::{
    self, Durability, Replacement, create, if_exists, ignore_missing, is_full, open_existing, remove_if_exists,
};
use crate::os::process::read_tail;
use crate::server::protocol::Task;

/// The size from which a record is large: it has an offer in it.
const LARGE_RECORD: u64 = 64 * 1024;
/// How much of an output is kept where the disk is nearly full, and the most that is written before it.
const KEPT_OUTPUT: u64 = 64 * 1024;
const CUT_NOTE: u64 = 128;

/// The folder of one task's record and logs. Its files may or may not exist.
#[derive(Debug, Clone)]
pub struct TaskFiles {
    pub(super) dir: PathBuf,
    pub(super) key: TaskKey,
}

impl TaskFiles {
    pub fn key(&self) -> &TaskKey {
        &self.key
    }

    /// The container's standard output.
    pub fn stdout(&self) -> PathBuf {
        self.dir.join("stdout.log")
    }

    /// The container's standard error, or docker's if the container never started.
    pub fn stderr(&self) -> PathBuf {
        self.dir.join("stderr.log")
    }

    /// The file that docker writes the container's id to.
    pub fn cid(&self) -> PathBuf {
        self.dir.join("cid")
    }

    /// Whether docker has written the container's id: the file is created first, and filled when the container exists.
    pub fn has_cid(&self) -> bool {
        fs::metadata(self.cid()).is_ok_and(|meta| meta.len() > 0)
    }

    /// The container's id, if docker has written it.
    pub fn load_cid(&self) -> Option<String> {
        fs::read_to_string(self.cid()).ok().map(|id| id.trim().to_owned()).filter(|id| is_id(id))
    }

    /// An input file until its download is complete.
    pub fn partial_download(&self) -> PathBuf {
        self.dir.join("download.part")
    }

    /// The folder of the files that the agent adds to the results.
    pub fn notes_dir(&self) -> PathBuf {
        self.dir.join("notes")
    }

    /// The folder of the archive that is sent.
    pub fn archives_dir(&self) -> PathBuf {
        self.dir.join("archives")
    }

    /// Removes what a settled task needs no more: the notes, an archive of its results, and the engine's copies of the output that a crash has left.
    pub fn remove_leftovers(&self) {
        let copies = [self.stdout(), self.stderr()].map(|log| log.with_extension("copy"));
        let removed = copies.into_iter().map(|copy| (fs::remove_file(&copy), copy));
        let folders = [self.notes_dir(), self.archives_dir()].map(|folder| (fs::remove_dir_all(&folder), folder));
        for (removed, path) in removed.chain(folders) {
            if let Err(error) = ignore_missing(removed) {
                log::warn!(task:% = self.key(); "`{}` can't be removed: {error}", path.display());
            }
        }
    }

    /// The variables of the container's environment that must not be in a command line, for docker's `--env-file`.
    pub fn env(&self) -> PathBuf {
        self.dir.join("env")
    }

    /// Writes [`TaskFiles::env`], readable by its owner only. Names and values must hold no line breaks.
    pub fn save_env<'v>(&self, variables: impl IntoIterator<Item = (&'v str, &'v str)>) -> io::Result<()> {
        let mut file = create(&self.env())?;
        let lines = variables.into_iter().map(|(name, value)| format!("{name}={value}\n"));
        file.write_all(lines.collect::<String>().as_bytes())
    }

    /// The command that a person can run again.
    pub fn command(&self) -> PathBuf {
        self.dir.join("command.sh")
    }

    /// The folder itself.
    pub fn folder(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Writes the command that a person can run again (P6).
    pub fn save_command(&self, line: &str) -> io::Result<()> {
        let mut file = create(&self.command())?;
        writeln!(file, "#!/bin/sh\n# Runs this task's container again, in the same workspace.\n{line}")
    }

    /// Replaces the record in one step. Where the disk is full, it waits in the reserve.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        self.save_as(record, Durability::PowerCut)
    }

    /// The same, for a step that has no effect elsewhere before the next one is saved: after a power cut the earlier record
    /// may be there, and the step is done again.
    pub fn save_step(&self, record: &Record) -> io::Result<()> {
        self.save_as(record, Durability::OldOrNew)
    }

    fn save_as(&self, record: &Record, durability: Durability) -> io::Result<()> {
        match self.put_back().and_then(|()| self.replace_record(record, durability)) {
            Err(error) if is_full(&error) => {
                let replaced = if_exists(files::read(&self.record()))?.map_or(0, fnv);
                let record = Some((replaced, serde_json::to_vec_pretty(record)?));
                self.keep(Waiting { record, uploads: None }, error)
            }
            saved => saved,
        }
    }

    fn replace_record(&self, record: &Record, durability: Durability) -> io::Result<()> {
        // Piece by piece: an offer may be megabytes.
        let write = |file: &mut io::BufWriter<&fs::File>| Ok(serde_json::to_writer_pretty(file, record)?);
        Replacement::write_by(&self.record(), durability, write)?.commit()?;
        if record.phase == Phase::Settled {
            self.remove_reserve();
        }
        Ok(())
    }

    fn remove_reserve(&self) {
        if let Err(error) = self.reserve().remove() {
            log::warn!(task:% = self.key; "can't delete its disk reserve: {error}");
        }
    }

    pub(super) fn keep(&self, waiting: Waiting, full: io::Error) -> io::Result<()> {
        if self.reserve().keep(waiting, full)? {
            log::warn!(task:% = self.key; "the disk is full; what is to be written about the task waits in its reserve");
        }
        Ok(())
    }

    /// Puts what waits in the reserve in its place. A crash in between leaves both, which is read as one.
    ///
    /// # Errors
    /// The disk is still full, or can't be written for another reason.
    pub(super) fn put_back(&self) -> io::Result<()> {
        let waiting = self.reserve().load()?;
        if waiting.is_empty() {
            return Ok(());
        }
        if let Some((whole, lines)) = &waiting.uploads {
            self.append_lines(lines, *whole)?;
        }
        if let Some((replaced, record)) = &waiting.record {
            if if_exists(files::read(&self.record()))?.map_or(0, fnv) == *replaced {
                Replacement::write(&self.record(), record, Durability::PowerCut)?.commit()?;
            }
        }
        self.reserve().clear()?;
        log::info!(task:% = self.key; "the disk has room again; what waited in its reserve is written");
        Ok(())
    }

    /// Whether something waits in the reserve, or may do so.
    pub fn has_waiting(&self) -> bool {
        self.reserve().load().map_or(true, |waiting| !waiting.is_empty())
    }

    /// Puts what waits in the reserve of a settled task in its place, and removes the reserve. Returns whether it is done.
    pub fn close_reserve(&self) -> bool {
        let done = self.reserve().exists() && self.put_back().map_err(|error| log::debug!("{error}")).is_ok();
        if done {
            self.remove_reserve();
        }
        !self.reserve().exists()
    }

    /// Writes the whole offer, which the record has only until the workspace is complete, for a replay by a person.
    pub(super) fn save_offer(&self, task: &Task) -> io::Result<()> {
        Replacement::write_by(&self.offer(), Durability::Crash, |file| Ok(serde_json::to_writer(file, task)?))?.commit()
    }

    /// The whole offer; `None` for a task of an older version, whose record has it.
    pub fn load_offer(&self) -> io::Result<Option<Task>> {
        let Some(text) = if_exists(files::read(&self.offer()))? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&text)?))
    }

    pub(super) fn record(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    fn offer(&self) -> PathBuf {
        self.dir.join("offer.json")
    }

    /// Reads the record, or `None` if there is none.
    pub fn load(&self) -> io::Result<Option<Record>> {
        let Some(mut text) = if_exists(files::read(&self.record()))? else { return Ok(None) };
        if let Some((replaced, record)) = self.reserve().load()?.record {
            if replaced == fnv(text.iter().copied()) {
                text = record;
            }
        }
        let record: Record = serde_json::from_slice(&text)?;
        if !self.key.is_of(&record.task.id) {
            // Names that differ only in case are one file on some systems.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the record is another task's"));
        }
        Ok(Some(record))
    }

    /// Removes what a settled task doesn't need of its offer and of what its container printed. Returns the number of bytes
    /// that this freed.
    pub fn shrink(&self) -> io::Result<u64> {
        let mut freed = if_exists(fs::metadata(self.offer()))?.map_or(0, |metadata| metadata.len());
        remove_if_exists(&self.offer())?;
        for log in [self.stdout(), self.stderr()] {
            freed += cut_log(&log)?;
        }
        // A record of an older version has the whole offer.
        let length = || if_exists(fs::metadata(self.record())).map(|found| found.map_or(0, |metadata| metadata.len()));
        let before = length()?;
        if before > LARGE_RECORD {
            if let Some(mut record) = self.load()?.filter(|record| record.phase == Phase::Settled) {
                record.task = Task { id: record.task.id, ..Task::default() };
                self.save(&record)?;
                freed += before.saturating_sub(length()?);
            }
        }
        Ok(freed)
    }

    /// The disk space for writes that must not fail.
    pub fn reserve(&self) -> TaskReserve {
        TaskReserve::new(&self.dir)
    }
}

/// Cuts all but the end of a log, which is what a report has of it. Returns the number of bytes that this freed.
fn cut_log(log: &Path) -> io::Result<u64> {
    let Some(metadata) = if_exists(fs::metadata(log))? else { return Ok(0) };
    let freed = metadata.len().saturating_sub(KEPT_OUTPUT + CUT_NOTE);
    if freed > 0 {
        let end = read_tail(log, KEPT_OUTPUT)?;
        // The disk may be full, so there is no room for both.
        let mut file = open_existing(log)?;
        file.set_len(0)?;
        write!(file, "[… {freed} bytes of output were removed to make room on the disk …]\n{end}")?;
    }
    Ok(freed)
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::super::store::tests::task;
    use super::{Phase, Record, TaskKey};
    use crate::data_dir::DataDir;
    use crate::server::protocol::Task;

    #[test]
    fn a_record_has_the_offer_until_the_workspace_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let mut record = Record::from_offer(task("t"), "s", "u");
        let files = store.create(&TaskKey::from_id("t").unwrap(), &record).unwrap();
        record.set_phase(Phase::Accepted);
        assert_eq!(record.task, task("t"));
        record.set_phase(Phase::Prepared);
        files.save(&record).unwrap();
        assert_eq!(files.load().unwrap().unwrap().task, Task { id: "t".to_owned(), ..Task::default() });
        assert_eq!(files.load_offer().unwrap(), Some(task("t")));
    }
}
