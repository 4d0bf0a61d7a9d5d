//! Looks up a task of the data_dir: `logs`, `discard` and `try --replay` use it.

use super::failure::Failure;
use crate::config::Config;
use crate::task::record::{Record, Store, TaskFiles, TaskKey};
use crate::text::quote_foreign;

/// What stands before a name that isn't to be taken for an id.
pub const BY_KEY: &str = "key:";

/// The files and the record of the task with this name, as the log and `tasks` show it, or with this id on the Server.
///
/// # Errors
/// There is none, or more than one: a name may be another task's id, and the Server may give an id to several tasks.
pub fn find_task(config: &Config, text: &str) -> Result<(TaskFiles, Record), Failure> {
    let data_dir = &config.paths.data_dir;
    let shown = quote_foreign(text);
    let unknown = || {
        Failure::new(format!(
            "no task {shown} is kept in `{}`; `agent-core tasks` lists the kept ones",
            data_dir.display()
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
    let mut found = Vec::new();
    for key in keys {
        let files = store.task(&key);
        if let Some(record) = files.load().map_err(&unreadable)? {
            found.push((files, record));
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

/// Reads the record of a task that was found.
pub fn reload(files: &TaskFiles) -> Result<Record, Failure> {
    let unreadable = Failure::context(format!("the record of task {} can't be read", files.key()));
    let record = files.load().map_err(unreadable)?;
    record.ok_or_else(|| Failure::new(format!("task {} is no longer kept", files.key())))
}
