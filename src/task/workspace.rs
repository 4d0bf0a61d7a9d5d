//! The folder that a container has as its workspace: the input files and `task.json`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::TaskKey;
use super::file_name::{safe_name, split_extension};
use crate::data_dir::DataDir;
use crate::os::files::{create_for_containers, if_exists, make_dir_for_containers, make_dirs};
use crate::os::platform;
use crate::os::random::random_u64;
use crate::server::protocol::{InputFile, Task};

/// What the names begin with of workspaces that were set aside. No task's key begins with a dot.
const SET_ASIDE: &str = ".old-";

/// A task's workspace, which may or may not exist.
#[derive(Debug, Clone)]
pub struct Workspace {
    dir: PathBuf,
}

impl Workspace {
    pub fn new(data_dir: &DataDir, key: &TaskKey) -> Self {
        Self { dir: data_dir.workspaces().join(key.as_str()) }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates the folder with `input/` and `output/`, writable for any uid that a container may run as. Other users of
    /// this machine can't get into the data_dir around it.
    pub fn create(&self) -> io::Result<()> {
        if let Some(workspaces) = self.dir.parent() {
            make_dirs(workspaces)?;
        }
        for dir in [self.dir.clone(), self.dir.join("input"), self.dir.join("output")] {
            make_dir_for_containers(&dir)?;
        }
        Ok(())
    }

    /// Gives the folder another name, by which it is removed later: files of an earlier task with the same name would be
    /// taken for results, and there may be millions of them. Returns whether there was one.
    pub fn set_aside(&self) -> io::Result<bool> {
        let place = self.dir.with_file_name(format!("{SET_ASIDE}{:016x}", random_u64()));
        match fs::rename(&self.dir, place) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The folders that were set aside and aren't removed yet.
    pub fn all_set_aside(data_dir: &DataDir) -> io::Result<Vec<PathBuf>> {
        let Some(entries) = if_exists(fs::read_dir(data_dir.workspaces()))? else { return Ok(Vec::new()) };
        let paths = entries.flatten().map(|entry| entry.path());
        let is_set_aside = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(SET_ASIDE.as_bytes()))
        };
        Ok(paths.filter(is_set_aside).collect())
    }

    /// The path of an input file, by its name from [`input_names`].
    pub fn input(&self, name: &str) -> PathBuf {
        self.dir.join("input").join(name)
    }

    /// Writes `task.json` (PROTOCOL, "The container contract").
    pub fn write_task(&self, task: &Task, names: &[String]) -> io::Result<()> {
        let mut file = BufWriter::new(create_for_containers(&self.dir.join("task.json"))?);
        serde_json::to_writer_pretty(&mut file, &TaskJson::new(task, names))?;
        file.into_inner()?.sync_all()?;
        if !names.is_empty() {
            platform::sync_dir(&self.dir.join("input"))?;
        }
        platform::sync_dir(&self.dir)
    }
}

/// The content of `task.json`. It borrows the texts, which may be megabytes.
#[derive(Serialize)]
struct TaskJson<'t> {
    task_id: &'t str,
    task_prompt: &'t str,
    prompt: &'t str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_prompt: Option<&'t str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'t str>,
    input_files: Vec<InputJson<'t>>,
}

/// An input file in `task.json`.
#[derive(Serialize)]
struct InputJson<'t> {
    #[serde(flatten)]
    file: &'t InputFile,
    local_path: String,
}

impl<'t> TaskJson<'t> {
    fn new(task: &'t Task, names: &[String]) -> Self {
        let local = |(file, name): (&'t InputFile, &String)| InputJson { file, local_path: format!("input/{name}") };
        Self {
            task_id: &task.id,
            task_prompt: &task.task_prompt,
            prompt: &task.task_prompt,
            output_prompt: task.output_prompt.as_deref(),
            session_id: task.session_id.as_deref(),
            input_files: task.input_files.iter().zip(names).map(local).collect(),
        }
    }
}

/// The names of the input files in `input/`: their own names made safe, with numbers where two differ in case at most
/// (`data.csv`, `data-2.csv`).
pub fn input_names(task: &Task) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut last_numbers = HashMap::new();
    let unique = |name: String| {
        let (stem, extension) = split_extension(&name);
        let mut candidate = name.clone();
        // The number of the last file of this name, so that many files of one name don't count from 2 each.
        let number = last_numbers.entry(name.to_lowercase()).or_insert(1);
        while !taken.insert(candidate.to_lowercase()) {
            *number += 1;
            candidate = format!("{stem}-{number}{extension}");
        }
        candidate
    };
    task.input_files.iter().map(|file| safe_name(&file.filename)).map(unique).collect()
}

#[cfg(test)]
mod tests {
    use super::{TaskJson, input_names};
    use crate::server::protocol::{InputFile, Task};
    use serde_json::json;

    fn task(names: &[&str]) -> Task {
        let file = |name: &&str| InputFile {
            id: format!("f-{name}"),
            filename: (*name).to_owned(),
            mime_type: None,
            size_bytes: 3,
        };
        Task {
            id: "t".to_owned(),
            task_prompt: "do".to_owned(),
            output_prompt: Some("as a table".to_owned()),
            session_id: None,
            input_files: names.iter().map(file).collect(),
        }
    }

    #[test]
    fn equal_names_are_numbered_ignoring_case() {
        let names = input_names(&task(&["a.csv", "A.csv", "a.csv", "a-2.csv", "noext", "noext"]));
        assert_eq!(names, ["a.csv", "A-2.csv", "a-3.csv", "a-2-2.csv", "noext", "noext-2"]);
    }

    #[test]
    fn task_json_follows_the_contract() {
        let (task, names) = (task(&["a b.csv"]), ["a b.csv".to_owned()]);
        assert_eq!(
            serde_json::to_value(TaskJson::new(&task, &names)).unwrap(),
            json!({"task_id": "t", "task_prompt": "do", "prompt": "do", "output_prompt": "as a table",
                   "input_files": [{"id": "f-a b.csv", "filename": "a b.csv", "size_bytes": 3,
                                    "local_path": "input/a b.csv"}]})
        );
    }
}
