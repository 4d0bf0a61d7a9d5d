//! `executor.docker_args`: further arguments of `docker run`, each a word `--flag` or `--flag=value`.
//!
//! There is one form, so that docker and this program read the same: where a value could stand in a word of its own, docker
//! could take one of the agent's words for the value, such as the image. A flag stands without a value only where docker
//! never takes the next word for one, which is so for the few in [`SWITCHES`]. Every other flag needs its `=`, also one
//! that docker gets tomorrow, so no list of docker's flags has to be kept.

use std::path::{Path, PathBuf};

use super::container_options::{DockerArgs, HostPath};
use super::values::normalize;
use super::{WORKSPACE, csv};
use crate::text::escape;

/// The flags that docker reads as on or off, apart from refused ones.
pub(super) const SWITCHES: [&str; 9] = [
    "disable-content-trust",
    "init",
    "no-healthcheck",
    "oom-kill-disable",
    "privileged",
    "publish-all",
    "quiet",
    "read-only",
    "use-api-socket",
];

/// Short flags, for messages that show the long one.
const SHORT_FLAGS: [(char, &str); 15] = [
    ('P', "publish-all"),
    ('a', "attach"),
    ('c', "cpu-shares"),
    ('d', "detach"),
    ('e', "env"),
    ('h', "hostname"),
    ('i', "interactive"),
    ('l', "label"),
    ('m', "memory"),
    ('p', "publish"),
    ('q', "quiet"),
    ('t', "tty"),
    ('u', "user"),
    ('v', "volume"),
    ('w', "workdir"),
];

/// Reads the arguments.
///
/// # Errors
/// The first argument that is refused, and why. The value of a variable is not shown.
pub(super) fn read(args: Vec<String>) -> Result<DockerArgs, String> {
    let mut noted = DockerArgs::default();
    for (index, arg) in args.iter().enumerate() {
        let next = args.get(index + 1).map(String::as_str);
        let (name, value) = read_flag(arg, next)?;
        check(name, value, &mut noted).map_err(|why| format!("must not hold `--{name}`: {why}"))?;
    }
    noted.args = args;
    Ok(noted)
}

/// Name and value of a flag. `next` is the argument behind it, which messages show where it seems to be the value.
fn read_flag<'a>(arg: &'a str, next: Option<&str>) -> Result<(&'a str, &'a str), String> {
    let Some(long) = arg.strip_prefix("--") else { return Err(refuse_short(arg, next)) };
    let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_name || name.starts_with('-') {
        return Err("has a word that begins with `--` and is no flag".to_owned());
    }
    match value {
        Some(value) => Ok((name, value)),
        // The reason of a refusal is worth more than the right form of a flag that is refused then.
        None if SWITCHES.contains(&name) || refusal(name).is_some() => Ok((name, "")),
        None => Err(one_word(arg, name, next)),
    }
}

/// The mistake in an argument that doesn't begin with `--`.
fn refuse_short(arg: &str, next: Option<&str>) -> String {
    let mut letters = arg.strip_prefix('-').unwrap_or_default().chars();
    let Some(letter) = letters.next() else {
        return "has a word that docker would take for the image: each word must be `--flag` or `--flag=value`; what the \
                image runs is set by `executor_type`"
            .to_owned();
    };
    let Some((_, name)) = SHORT_FLAGS.iter().find(|(known, _)| *known == letter) else {
        return "has a word that begins with `-` and is no flag".to_owned();
    };
    if let Some(why) = refusal(name) {
        return format!("must not hold `--{name}`: {why}");
    }
    if SWITCHES.contains(name) {
        return format!("has the short flag `-{letter}`; write `--{name}`");
    }
    let attached = letters.as_str();
    let value = attached.strip_prefix('=').unwrap_or(attached);
    one_word(&format!("-{letter}"), name, if value.is_empty() { next } else { Some(value) })
}

/// The message for a flag without a `=`, with the form in which it is read.
fn one_word(written: &str, name: &str, value: Option<&str>) -> String {
    let value = value.filter(|value| !value.starts_with('-'));
    let or = match name {
        "volume" | "mount" => ", or use `[[paths.mounts]]`",
        "env" => ", or use `[executor.env]`",
        _ if value.is_none() => "; for a flag that is on or off, the value is `true` or `false`",
        _ => "",
    };
    // A variable may be secret.
    let shown = value.filter(|_| name != "env").map_or("…".to_owned(), escape);
    format!("has `{written}`; write a flag and its value in one word, `--{name}={shown}`{or}")
}

/// Refuses a flag that would break a promise, and notes mounts and platform.
fn check(name: &str, value: &str, noted: &mut DockerArgs) -> Result<(), String> {
    if value.contains('\0') {
        return Err("its value holds a NUL character, which no command can have".to_owned());
    }
    if let Some(why) = refusal(name) {
        return Err(why.to_owned());
    }
    match name {
        "env" if ["TASK_ID", "TIMEOUT"].contains(&value.split('=').next().unwrap_or_default()) => {
            Err("TASK_ID and TIMEOUT are the agent's own".to_owned())
        }
        "label" if value.trim_start().starts_with("open-aaas.") => {
            Err("labels that begin with `open-aaas.` are the agent's own".to_owned())
        }
        "env-file" => note_file(value, "its file", noted),
        "security-opt" => match value.split_once(['=', ':']) {
            Some(("seccomp", profile)) if !["unconfined", "builtin"].contains(&profile) => {
                note_file(profile, "its profile", noted)
            }
            _ => Ok(()),
        },
        "platform" => {
            noted.platform = Some(value.to_owned());
            Ok(())
        }
        "volume" => check_volume(value, noted),
        "mount" => check_mount(value, noted),
        "tmpfs" => note_target(value.split(':').next().unwrap_or_default(), Mounted::Memory, noted),
        _ => Ok(()),
    }
}

