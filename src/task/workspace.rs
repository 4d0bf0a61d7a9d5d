//! The folder that a container sees as its workspace: what goes in, under which names, and the mounts beside it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::data_dir::DataDir;
use crate::os::platform;
use crate::server::protocol::Task;
use crate::task::record::TaskKey;

/// The longest file name that we make; file systems take 255 bytes, and a number may be added.
const NAME_MAX: usize = 200;

/// A task's workspace.
#[derive(Debug, Clone)]
pub struct Workspace {
    dir: PathBuf,
}

impl Workspace {
    /// The workspace of a task, whether or not it exists.
    pub fn new(data_dir: &DataDir, key: &TaskKey) -> Self {
        Self { dir: data_dir.workspaces().join(key.as_str()) }
    }

    /// The folder on this machine.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the folder with `input/` and `output/` in it, writable for any uid that a container may run as. It is the
    /// data_dir around it that keeps other users of this machine out.
    pub fn create(&self) -> io::Result<()> {
        for dir in [self.dir.clone(), self.dir.join("input"), self.dir.join("output")] {
            fs::create_dir_all(&dir)?;
            platform::make_world_writable(&dir)?;
        }
        Ok(())
    }

    /// Removes what an earlier task may have left under the same name: it would be taken for this one's results.
    pub fn remove(&self) -> io::Result<()> {
        platform::remove_tree(&self.dir)
    }

    /// Where an input file lies, by its name from [`input_names`].
    pub fn input(&self, name: &str) -> PathBuf {
        self.dir.join("input").join(name)
    }

    /// Writes `task.json` (PROTOCOL, "The container contract").
    pub fn write_task(&self, task: &Task, names: &[String]) -> io::Result<()> {
        let path = self.dir.join("task.json");
        let mut file = File::create(&path)?;
        file.write_all(serde_json::to_string_pretty(&task_json(task, names))?.as_bytes())?;
        file.sync_all()?;
        platform::make_world_writable(&path)?;
        platform::sync_dir(&self.dir.join("input"))?;
        platform::sync_dir(&self.dir)
    }
}

/// What the container is told.
fn task_json(task: &Task, names: &[String]) -> Value {
    let mut told = Map::new();
    told.insert("task_id".to_owned(), json!(task.id));
    told.insert("task_prompt".to_owned(), json!(task.task_prompt));
    told.insert("prompt".to_owned(), json!(task.task_prompt));
    for (key, value) in [("output_prompt", &task.output_prompt), ("session_id", &task.session_id)] {
        if let Some(text) = value {
            told.insert(key.to_owned(), json!(text));
        }
    }
    let files = task.input_files.iter().zip(names).map(|(file, name)| {
        let mut entry = Map::new();
        entry.insert("id".to_owned(), json!(file.id));
        entry.insert("filename".to_owned(), json!(file.filename));
        if let Some(mime_type) = &file.mime_type {
            entry.insert("mime_type".to_owned(), json!(mime_type));
        }
        entry.insert("size_bytes".to_owned(), json!(file.size_bytes));
        entry.insert("local_path".to_owned(), json!(format!("input/{name}")));
        Value::Object(entry)
    });
    told.insert("input_files".to_owned(), files.collect());
    Value::Object(told)
}

/// The names under which input files lie in `input/`: their own made safe, and told apart where two are the same but
/// for case (`data.csv`, `data-2.csv`).
pub fn input_names(task: &Task) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut last_numbers = HashMap::new();
    let unique = |name: String| {
        let (stem, extension) = split_extension(&name);
        let mut candidate = name.clone();
        // Where the last file of this name stopped counting, so that many of one name don't count from 2 each.
        let number = last_numbers.entry(name.to_lowercase()).or_insert(1);
        while !taken.insert(candidate.to_lowercase()) {
            *number += 1;
            candidate = format!("{stem}-{number}{extension}");
        }
        candidate
    };
    task.input_files.iter().map(|file| safe_name(&file.filename)).map(unique).collect()
}

/// One plain file name that says the same to a person: no separators, control characters or characters that change
/// the direction of text, nothing that a shell pattern would turn into an option or a hidden file, and nothing that
/// Windows can't store.
fn safe_name(written: &str) -> String {
    let mut name: String = written
        .chars()
        .take(4 * NAME_MAX)
        .map(|c| {
            let confusing = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c.is_control() || confusing || r#"/\<>:"|?*"#.contains(c) { '_' } else { c }
        })
        .collect();
    if name.starts_with(['.', '-', '~', ' ']) {
        name.replace_range(..1, "_");
    }
    let kept = name.trim_end_matches(['.', ' ']).len();
    name.truncate(kept);
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || (stem.chars().count() == 4 && (stem.starts_with("COM") || stem.starts_with("LPT")));
    if name.is_empty() || device {
        name.insert(0, '_');
    }
    shorten(&name)
}

/// Shortens the part before the extension, between characters.
fn shorten(name: &str) -> String {
    if name.len() <= NAME_MAX {
        return name.to_owned();
    }
    let (stem, extension) = split_extension(name);
    let extension = if extension.len() <= 20 { extension } else { "" };
    let mut end = NAME_MAX - extension.len();
    while !stem.is_char_boundary(end.min(stem.len())) {
        end -= 1;
    }
    format!("{}{extension}", &stem[..end.min(stem.len())])
}

fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::{input_names, safe_name, task_json};
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
    fn safe_names_are_kept_unchanged() {
        for name in ["data.csv", "名前 (1).tar.gz", "a.b", "x", "it's 5%", "UPPER.TXT"] {
            assert_eq!(safe_name(name), name);
        }
    }

    #[test]
    fn hostile_names_become_plain_names() {
        for (written, expected) in [
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("/abs", "_abs"),
            ("..", "_"),
            (".", "_"),
            ("", "_"),
            ("-rf", "_rf"),
            (".bashrc", "_bashrc"),
            ("a\0b\nc", "a_b_c"),
            ("C:\\x", "C__x"),
            ("nul.txt", "_nul.txt"),
            ("evil\u{202e}gpj.exe", "evil_gpj.exe"),
            ("dots...", "dots"),
        ] {
            assert_eq!(safe_name(written), expected, "{written:?}");
        }
        let long = safe_name(&format!("{}.csv", "ü".repeat(5_000_000)));
        assert!(long.len() <= 200 && long.starts_with("üü"), "{}", long.len());
        assert!(safe_name(&format!("{}.csv", "ü".repeat(150))).ends_with("ü.csv"));
    }

    #[test]
    fn equal_names_are_numbered_ignoring_case() {
        let names = input_names(&task(&["a.csv", "A.csv", "a.csv", "a-2.csv", "noext", "noext"]));
        assert_eq!(names, ["a.csv", "A-2.csv", "a-3.csv", "a-2-2.csv", "noext", "noext-2"]);
    }

    #[test]
    fn task_json_follows_the_contract() {
        let told = task_json(&task(&["a b.csv"]), &["a b.csv".to_owned()]);
        assert_eq!(
            told,
            json!({"task_id": "t", "task_prompt": "do", "prompt": "do", "output_prompt": "as a table",
                   "input_files": [{"id": "f-a b.csv", "filename": "a b.csv", "size_bytes": 3,
                                    "local_path": "input/a b.csv"}]})
        );
    }
}
