//! The raw words of `executor.docker_args`: read as docker reads them, and refused where they would break a promise.
//!
//! A word that docker takes for the image, or a flag that takes another one's place, would turn the whole command into
//! something else; so flags that this table doesn't know must bring their value with them.

use std::path::{Path, PathBuf};
use std::slice::Iter;

use super::container_options::DockerArgs;
use super::values::normalize;
use super::{WORKSPACE, csv};

/// Flags of `docker run` that need no value.
const BOOLEAN: [&str; 16] = [
    "detach",
    "disable-content-trust",
    "help",
    "init",
    "interactive",
    "no-healthcheck",
    "oom-kill-disable",
    "privileged",
    "publish-all",
    "quiet",
    "read-only",
    "replace",
    "rm",
    "sig-proxy",
    "tty",
    "use-api-socket",
];

/// Flags of `docker run` that take one, in the same word or the next.
const VALUED: &str = "add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent \
    cgroupns cidfile cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus \
    cpuset-cpus cpuset-mems detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps \
    device-write-iops dns dns-opt dns-option dns-search domainname entrypoint env env-file expose gpus group-add \
    health-cmd health-interval health-retries health-start-interval health-start-period health-timeout hostname \
    io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label label-file link link-local-ip log-driver \
    log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount name net net-alias network \
    network-alias oom-score-adj pid pids-limit platform publish pull restart runtime security-opt shm-size \
    stop-signal stop-timeout storage-opt sysctl tmpfs ulimit user userns uts volume volume-driver volumes-from \
    workdir";

/// Flags with a letter of their own.
const LETTERS: [(char, &str); 15] = [
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

/// Reads the words. The error says which one is refused and why; it shows names of flags, no values.
pub(super) fn read(words: Vec<String>) -> Result<DockerArgs, String> {
    let mut noted = DockerArgs::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let flags = match word.strip_prefix("--") {
            Some(long) => vec![read_long(long, &mut rest)?],
            None => read_letters(word.strip_prefix('-').unwrap_or_default(), &mut rest)?,
        };
        for (name, value) in flags {
            check(name, value, &mut noted).map_err(|why| format!("must not hold `--{name}`: {why}"))?;
        }
    }
    noted.args = words;
    Ok(noted)
}

/// `flag`, `flag=value`, or `flag` with its value in the next word.
fn read_long<'w>(long: &'w str, rest: &mut Iter<'w, String>) -> Result<(&'w str, &'w str), String> {
    let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_name || name.starts_with('-') {
        return Err("has a word that begins with `--` and is no flag".to_owned());
    }
    match value {
        Some(value) => Ok((name, value)),
        None if BOOLEAN.contains(&name) => Ok((name, "")),
        None if VALUED.split_whitespace().any(|known| known == name) => match rest.next() {
            Some(value) => Ok((name, value)),
            None => Err(format!("ends with `--{name}`, whose value is missing")),
        },
        None => Err(format!("has `--{name}`, which isn't known here; write it with its value, as `--{name}=…`")),
    }
}

/// `e` in `-e`, or more letters in one word: `-it`. The first that takes a value takes the rest of the word for it.
fn read_letters<'w>(letters: &'w str, rest: &mut Iter<'w, String>) -> Result<Vec<(&'w str, &'w str)>, String> {
    if letters.is_empty() {
        return Err("has a word that docker would take for the image: each word must be a flag or a flag's value; \
                    what the image runs is set by `executor_type`"
            .to_owned());
    }
    let mut flags = Vec::new();
    let mut left = letters;
    while let Some(letter) = left.chars().next() {
        left = &left[letter.len_utf8()..];
        let Some((_, name)) = LETTERS.iter().find(|(known, _)| *known == letter) else {
            return Err("has a word that begins with `-` and is no flag".to_owned());
        };
        let value = match left.strip_prefix('=').filter(|value| !value.is_empty()) {
            Some(value) => value,
            None if BOOLEAN.contains(name) => {
                flags.push((*name, ""));
                continue;
            }
            None if !left.is_empty() => left,
            None => rest.next().ok_or_else(|| format!("ends with `-{letter}`, whose value is missing"))?,
        };
        flags.push((*name, value));
        break;
    }
    Ok(flags)
}

/// Refuses a flag that would break a promise, and notes what has to be known of the others.
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
        "env-file" if !is_absolute(value) => Err(must_be_absolute("its file")),
        "security-opt" => match value.split_once(['=', ':']) {
            Some(("seccomp", profile)) if !["unconfined", "builtin"].contains(&profile) && !is_absolute(profile) => {
                Err(must_be_absolute("its profile"))
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

fn refusal(name: &str) -> Option<&'static str> {
    Some(match name {
        "detach" => "the agent stays with a container until it ends",
        "rm" => "the stopped container is the evidence until its outcome is written down",
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

/// `-v`: `target`, `source:target` or `source:target:options`.
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
    // What isn't the place is options, which never begin with a slash.
    for target in targets.iter().enumerate().filter(|(i, part)| *i == 0 || part.starts_with('/')).map(|(_, part)| part)
    {
        note_target(target, Mounted::Files, noted)?;
    }
    if source.contains(['/', '\\']) || source.starts_with(['.', '~']) {
        note_source(&source, noted)?;
    }
    Ok(())
}

/// `--mount`: CSV of `key=value`.
fn check_mount(value: &str, noted: &mut DockerArgs) -> Result<(), String> {
    let fields = csv::fields(value).ok_or("its value isn't a line of CSV as docker reads it")?;
    let (mut kind, mut sources, mut targets) = ("volume".to_owned(), Vec::new(), Vec::new());
    for field in &fields {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = value.to_ascii_lowercase(),
            "source" | "src" => sources.push(value),
            "target" | "dst" | "destination" => targets.push(value),
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
            note_source(source, noted)?;
        }
    }
    Ok(())
}

/// What is mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounted {
    /// Something that outlives the container.
    Files,
    /// An empty folder that goes with it.
    Memory,
}

/// Results are what lies in the workspace; what is mounted in it from elsewhere is none, and must not hide what the
/// container is given or where it writes.
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

fn note_source(source: &str, noted: &mut DockerArgs) -> Result<(), String> {
    if !is_absolute(source) {
        return Err(must_be_absolute("its path of this machine"));
    }
    noted.sources.push(PathBuf::from(source));
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
