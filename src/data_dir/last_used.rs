//! The note of the data_dir that a registered agent has used, in a file beside its configuration.
//!
//! A disk that isn't mounted leaves an empty place behind. A data_dir that is made there has no record of what this agent
//! has accepted and not delivered, and is hidden when the disk comes back. So the note tells the first start, which makes the
//! data_dir, from a later one, which misses it, or finds one there that an earlier agent has left below the mount. It counts
//! on the machine and for the service that it names only: a configuration that was copied, or registered for another service,
//! makes a data_dir of its own. Machines that share a configuration have a line each.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::copies::machine;
use super::{DataDir, INSTANCE_ID, permissions};
use crate::os::files::{Durability, Replacement, remove_if_exists};
use crate::os::folder::Folder;
use crate::os::trust::{open_file, place_of_file};
use crate::shell::shell_line;

/// The first line, for people.
const HEADER: &str = "# agent-core keeps its tasks in this folder, and makes no new one while this file is here.";

/// More than a note can have, in bytes, and how many machines and services it may name.
const LONGEST: u64 = 64 << 10;
const MOST: usize = 16;
/// In the place of what isn't known.
const UNKNOWN: &str = "-";

/// The place of a data_dir in a configuration.
#[derive(Debug, Clone)]
pub struct LastUsed {
    note: PathBuf,
    service_id: String,
    data_dir: DataDir,
}

/// The data_dir of a registered agent isn't where it was.
#[derive(Debug, Error)]
pub struct Missing {
    data_dir: PathBuf,
    note: PathBuf,
    found: Found,
}

/// What is in the place of the data_dir.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Empty,
    /// The data_dir of another agent, or of an earlier one.
    Another,
}

/// A data_dir that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    machine: String,
    service_id: String,
    /// Its id. Older versions didn't note it.
    instance: Option<String>,
    data_dir: String,
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(4, '\t').map(str::to_owned);
        let (machine, service_id) = (fields.next()?, fields.next()?);
        let instance = fields.next().filter(|id| id != UNKNOWN);
        Some(Self { machine, service_id, instance, data_dir: fields.next()? })
    }

    fn line(&self) -> String {
        let instance = self.instance.as_deref().unwrap_or(UNKNOWN);
        format!("{}\t{}\t{instance}\t{}\n", self.machine, self.service_id, self.data_dir)
    }

    /// Whether it is of the same agent, in the same place.
    fn is_of(&self, other: &Self) -> bool {
        (&self.machine, &self.service_id, &self.data_dir) == (&other.machine, &other.service_id, &other.data_dir)
    }
}

/// The entries of a note. The older form has a single one, in three lines.
fn parse(text: &str) -> Vec<Entry> {
    let lines: Vec<&str> = text.strip_prefix(HEADER).unwrap_or_default().lines().skip(1).collect();
    if let [machine, service_id, data_dir] = lines[..] {
        if !lines.iter().any(|line| line.contains('\t')) {
            let [machine, service_id, data_dir] = [machine, service_id, data_dir].map(str::to_owned);
            return vec![Entry { machine, service_id, instance: None, data_dir }];
        }
    }
    lines.into_iter().filter_map(Entry::parse).collect()
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.state(), self.remedy())
    }
}

impl Missing {
    /// What is wrong.
    pub fn state(&self) -> String {
        let state = match self.found {
            Found::Nothing => "isn't there",
            Found::Empty => "is empty",
            Found::Another => "isn't in its place, where another one is (`instance_id`)",
        };
        format!("the data_dir `{}`, which this agent has used, {state}", self.data_dir.display())
    }

    /// What the operator can do.
    pub fn remedy(&self) -> String {
        format!(
            "mount the disk that holds it; if it was moved, set `paths.data_dir` to its new place; to begin with {}, without \
             the tasks and results of the old one, run `{}`",
            if self.found == Found::Another { "the one that is there" } else { "an empty one" },
            shell_line(["rm", &self.note.to_string_lossy()])
        )
    }
}

impl LastUsed {
    /// The data_dir of a configuration file that is registered for this service.
    pub fn new(config_file: &Path, service_id: &str, data_dir: &DataDir) -> Self {
        Self { note: note_of(config_file), service_id: service_id.to_owned(), data_dir: data_dir.clone() }
    }

    /// Checks that the data_dir is where it was, or that this agent hasn't used it yet. What can't be looked at is for later
    /// steps to report.
    pub fn check(&self) -> Result<(), Missing> {
        let Some(noted) = self.entries().into_iter().find(|entry| entry.is_of(&self.entry(None))) else {
            return Ok(());
        };
        let found = match permissions::find(&self.data_dir) {
            Ok(None) => Found::Nothing,
            Ok(Some(folder)) => match folder.dir().names() {
                Ok(names) if !names.iter().any(|name| DataDir::is_own_name(&name.to_string_lossy())) => Found::Empty,
                Ok(_) if is_another(noted.instance.as_deref(), &folder) => Found::Another,
                _ => return Ok(()),
            },
            Err(_) => return Ok(()),
        };
        Err(Missing { data_dir: self.data_dir.to_path_buf(), note: self.note.clone(), found })
    }

