//! What a task's container should be, and the `docker run` command line that makes it: pure functions, no process.

use std::path::{Path, PathBuf};

use crate::config::container_options::ContainerOptions;
use crate::config::csv;

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The absolute path on this machine.
    pub source: PathBuf,
    /// The absolute path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub readonly: bool,
}

/// Everything that `docker run` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    /// The container's name: unique on the engine, so that nothing runs twice (P1).
    pub name: String,
    /// Where docker writes the container's id as soon as it has one.
    pub cidfile: PathBuf,
    /// Labels by which the container is found again.
    pub labels: Vec<(&'static str, String)>,
    /// What it sees of this machine.
    pub binds: Vec<Bind>,
    /// Its working directory.
    pub working_dir: String,
    /// Variables of its environment. They are logged: nothing secret goes in here.
    pub env: Vec<(&'static str, String)>,
    /// A file with more of them, which may be secret.
    pub env_file: Option<PathBuf>,
    /// What it may do and use.
    pub options: ContainerOptions,
    /// docker's `-m`.
    pub memory_limit: Option<String>,
    /// What replaces the image's ENTRYPOINT.
    pub entrypoint: Option<String>,
    /// The image.
    pub image: String,
    /// What follows the image.
    pub args: Vec<String>,
}

impl RunSpec {
    /// The arguments of the `docker` that is executed.
    ///
    /// In the foreground and without `--rm`: the stopped container is the evidence until its outcome is recorded.
    /// `--sig-proxy=false` keeps signals that reach the client from the container. The engine's own log of the output
    /// has two files, since with one rotation throws nearly all of it away.
    pub fn executed(&self) -> Vec<String> {
        let mut words = vec!["run".to_owned(), "--name".to_owned(), self.name.clone()];
        words.extend(["--cidfile".to_owned(), text(&self.cidfile)]);
        for (key, value) in &self.labels {
            words.extend(["--label".to_owned(), format!("{key}={value}")]);
        }
        self.common(words)
    }

    /// The arguments that a person can paste at any time and as often as they like (P6): those executed, with what
    /// ties the container to the task replaced by `--rm`.
    pub fn pasteable(&self) -> Vec<String> {
        self.common(vec!["run".to_owned(), "--rm".to_owned()])
    }

    fn common(&self, mut words: Vec<String>) -> Vec<String> {
        words.push("--sig-proxy=false".to_owned());
        for option in ["json-file", "max-size=5m", "max-file=2"] {
            let flag = if option.contains('=') { "--log-opt" } else { "--log-driver" };
            words.extend([flag.to_owned(), option.to_owned()]);
        }
        for bind in &self.binds {
            words.extend(["--mount".to_owned(), mount_value(bind)]);
        }
        words.extend(["-w".to_owned(), self.working_dir.clone()]);
        for (key, value) in &self.env {
            words.extend(["-e".to_owned(), format!("{key}={value}")]);
        }
        if let Some(file) = &self.env_file {
            words.extend(["--env-file".to_owned(), text(file)]);
        }
        let targets: Vec<&str> = self.binds.iter().map(|bind| bind.target.as_str()).collect();
        words.extend(self.options.words(&targets));
        if let Some(limit) = &self.memory_limit {
            words.extend(["-m".to_owned(), limit.clone()]);
        }
        if let Some(entrypoint) = &self.entrypoint {
            words.extend(["--entrypoint".to_owned(), entrypoint.clone()]);
        }
        words.extend(self.options.docker_args.args.iter().cloned());
        words.push(self.image.clone());
        words.extend(self.args.iter().cloned());
        words
    }
}

/// The arguments that remove `parent/name` in a container of `image`, as root and without a network.
pub fn remove_tree(image: &str, parent: &Path, name: &str) -> Vec<String> {
    let bind = Bind { source: parent.to_owned(), target: "/parent".to_owned(), readonly: false };
    let words = ["run", "--rm", "--network", "none", "--user", "0", "--mount", &mount_value(&bind)].map(str::to_owned);
    let command = ["--entrypoint", "rm", image, "-rf", &format!("/parent/{name}")].map(str::to_owned);
    words.into_iter().chain(command).collect()
}

/// The value of docker's `--mount`.
pub(super) fn mount_value(bind: &Bind) -> String {
    let mut fields =
        vec!["type=bind".to_owned(), format!("source={}", text(&bind.source)), format!("target={}", bind.target)];
    if bind.readonly {
        fields.push("readonly".to_owned());
    }
    csv::line(fields.iter().map(String::as_str))
}

/// Paths were checked to be UTF-8 when the configuration was read.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Bind, RunSpec};
    use crate::config::container_options::{ContainerOptions, DockerArgs, Isolation, Pull};

    fn spec() -> RunSpec {
        RunSpec {
            name: "open-aaas-task-t1".to_owned(),
            cidfile: "/d/tasks/t1/cid".into(),
            labels: vec![("open-aaas.task", "t1".to_owned()), ("open-aaas.instance", "abc".to_owned())],
            binds: vec![
                Bind { source: "/d/workspaces/t1".into(), target: "/workspace".to_owned(), readonly: false },
                Bind { source: "/data, old \"x\"".into(), target: "/shared".to_owned(), readonly: true },
            ],
            working_dir: "/workspace".to_owned(),
            env: vec![("TASK_ID", "t1".to_owned()), ("TIMEOUT", "60".to_owned())],
            env_file: None,
            options: ContainerOptions::default(),
            memory_limit: Some("4g".to_owned()),
            entrypoint: Some("/bin/sh".to_owned()),
            image: "img:1".to_owned(),
            args: vec!["-c".to_owned(), "echo 'hi'\necho \"$HOME\"\n".to_owned()],
        }
    }

    /// Every option that there is, with the strictest level.
    fn full_spec() -> RunSpec {
        let options = ContainerOptions {
            isolation: Isolation::Strict,
            network: Some("none".to_owned()),
            cpus: Some("1.5".to_owned()),
            pids_limit: Some(99),
            shm_size: Some("1g".to_owned()),
            user: Some("1000:100".to_owned()),
            gpus: Some("all".to_owned()),
            devices: vec!["/dev/kfd".to_owned()],
            host_access: true,
            pull: Some(Pull::Always),
            docker_args: DockerArgs {
                args: ["--hostname", "a b"].map(str::to_owned).to_vec(),
                ..DockerArgs::default()
            },
        };
        RunSpec { env_file: Some("/d/tasks/t1/env".into()), options, ..spec() }
    }

    /// What ties an executed container to its task.
    const TIES: &[&str] = &[
        "--name",
        "open-aaas-task-t1",
        "--cidfile",
        "/d/tasks/t1/cid",
        "--label",
        "open-aaas.task=t1",
        "--label",
        "open-aaas.instance=abc",
    ];

    const FIRST: &[&str] = &[
        "--sig-proxy=false",
        "--log-driver",
        "json-file",
        "--log-opt",
        "max-size=5m",
        "--log-opt",
        "max-file=2",
        "--mount",
        "type=bind,source=/d/workspaces/t1,target=/workspace",
        "--mount",
        "type=bind,\"source=/data, old \"\"x\"\"\",target=/shared,readonly",
        "-w",
        "/workspace",
        "-e",
        "TASK_ID=t1",
        "-e",
        "TIMEOUT=60",
    ];

    const STANDARD: &[&str] = &[
        "--security-opt",
        "no-new-privileges",
        "--cap-drop",
        "NET_RAW",
        "--cap-drop",
        "MKNOD",
        "--pids-limit",
        "4096",
    ];

    const FULL: &[&str] = &[
        "--env-file",
        "/d/tasks/t1/env",
        "--security-opt",
        "no-new-privileges",
        "--cap-drop",
        "ALL",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--pids-limit",
        "99",
        "--network",
        "none",
        "--cpus",
        "1.5",
        "--shm-size",
        "1g",
        "--user",
        "1000:100",
        "--gpus",
        "all",
        "--device",
        "/dev/kfd",
        "--add-host",
        "host.docker.internal:host-gateway",
        "--pull",
        "always",
    ];

    const LAST: &[&str] = &["-m", "4g", "--entrypoint", "/bin/sh"];
    const COMMAND: &[&str] = &["img:1", "-c", "echo 'hi'\necho \"$HOME\"\n"];

    #[test]
    fn executed_arguments_are_complete_and_in_order() {
        assert_eq!(spec().executed(), [&["run"], TIES, FIRST, STANDARD, LAST, COMMAND].concat());
        let with_all = [&["run"], TIES, FIRST, FULL, LAST, &["--hostname", "a b"], COMMAND].concat();
        assert_eq!(full_spec().executed(), with_all);
    }

    #[test]
    fn pasteable_arguments_omit_name_labels_and_cidfile() {
        assert_eq!(spec().pasteable(), [&["run", "--rm"], FIRST, STANDARD, LAST, COMMAND].concat());
        let with_all = [&["run", "--rm"], FIRST, FULL, LAST, &["--hostname", "a b"], COMMAND].concat();
        assert_eq!(full_spec().pasteable(), with_all);
    }

    #[test]
    fn isolation_none_adds_no_isolation_arguments() {
        let options = ContainerOptions { isolation: Isolation::None, ..ContainerOptions::default() };
        let spec = RunSpec { options, ..spec() };
        assert_eq!(spec.executed(), [&["run"], TIES, FIRST, LAST, COMMAND].concat());
        assert_eq!(spec.pasteable(), [&["run", "--rm"], FIRST, LAST, COMMAND].concat());
    }
}
