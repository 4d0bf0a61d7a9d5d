//! Looks up a task of the data_dir: `logs`, `show`, `discard` and `try --replay` use it.

use std::io;

use super::failure::Failure;
use crate::config::Config;
use crate::shell::agent_command;
use crate::task::record::{Record, Store, TaskFiles, TaskKey};
use crate::text::quote_foreign;

/// What stands before a name that isn't to be taken for an id.
pub const BY_KEY: &str = "key:";
/// How much of a name is shown at least, where names are shortened.
const SHORT: usize = 8;
/// How many names an error lists.
const LISTED: usize = 10;

/// The files and the record of the task with this name, as the log and `tasks` show it, with this id on the Server, or
/// whose name is the only one that begins so.
///
/// # Errors
/// There is none, or more than one: a name may be another task's id, and the Server may give an id to several tasks.
pub fn find_task(config: &Config, text: &str) -> Result<(TaskFiles, Record), Failure> {
    find(config, text, Begin::IsEnough)
}

/// The same by the whole name or id, for what can't be undone: a task of another name may begin as one does that is no
/// longer kept.
pub fn find_whole_name(config: &Config, text: &str) -> Result<(TaskFiles, Record), Failure> {
    find(config, text, Begin::IsRefused)
}

/// What the begin of a name counts for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    IsEnough,
    IsRefused,
}

fn find(config: &Config, text: &str, begin: Begin) -> Result<(TaskFiles, Record), Failure> {
    let data_dir = &config.paths.data_dir;
    let shown = quote_foreign(text);
    let unknown = || {
        Failure::new(format!(
            "no task {shown} is kept in `{}`; `{}` lists the kept ones",
            data_dir.display(),
            agent_command(&config.file, &["tasks"])
        ))
    };
    if !data_dir.tasks().exists() {
        return Err(unknown());
    }
    let unreadable = Failure::context(format!("the record of task {shown} can't be read"));
    let store = Store::open(data_dir).map_err(&unreadable)?;
    let by_key = [Some(text), text.strip_prefix(BY_KEY)].into_iter().flatten().filter_map(TaskKey::parse);
    let mut keys: Vec<TaskKey> = by_key.chain(store.keys_of(text).map_err(&unreadable)?).collect();
    keys.sort();
    keys.dedup();
    let load = |keys: Vec<TaskKey>| {
        let mut found = Vec::new();
        for key in keys {
            let files = store.task(&key);
            if let Some(record) = files.load().map_err(&unreadable)? {
                found.push((files, record));
            }
        }
        Ok::<_, Failure>(found)
    };
    let mut found = load(keys)?;
    if found.is_empty() {
        let prefix = text.strip_prefix(BY_KEY).unwrap_or(text);
        let all = store.keys().map_err(&unreadable)?.into_iter();
        found = load(all.filter(|key| !prefix.is_empty() && key.as_str().starts_with(prefix)).collect())?;
        if begin == Begin::IsRefused && found.len() == 1 {
            let whole = found.first().map(|(files, _)| files.key().as_str()).unwrap_or_default();
            return Err(Failure::new(format!("no task is named {shown}; if you mean `{whole}`, give the whole name")));
        }
        if found.len() > 1 {
            return Err(ambiguous(&shown, found.iter().map(|(files, _)| files.key().as_str())));
        }
    }
    match found.len() {
        0 => Err(unknown()),
        1 => found.pop().ok_or_else(unknown),
        count => {
            let names: Vec<String> = found.iter().map(|(files, _)| format!("{BY_KEY}{}", files.key())).collect();
            let names = names.join(" or ");
            Err(Failure::new(format!(
                "{shown} is the name or the id of {count} tasks; give the one that you mean: {names}"
            )))
        }
    }
}

/// The error about a text with which the names of several tasks begin.
pub fn ambiguous<'k>(shown: &str, names: impl ExactSizeIterator<Item = &'k str>) -> Failure {
    let count = names.len();
    let mut list: Vec<&str> = names.take(LISTED).collect();
    list.sort_unstable();
    let more = if count > LISTED { format!(" and {} more", count - LISTED) } else { String::new() };
    Failure::new(format!("the names of {count} tasks begin with {shown}: {}{more}; give more of it", list.join(", ")))
}

/// The names of the tasks of a data_dir, to find how much of each tells it from the others.
pub struct Names(Vec<String>);

impl Names {
    /// Those of all kept tasks. A data_dir that isn't there has none.
    pub fn load(config: &Config) -> io::Result<Self> {
        let data_dir = &config.paths.data_dir;
        if !data_dir.tasks().exists() {
            return Ok(Self(Vec::new()));
        }
        let keys = Store::open(data_dir)?.keys()?;
        Ok(Self::new(keys.iter().map(|key| key.as_str().to_owned()).collect()))
    }

    fn new(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        Self(names)
    }

    /// All names, sorted.
    pub fn all(&self) -> &[String] {
        &self.0
    }

    /// The shortest beginning of a name that is no other name's, of a few characters at least.
    pub fn shorten<'n>(&self, name: &'n str) -> &'n str {
        let at = self.0.partition_point(|other| other.as_str() < name);
        let neighbours = [at.checked_sub(1).map(|before| &self.0[before]), self.0.get(at + 1)];
        let common = |other: &String| name.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        let most = neighbours.into_iter().flatten().map(common).max().unwrap_or_default();
        // Names are ASCII.
        name.get(..SHORT.max(most + 1)).unwrap_or(name)
    }
}

/// Reads the record of a task that was found.
pub fn reload(files: &TaskFiles) -> Result<Record, Failure> {
    let unreadable = Failure::context(format!("the record of task {} can't be read", files.key()));
    let record = files.load().map_err(unreadable)?;
    record.ok_or_else(|| Failure::new(format!("task {} is no longer kept", files.key())))
}

#[cfg(test)]
mod tests {
    use super::{Names, ambiguous};

    #[test]
    fn names_are_shortened_as_far_as_they_stay_different() {
        let all = ["3ff20e1c-aaaa", "3ff20e1c-aabb", "9d3a2f00-0000", "t-1", "t-10"];
        let names = Names::new(all.map(str::to_owned).to_vec());
        let shown = all.map(|name| names.shorten(name));
        assert_eq!(shown, ["3ff20e1c-aaa", "3ff20e1c-aab", "9d3a2f00", "t-1", "t-10"]);
    }

    #[test]
    fn an_ambiguous_beginning_lists_a_few_names() {
        let names: Vec<String> = (10..30).map(|number| format!("t-{number}")).collect();
        let message = ambiguous("'t'", names.iter().map(String::as_str)).to_string();
        assert!(message.starts_with("the names of 20 tasks begin with 't': t-10, t-11, "), "{message}");
        assert!(message.ends_with("t-19 and 10 more; give more of it"), "{message}");
    }
}
