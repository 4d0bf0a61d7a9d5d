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
    /// Where docker writes the container's id as soon as it has one; a probe has no such file.
    pub cidfile: Option<PathBuf>,
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
        let mut args = ["run", "--name", &self.name].map(str::to_owned).to_vec();
        add(&mut args, "--cidfile", self.cidfile.as_deref().map(text));
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

/// A container that removes what is in a folder.
#[derive(Debug, Clone)]
pub struct RemovalSpec<'s> {
    pub name: &'s str,
    pub labels: Vec<(&'static str, String)>,
    pub executor: &'s ExecutorConfig,
    /// The folder on this machine.
    pub dir: &'s Path,
}

/// Where the container has the folder.
const REMOVED: &str = "/agent-core-remove";
/// Removes all that is in the current folder. Some programs named `rm` can't remove folders that are nested deeper than
/// a path may be long. For those, folders from deep inside are moved to the top, and the removal begins anew, as long as
/// there are any. A path of twelve names is never too long, but most are shorter, and then 400 are better.
/// A folder of a project of its own takes no folder of another.
const REMOVE: &str = r#"cd "$0" || exit 1
chattr -P . 2>/dev/null
pass=0
while :; do
    pass=$((pass + 1))
    find . -mindepth 1 -maxdepth 1 -exec rm -rf {} + 2>/dev/null
    [ -n "$(find . -mindepth 1 -maxdepth 1 | head -n 1)" ] || exit 0
    for depth in 400 12; do
        find . -mindepth $depth -maxdepth $depth -type d -exec sh -c '
            for dir; do n=$((n + 1)); mv "$dir" "./.removed-$0-$$-$n"; done' $pass {} + 2>/dev/null
        [ -z "$(find . -maxdepth 1 -name ".removed-$pass-*" | head -n 1)" ] || continue 2
    done
    find . -mindepth 1 -maxdepth 1 -exec rm -rf {} + 2>&1 | head -n 1 >&2
    exit 1
done"#;

impl RemovalSpec<'_> {
    /// The arguments of `docker run`: as root, so that nothing belongs to another user, and with no more than that takes.
    pub(super) fn args(&self) -> Vec<String> {
        let (host, container) = (self.dir.to_owned(), REMOVED.to_owned());
        let mount = Mount { host, relative: false, container, readonly: false };
        let mut args = ["run", "--rm", "--name", self.name].map(str::to_owned).to_vec();
        add(&mut args, "--label", self.labels.iter().map(|(key, value)| format!("{key}={value}")));
        add(&mut args, "--platform", self.executor.options.docker_args.platform.clone());
        args.extend(["--pull", "never", "--network", "none", "--user", "0", "--read-only"].map(str::to_owned));
        args.extend(["--security-opt", "no-new-privileges", "--cap-drop", "ALL"].map(str::to_owned));
        args.extend(["--cap-add", "DAC_OVERRIDE", "--cap-add", "FOWNER"].map(str::to_owned));
        args.extend(["--pids-limit", "64", "--memory", "512m", "--log-driver", "none"].map(str::to_owned));
        args.extend(["--mount", &mount_value(&mount)].map(str::to_owned));
        let command = ["--entrypoint", "sh", &self.executor.image, "-c", REMOVE, REMOVED].map(str::to_owned);
        args.into_iter().chain(command).collect()
    }
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
