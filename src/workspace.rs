//! The folder that a container sees as its workspace: what goes in, under which names, and the mounts beside it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::{Config, Mount};
use crate::deadline::{About, Repeated, no_answer};
use crate::platform;
use crate::protocol::Task;
use crate::record::TaskKey;

/// The longest file name that we make; file systems take 255 bytes, and a number may be added.
const NAME_MAX: usize = 200;

/// A task's workspace.
#[derive(Debug, Clone)]
pub struct Workspace {
    dir: PathBuf,
}

impl Workspace {
    /// The workspace of a task, whether or not it exists.
    pub fn of(data_dir: &Path, key: &TaskKey) -> Self {
        Self { dir: data_dir.join("workspaces").join(key.as_str()) }
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
            platform::open_to_all(&dir)?;
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
        platform::open_to_all(&path)?;
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

/// Makes sure that every mount's host path is there, and shows nothing that a container must not see.
///
/// A relative path that doesn't exist is made as a folder. An absolute one is not: it may be a network drive that
/// isn't mounted, and a container would take the empty folder for its data. The error names the path and the remedy.
///
/// A drive that gives no answer is an error, too. Whoever looks again and again keeps a [`MountWatch`].
pub fn check_mounts(config: &Config) -> Result<(), String> {
    MountWatch::default().look(config)
}

/// Looks at mounts as [`check_mounts`] does, again and again.
#[derive(Default)]
pub struct MountWatch(Repeated<Result<(), String>>);

impl MountWatch {
    /// See [`check_mounts`].
    pub fn look(&mut self, config: &Config) -> Result<(), String> {
        if config.paths.mounts.is_empty() && config.executor.options.raw.sources.is_empty() {
            return Ok(());
        }
        let config = config.clone();
        self.0.ask(move |about| look_at_mounts(&config, about)).unwrap_or_else(|path| {
            Err(format!("the mount's host path `{path}` {}; a network drive may be away", no_answer()))
        })
    }
}

fn look_at_mounts(config: &Config, about: &About) -> Result<(), String> {
    for mount in &config.paths.mounts {
        about.note(mount.host.to_string_lossy());
        if look_at_mount(config, mount)? == OnHost::ToBeMade {
            fs::create_dir_all(&mount.host).map_err(|error| {
                format!("the mount's host folder `{}` can't be made: {error}", mount.host.display())
            })?;
        }
    }
    config.executor.options.raw.sources.iter().try_for_each(|source| {
        about.note(source.to_string_lossy());
        look_at_raw_mount(config, source)
    })
}

/// Whether a mount's host path is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHost {
    /// It is.
    There,
    /// It isn't, and is one that is made.
    ToBeMade,
}

/// What [`check_mounts`] makes sure of, for one mount and without making anything.
pub fn look_at_mount(config: &Config, mount: &Mount) -> Result<OnHost, String> {
    let host = mount.host.display();
    let on_host = match fs::metadata(&mount.host) {
        Ok(_) => OnHost::There,
        Err(error) if error.kind() == io::ErrorKind::NotFound && mount.relative => OnHost::ToBeMade,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "the mount's host path `{host}` (for `{}`) doesn't exist; make it, or mount the drive it is on",
                mount.container
            ));
        }
        Err(error) => return Err(format!("the mount's host path `{host}` can't be used: {error}")),
    };
    check_exposure(config, &mount.host)?;
    Ok(on_host)
}

/// The same for what is mounted by `executor.docker_args`.
pub fn look_at_raw_mount(config: &Config, source: &Path) -> Result<(), String> {
    check_exposure(config, source)
}

