//! Counts what is left to be done on a data_dir, for `stop` and `status`.

use std::{fmt, io};

use super::failure::Failure;
use super::task_view::Tasks;
use crate::config::Config;
use crate::data_dir::{DataDir, permissions};
use crate::task::record::Phase;

/// How many tasks of a data_dir aren't settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Tasks of this registration whose container hasn't been started.
    pub waiting: usize,
    /// Tasks of this registration whose container hasn't ended, as far as the record says.
    pub in_containers: usize,
    /// Results of this registration that weren't delivered yet.
    pub undelivered: usize,
    /// Tasks of other registrations: they are kept, and the agent doesn't work on them.
    pub foreign: usize,
    /// Records that can't be read.
    pub damaged: usize,
}

impl Backlog {
    /// Counts the records of a data_dir, for an agent of this service.
    pub fn load(data_dir: &DataDir, service_id: Option<&str>) -> io::Result<Self> {
        let tasks = Tasks::load(data_dir, |phase| phase < Phase::Settled)?;
        Ok(Self::from_tasks(&tasks, service_id))
    }

    /// The same for tasks that are loaded already.
    pub fn from_tasks(tasks: &Tasks, service_id: Option<&str>) -> Self {
        let mut backlog = Self { damaged: tasks.damaged.len(), ..Self::default() };
        for task in &tasks.all {
            let counter = match task.phase {
                Phase::Settled => continue,
                _ if service_id != Some(&task.service_id) => &mut backlog.foreign,
                Phase::Accepting | Phase::Accepted => &mut backlog.waiting,
                Phase::Prepared => &mut backlog.in_containers,
                Phase::Exited | Phase::Uploaded => &mut backlog.undelivered,
            };
            *counter += 1;
        }
        backlog
    }

    /// How many tasks have a container that hasn't ended, or will get one.
    pub fn unfinished(self) -> usize {
        self.waiting + self.in_containers
    }

    /// What an agent of this service still has to do, in a line.
    pub fn summary(self) -> String {
        format!("{} task(s) in progress, {} result(s) to deliver", self.unfinished(), self.undelivered)
    }

    /// Whether an agent of this service has nothing to do here.
    pub fn is_done(self) -> bool {
        self.unfinished() + self.undelivered == 0
    }
}

/// Work of a registration that only this registration can deliver.
pub struct Left {
    backlog: Backlog,
    data_dir: DataDir,
}

impl Left {
    /// What is left in a configuration's data_dir of this service; `None` where nothing is. A record that can't be read may
    /// be of a result.
    ///
    /// # Errors
    /// The data_dir can't be read.
    pub fn load(config: &Config, service_id: &str) -> Result<Option<Self>, Failure> {
        let data_dir = config.paths.data_dir.clone();
        if permissions::find(&data_dir)?.is_none() {
            return Ok(None);
        }
        let backlog = Backlog::load(&data_dir, Some(service_id));
        let backlog = backlog.map_err(Failure::with_path(&data_dir, "can't be read"))?;
        Ok((!backlog.is_done() || backlog.damaged > 0).then_some(Self { backlog, data_dir }))
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = "are left of that registration";
        write!(f, "{} {service} in `{}`", self.backlog.summary(), self.data_dir.display())?;
        match self.backlog.damaged {
            0 => Ok(()),
            damaged => write!(f, ", and {damaged} record(s) that can't be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Backlog;
    use crate::data_dir::DataDir;
    use crate::server::protocol::Task;
    use crate::task::record::{Phase, Record, Store, TaskKey};

    #[test]
    fn unfinished_tasks_are_counted_by_service_and_phase() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Backlog::load(&DataDir::new(dir.path()), Some("s")).unwrap(), Backlog::default());
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let tasks = [
            ("a", "s", Phase::Accepted),
            ("b", "s", Phase::Prepared),
            ("c", "s", Phase::Exited),
            ("d", "s", Phase::Uploaded),
            ("e", "s", Phase::Settled),
            ("f", "other", Phase::Prepared),
            ("g", "other", Phase::Settled),
        ];
        for (id, service, phase) in tasks {
            let task = Task { id: id.to_owned(), ..Task::default() };
            let record = Record { phase, ..Record::from_offer(task, service, "http://h") };
            store.create(&TaskKey::from_id(id).unwrap(), &record).unwrap();
        }
        let left = Backlog::load(&DataDir::new(dir.path()), Some("s")).unwrap();
        assert_eq!(left, Backlog { waiting: 1, in_containers: 1, undelivered: 2, foreign: 1, damaged: 0 });
        assert!(!left.is_done());
        let others = Backlog::load(&DataDir::new(dir.path()), Some("new")).unwrap();
        assert_eq!((others.foreign, others.is_done()), (5, true));
    }
}