/// Why a flag is refused with any value.
fn refusal(name: &str) -> Option<&'static str> {
    Some(match name {
        "detach" => "the agent stays with a container until it ends",
        // `--rmi` and `--purge` are podman's.
        "rm" | "rmi" | "purge" => "the stopped container is the evidence until its outcome is written down",
        "name" | "cidfile" | "label-file" | "replace" => "it is by this that the agent finds its containers again",
        "sig-proxy" => "a signal that reaches the docker client must not reach the container",
        "restart" => "a task runs once",
        "log-driver" | "log-opt" => "the agent reads the container's output from the engine's own log",
        "attach" | "detach-keys" | "interactive" | "tty" => {
            "the agent reads both outputs of the container, which has no input"
        }
        "entrypoint" => "use `executor_type = \"custom\"` and `custom_entrypoint`",
        "workdir" => "use `executor.working_dir`",
        "pull" => "use `executor.pull`",
        "volumes-from" => "what it mounts can't be checked; use `[[paths.mounts]]`",
        "help" => "docker would print its help and run nothing",
        _ => return None,
    })
}

/// `--volume`: `target`, `source:target` or `source:target:options`.
fn check_volume(value: &str, noted: &mut DockerArgs) -> Result<(), String> {
    let parts: Vec<&str> = value.split(':').collect();
    let (source, targets) = match parts[..] {
        [target] => return note_target(target, Mounted::Files, noted),
        // A drive of Windows.
        [drive, path, ref targets @ ..]
            if drive.len() == 1 && (path.starts_with('\\') || cfg!(windows) && path.starts_with('/')) =>
        {
            (format!("{drive}:{path}"), targets)
        }
        [source, ref targets @ ..] => (source.to_owned(), targets),
        [] => return Ok(()),
    };
    // A part that is no path is options, which never begin with a slash.
    for target in targets.iter().enumerate().filter(|(i, part)| *i == 0 || part.starts_with('/')).map(|(_, part)| part)
    {
        note_target(target, Mounted::Files, noted)?;
    }
    let readonly = targets.iter().skip(1).flat_map(|options| options.split(',')).any(|option| option == "ro");
    if source.contains(['/', '\\']) || source.starts_with(['.', '~']) {
        note_source(&source, readonly, noted)?;
    }
    Ok(())
}

/// `--mount`: CSV of `key=value`.
fn check_mount(value: &str, noted: &mut DockerArgs) -> Result<(), String> {
    let fields = csv::fields(value).ok_or("its value isn't a line of CSV as docker reads it")?;
    let (mut kind, mut sources, mut targets) = ("volume".to_owned(), Vec::new(), Vec::new());
    let mut readonly = false;
    for field in &fields {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = value.to_ascii_lowercase(),
            "source" | "src" => sources.push(value),
            "target" | "dst" | "destination" => targets.push(value),
            // Without a value it is on.
            "readonly" | "ro" => readonly = matches!(value, "" | "1" | "true"),
            _ => {}
        }
    }
    if targets.is_empty() {
        return Err("its value names no target".to_owned());
    }
    let mounted = if kind == "tmpfs" { Mounted::Memory } else { Mounted::Files };
    for target in targets {
        note_target(target, mounted, noted)?;
    }
    if kind == "bind" {
        for source in sources {
            note_source(source, readonly, noted)?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounted {
    /// Files that outlive the container.
    Files,
    /// An empty folder that is removed with the container.
    Memory,
}

/// Results are the files of the workspace. Files that are mounted into it are no results, and a mount must not hide the
/// task's input or the places of its output.
fn note_target(target: &str, mounted: Mounted, noted: &mut DockerArgs) -> Result<(), String> {
    if !target.starts_with('/') {
        return Err("its place in the container must be an absolute path".to_owned());
    }
    let target = normalize(target);
    if let Some(inner) = target.strip_prefix(WORKSPACE).filter(|inner| inner.is_empty() || inner.starts_with('/')) {
        let first = inner.split('/').nth(1).unwrap_or_default();
        let is_ours = ["", "task.json", "input"].contains(&first) || inner == "/output";
        if is_ours {
            return Err(format!("`{WORKSPACE}{inner}` is the task's own"));
        }
        if mounted == Mounted::Files {
            return Err(format!("use `[[paths.mounts]]` for places in `{WORKSPACE}`, so that they are no results"));
        }
    }
    noted.targets.push(target);
    Ok(())
}

fn note_source(source: &str, readonly: bool, noted: &mut DockerArgs) -> Result<(), String> {
    if !is_absolute(source) {
        return Err(must_be_absolute("its path of this machine"));
    }
    noted.sources.push(HostPath { path: PathBuf::from(source), readonly });
    Ok(())
}

fn note_file(path: &str, what: &str, noted: &mut DockerArgs) -> Result<(), String> {
    if !is_absolute(path) {
        return Err(must_be_absolute(what));
    }
    noted.files.push(PathBuf::from(path));
    Ok(())
}

/// Also on Windows, docker takes paths that begin with a slash.
fn is_absolute(path: &str) -> bool {
    path.starts_with('/') || Path::new(path).is_absolute()
}

/// docker would look in its working directory, which is another one where the command is pasted.
fn must_be_absolute(what: &str) -> String {
    format!("{what} must be written as an absolute path")
}

#[cfg(test)]
mod tests;