/// The configuration file holds the key, and the data_dir holds other tasks' files: neither may lie in a mount, and no
/// mount in the data_dir.
fn check_exposure(config: &Config, mounted: &Path) -> Result<(), String> {
    let host = real(mounted);
    let (file, data_dir) = (real(&config.file), real(&config.paths.data_dir));
    let exposed = if file.starts_with(&host) {
        Some(("the configuration file", &config.file))
    } else if data_dir.starts_with(&host) || host.starts_with(&data_dir) {
        Some(("the data_dir", &config.paths.data_dir))
    } else {
        None
    };
    match exposed {
        Some((what, path)) => Err(format!(
            "the mount of `{}` would show {what} `{}` to every task; mount a folder that has no part of it",
            mounted.display(),
            path.display()
        )),
        None => Ok(()),
    }
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    if let Ok(whole) = fs::canonicalize(path) {
        return whole;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_mounts, input_names, safe_name, task_json};
    use crate::config::Config;
    use crate::protocol::{InputFile, Task};
    use serde_json::json;
    use std::fs;
    use std::path::Path;

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
    fn names_stay_what_they_are_where_that_is_safe() {
        for name in ["data.csv", "名前 (1).tar.gz", "a.b", "x", "it's 5%", "UPPER.TXT"] {
            assert_eq!(safe_name(name), name);
        }
    }

    #[test]
    fn hostile_names_become_plain_ones() {
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
    fn files_of_one_name_are_told_apart_ignoring_case() {
        let names = input_names(&task(&["a.csv", "A.csv", "a.csv", "a-2.csv", "noext", "noext"]));
        assert_eq!(names, ["a.csv", "A-2.csv", "a-3.csv", "a-2-2.csv", "noext", "noext-2"]);
    }

    #[test]
    fn the_container_is_told_what_the_contract_says() {
        let told = task_json(&task(&["a b.csv"]), &["a b.csv".to_owned()]);
        assert_eq!(
            told,
            json!({"task_id": "t", "task_prompt": "do", "prompt": "do", "output_prompt": "as a table",
                   "input_files": [{"id": "f-a b.csv", "filename": "a b.csv", "size_bytes": 3,
                                    "local_path": "input/a b.csv"}]})
        );
    }

    fn config(dir: &Path, host: &str) -> Config {
        let text = format!("[server]\nbase_url='http://h'\n[[paths.mounts]]\nhost='{host}'\ncontainer='/m'\n");
        fs::write(dir.join("config.toml"), &text).unwrap();
        Config::load(&dir.join("config.toml")).unwrap()
    }

    #[test]
    fn a_relative_mount_is_made_and_a_missing_absolute_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        check_mounts(&config(dir.path(), "./share/x")).unwrap();
        assert!(dir.path().join("share/x").is_dir());
        let missing = dir.path().join("nas");
        let wrong = check_mounts(&config(dir.path(), missing.to_str().unwrap())).unwrap_err();
        assert!(wrong.contains(missing.to_str().unwrap()) && wrong.contains("doesn't exist"), "{wrong}");
        assert!(!missing.exists());
    }

    #[test]
    fn a_mount_that_shows_the_key_or_other_tasks_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data/workspaces")).unwrap();
        for host in [".", "./config.toml", "./data", "./data/workspaces", "/"] {
            let wrong = check_mounts(&config(dir.path(), host)).unwrap_err();
            assert!(wrong.contains("would show"), "{host}: {wrong}");
        }
        #[cfg(unix)]
        {
            let raw = |host: &Path| {
                let words = format!("docker_args = ['-v', '{}:/m']", host.display());
                Config::parse(
                    &dir.path().join("config.toml"),
                    &format!("[server]\nbase_url='http://h'\n[executor]\n{words}"),
                )
            };
            let wrong = check_mounts(&raw(&dir.path().join("data/..")).unwrap()).unwrap_err();
            assert!(wrong.contains("would show"), "{wrong}");
            check_mounts(&raw(&dir.path().join("other")).unwrap()).unwrap();
            std::os::unix::fs::symlink(dir.path(), dir.path().join("innocent")).unwrap();
            assert!(check_mounts(&config(dir.path(), "./innocent")).unwrap_err().contains("would show"));
        }
    }
}
