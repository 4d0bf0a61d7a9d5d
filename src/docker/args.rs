//! What a task's container should be, and the arguments of `docker run` for it: pure functions, no process.

use std::path::{Path, PathBuf};
use std::slice;

use super::options::{add, option_args};
use crate::config::{ExecutorConfig, Mount, Program, csv};

/// A container to be run.
#[derive(Debug, Clone)]
pub struct RunSpec<'c> {
    /// Its image and program, and what it may do and use.
    pub executor: &'c ExecutorConfig,
    /// The container's name, which is unique on the engine, so that no task runs twice (P1).
    pub name: String,
    /// Where docker writes the container's id as soon as it has one.
    pub cidfile: PathBuf,
    /// Labels by which the agent finds the container again.
    pub labels: Vec<(&'static str, String)>,
    pub mounts: Vec<Mount>,
    /// Variables of its environment. They are logged, so none of them is secret.
    pub env: Vec<(&'static str, String)>,
    /// A file with further variables, which may be secret.
    pub env_file: Option<PathBuf>,
}

impl RunSpec<'_> {
    /// The arguments of the `docker` that is executed.
    ///
    /// In the foreground and without `--rm`: the stopped container is the evidence until its outcome is recorded.
    /// `--sig-proxy=false` keeps signals that reach the client from the container. The engine's own log of the output
    /// has two files: with one, its rotation would drop nearly all of the output.
    pub fn executed(&self) -> Vec<String> {
        let mut args = ["run", "--name", &self.name, "--cidfile", &text(&self.cidfile)].map(str::to_owned).to_vec();
        add(&mut args, "--label", self.labels.iter().map(|(key, value)| format!("{key}={value}")));
        self.common(args)
    }

    /// The arguments that a person can paste at any time and any number of times (P6): the executed ones, with name,
    /// cidfile and labels replaced by `--rm`.
    pub fn pasteable(&self) -> Vec<String> {
        self.common(vec!["run".to_owned(), "--rm".to_owned()])
    }

    fn common(&self, mut args: Vec<String>) -> Vec<String> {
        args.push("--sig-proxy=false".to_owned());
        let log = ["--log-driver", "json-file", "--log-opt", "max-size=5m", "--log-opt", "max-file=2"];
        args.extend(log.map(str::to_owned));
        add(&mut args, "--mount", self.mounts.iter().map(mount_value));
        args.extend(["-w".to_owned(), self.executor.working_dir.clone()]);
        add(&mut args, "-e", self.env.iter().map(|(key, value)| format!("{key}={value}")));
        add(&mut args, "--env-file", self.env_file.as_deref().map(text));
        let targets: Vec<&str> = self.mounts.iter().map(|mount| mount.container.as_str()).collect();
        args.extend(option_args(&self.executor.options, &targets));
        add(&mut args, "-m", self.executor.memory_limit.clone());
        let (entrypoint, words) = match &self.executor.program {
            Program::Standard => (None, &[][..]),
            Program::Bash(script) => (Some("bash"), slice::from_ref(script)),
            Program::Python(script) => (Some("python"), slice::from_ref(script)),
            Program::Custom(words) => (words.first().map(String::as_str), words.get(1..).unwrap_or_default()),
        };
        add(&mut args, "--entrypoint", entrypoint.map(str::to_owned));
        args.extend(self.executor.options.docker_args.args.iter().cloned());
        args.push(self.executor.image.clone());
        args.extend(words.iter().cloned());
        args
    }
}

/// The arguments that remove `parent/name` in a container of `image`, as root and without a network.
pub fn remove_tree(image: &str, parent: &Path, name: &str) -> Vec<String> {
    let mount = Mount { host: parent.to_owned(), relative: false, container: "/parent".to_owned(), readonly: false };
    let args = ["run", "--rm", "--network", "none", "--user", "0", "--mount", &mount_value(&mount)].map(str::to_owned);
    let command = ["--entrypoint", "rm", image, "-rf", &format!("/parent/{name}")].map(str::to_owned);
    args.into_iter().chain(command).collect()
}

/// The value of docker's `--mount`.
pub(super) fn mount_value(mount: &Mount) -> String {
    let mut fields =
        vec!["type=bind".to_owned(), format!("source={}", text(&mount.host)), format!("target={}", mount.container)];
    if mount.readonly {
        fields.push("readonly".to_owned());
    }
    csv::line(fields.iter().map(String::as_str))
}

/// A path as text. The configuration takes only paths in UTF-8.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
