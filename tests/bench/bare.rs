//! Bare docker: the command that the agent prints of a task, run by hand.

use crate::agents::{Site, open_folder};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The words of such a `docker run --rm …`, to be run for other tasks in workspaces of their own.
pub struct Bare {
    words: Vec<String>,
    task_id: String,
    /// The workspace in the words.
    workspace: String,
    /// The folder of the other workspaces.
    folder: PathBuf,
}

impl Bare {
    /// Takes the command of a task that the agent has run.
    pub fn of(site: &Site, task_id: &str) -> Self {
        let printed = site.agent.run(&["command", task_id]);
        printed.expect_code(0);
        let line = printed.stdout.lines().last().unwrap_or_default();
        let words = shlex::split(line).expect("the command can be pasted");
        let workspace = site.agent.workspace(task_id).to_string_lossy().into_owned();
        assert!(words.iter().any(|word| word.contains(&workspace)), "no workspace in {words:?}");
        Self { words, task_id: task_id.to_owned(), workspace, folder: site.agent.path("bare") }
    }

    /// The words for another task.
    fn words_for(&self, id: &str) -> Vec<String> {
        let workspace = self.folder.join(id).to_string_lossy().into_owned();
        let replaced = |word: &String| word.replace(&self.workspace, &workspace).replace(&self.task_id, id);
        self.words.iter().map(replaced).collect()
    }

    fn make_workspace(&self, id: &str) {
        open_folder(&self.folder.join(id));
        open_folder(&self.folder.join(id).join("output"));
    }

    /// Starts the command for a task of this name; returns it with the time just before.
    pub fn start(&self, id: &str) -> (Child, Instant) {
        self.make_workspace(id);
        let words = self.words_for(id);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        (command.spawn().expect("run docker"), began)
    }

    /// Runs the command for so many tasks by `xargs -P`, and returns how long that took. Each task must leave `result`.
    pub fn makespan(&self, name: &str, count: usize, at_once: usize) -> Duration {
        let ids: Vec<String> = (0..count).map(|number| format!("{name}-{number}")).collect();
        ids.iter().for_each(|id| self.make_workspace(id));
        let mut command = Command::new("xargs");
        command.args(["-P", &at_once.to_string(), "-I", "{}"]).args(self.words_for("{}"));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let began = Instant::now();
        let mut xargs = command.spawn().expect("run xargs");
        let mut stdin = xargs.stdin.take().expect("a pipe");
        stdin.write_all((ids.join("\n") + "\n").as_bytes()).expect("name the tasks");
        drop(stdin);
        let status = xargs.wait().expect("wait for xargs");
        let took = began.elapsed();
        assert!(status.success(), "bare docker: {status}");
        for id in &ids {
            let result = self.folder.join(id).join("output/result");
            assert!(result.is_file(), "{} is missing", result.display());
        }
        took
    }
}
