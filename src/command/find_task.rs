//! Looks up a task of the data_dir: `logs`, `discard` and `try --replay` use it.

use super::failure::Failure;
use crate::config::Config;
use crate::task::record::{Record, Store, TaskFiles, TaskKey};
use crate::text::escape;

/// The files and the record of the task with this id.
pub fn find_task(config: &Config, id: &str) -> Result<(TaskFiles, Record), Failure> {
    let data_dir = &config.paths.data_dir;
    let unknown = || {
        Failure::new(format!(
            "no task `{}` is kept in `{}`; `agent-core tasks` lists the kept ones",
            escape(id),
            data_dir.display()
        ))
    };
    let key = TaskKey::from_id(id).filter(|_| data_dir.tasks().exists()).ok_or_else(unknown)?;
    let unreadable = Failure::context(format!("the record of task {key} can't be read"));
    let files = Store::open(data_dir).map_err(&unreadable)?.task(&key);
    let record = files.load().map_err(&unreadable)?.ok_or_else(unknown)?;
    Ok((files, record))
}