    /// Notes that this agent uses the data_dir, which has this id. Where the configuration's folder can't be written, a start
    /// without the data_dir makes a new one.
    pub fn note(&self, instance: &str) {
        let (entry, mut entries) = (self.entry(Some(instance)), self.entries());
        if entries.contains(&entry) {
            return;
        }
        entries.retain(|other| !(other.machine == entry.machine && other.service_id == entry.service_id));
        entries.insert(0, entry);
        entries.truncate(MOST);
        if let Err(error) = self.write(&entries) {
            log::info!(
                "`{}` can't be written, so a start while the data_dir's disk isn't mounted will not be noticed: {error}",
                self.note.display()
            );
        }
    }

    fn write(&self, entries: &[Entry]) -> io::Result<()> {
        let (place, _) = place_of_file(&self.note).map_err(io::Error::other)?;
        let text: String = [format!("{HEADER}\n")].into_iter().chain(entries.iter().map(Entry::line)).collect();
        Replacement::write(&place, text.as_bytes(), Durability::PowerCut)?.commit()
    }

    fn entries(&self) -> Vec<Entry> {
        match self.read() {
            Ok(text) => parse(&String::from_utf8_lossy(&text)),
            Err(error) => {
                log::warn!("`{}` can't be read, so that it doesn't count: {error}", self.note.display());
                Vec::new()
            }
        }
    }

    /// This data_dir, for this service on this machine.
    fn entry(&self, instance: Option<&str>) -> Entry {
        Entry {
            machine: machine(),
            service_id: self.service_id.clone(),
            instance: instance.map(str::to_owned),
            data_dir: self.data_dir.display().to_string(),
        }
    }

    /// The beginning of the note, if there is one that no other user can have made.
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        if let Some(file) = open_file(&self.note).map_err(io::Error::other)? {
            file.take(LONGEST).read_to_end(&mut text)?;
        }
        Ok(text)
    }
}

/// Whether a data_dir has another id than the one that was noted. One that has none yet gets one.
fn is_another(noted: Option<&str>, folder: &Folder) -> bool {
    let Some(noted) = noted else { return false };
    folder.read(INSTANCE_ID).is_ok_and(|id| id.is_some_and(|id| !id.trim().is_empty() && id.trim() != noted))
}

/// Removes the note beside a configuration file that is made anew.
pub fn forget(config_file: &Path) -> io::Result<()> {
    remove_if_exists(&note_of(config_file))
}

fn note_of(config_file: &Path) -> PathBuf {
    let name = config_file.file_name().unwrap_or_default().to_string_lossy();
    config_file.with_file_name(format!(".{name}.data_dir"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::{HEADER, LastUsed, forget, parse};
    use crate::data_dir::DataDir;
    use std::fs;

    #[test]
    fn a_data_dir_that_was_used_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("config.toml"), dir.path().join("data"));
        let of = |service: &str, data| LastUsed::new(&file, service, &DataDir::new(data));
        let used = of("svc-1", data.clone());
        used.check().unwrap();
        fs::create_dir_all(data.join("tasks")).unwrap();
        used.note("id-1");
        used.check().unwrap();
        fs::remove_dir(data.join("tasks")).unwrap();
        let why = used.check().unwrap_err().to_string();
        assert!(why.contains("is empty; mount the disk"), "{why}");
        fs::remove_dir(&data).unwrap();
        let why = used.check().unwrap_err().to_string();
        assert!(why.contains("isn't there; mount the disk") && why.contains("/.config.toml.data_dir`"), "{why}");
        // A deliberate move, another service, and a new configuration.
        of("svc-1", dir.path().join("other")).check().unwrap();
        of("svc-2", data.clone()).check().unwrap();
        forget(&file).unwrap();
        used.check().unwrap();
    }

    #[test]
    fn an_earlier_folder_below_the_mount_is_not_taken_for_the_data_dir() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("config.toml"), dir.path().join("data"));
        let used = LastUsed::new(&file, "svc-1", &DataDir::new(data.clone()));
        fs::create_dir_all(data.join("tasks")).unwrap();
        fs::write(data.join("instance_id"), "id-1\n").unwrap();
        used.note("id-1");
        used.check().unwrap();
        fs::write(data.join("instance_id"), "id-2\n").unwrap();
        let why = used.check().unwrap_err().to_string();
        assert!(
            why.contains("another one is (`instance_id`); mount") && why.contains("the one that is there"),
            "{why}"
        );
        // One that gets an id of its own goes on with it.
        fs::remove_file(data.join("instance_id")).unwrap();
        used.check().unwrap();
        used.note("id-2");
        fs::write(data.join("instance_id"), "id-2\n").unwrap();
        used.check().unwrap();
    }

    #[test]
    fn machines_that_share_a_configuration_keep_their_notes() {
        let dir = tempfile::tempdir().unwrap();
        let (file, data) = (dir.path().join("config.toml"), dir.path().join("data"));
        let used = LastUsed::new(&file, "svc-1", &DataDir::new(data.clone()));
        // The older form, of another machine; then of this one.
        fs::write(&used.note, format!("{HEADER}\nother\nsvc-1\n/srv/data\n")).unwrap();
        used.check().unwrap();
        used.note("id-1");
        let (others, own) = (parse(&fs::read_to_string(&used.note).unwrap()), used.entry(Some("id-1")));
        assert_eq!(others.len(), 2);
        assert_eq!((&others[0], &*others[1].machine, &*others[1].data_dir), (&own, "other", "/srv/data"));
        assert!(used.check().is_err(), "it isn't there");
        fs::write(&used.note, format!("{HEADER}\n{}\nsvc-1\n{}\n", own.machine, data.display())).unwrap();
        assert!(used.check().is_err(), "a note of the older form counts");
    }
}
