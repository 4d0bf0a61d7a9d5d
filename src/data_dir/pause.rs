//! The pause of an agent: while the file `paused` is there, no new task is accepted, also after restarts.

use std::fmt;
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DataDir, PAUSE};
use crate::os::files::{self, Durability, if_exists};
use crate::os::folder::Folder;
use crate::units::Local;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Since when; `None` where the file can't be read.
    pub since: Option<Timestamp>,
    /// Until when, unless `resume` ends it.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Who has asked for it.
    #[serde(default)]
    pub by: Option<String>,
    /// Why.
    #[serde(default)]
    pub note: Option<String>,
}

impl Pause {
    /// The pause that counts at this time. A file that can't be read is one without an end.
    pub fn load(data_dir: &DataDir, now: Timestamp) -> Option<Self> {
        let pause = match if_exists(files::read(&data_dir.pause())) {
            Ok(None) => return None,
            Ok(Some(text)) => serde_json::from_slice(&text).unwrap_or_else(Self::unreadable),
            Err(error) => Self::unreadable(error),
        };
        Some(pause).filter(|pause| !pause.is_over(now))
    }

    fn unreadable(error: impl fmt::Display) -> Self {
        Self { note: Some(format!("the file `{PAUSE}` can't be read: {error}")), ..Self::default() }
    }

    /// Whether its time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// Replaces the file.
    pub fn save(&self, folder: &Folder) -> io::Result<()> {
        folder.replace(PAUSE, &serde_json::to_vec_pretty(self)?, Durability::PowerCut)
    }

    /// Removes the file. A missing one is no error.
    pub fn remove(folder: &Folder) -> io::Result<()> {
        folder.remove(PAUSE)
    }
}

impl fmt::Display for Pause {
    /// As in `paused by anna since …, until …: a new disk`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("paused")?;
        if let Some(by) = &self.by {
            write!(f, " by {by}")?;
        }
        if let Some(since) = self.since {
            write!(f, " since {}", Local(since))?;
        }
        if let Some(until) = self.until {
            write!(f, ", until {}", Local(until))?;
        }
        match &self.note {
            Some(note) => write!(f, ": {note}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pause;
    use crate::data_dir::DataDir;
    use crate::os::trust::make_folder;
    use jiff::{SignedDuration, Timestamp};

    #[test]
    fn a_pause_counts_until_its_end_and_a_damaged_file_without_one() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::new(dir.path().join("data"));
        let folder = make_folder(&data_dir).unwrap();
        let now = Timestamp::now();
        assert_eq!(Pause::load(&data_dir, now), None);
        let until = now + SignedDuration::from_hours(2);
        let pause = Pause { since: Some(now), until: Some(until), by: Some("anna".to_owned()), note: None };
        pause.save(&folder).unwrap();
        assert_eq!(Pause::load(&data_dir, now), Some(pause));
        assert_eq!(Pause::load(&data_dir, until), None);
        std::fs::write(data_dir.pause(), "{").unwrap();
        let damaged = Pause::load(&data_dir, until).unwrap().to_string();
        assert!(damaged.starts_with("paused: the file `paused` can't be read: EOF"), "{damaged}");
        Pause::remove(&folder).unwrap();
        assert_eq!(Pause::load(&data_dir, now), None);
    }

    #[test]
    fn a_pause_says_who_and_why() {
        let note = Some("a new disk".to_owned());
        let pause = Pause { by: Some("anna".to_owned()), note, ..Pause::default() };
        assert_eq!(pause.to_string(), "paused by anna: a new disk");
        assert_eq!(Pause::default().to_string(), "paused");
    }
}
