//! The rules of each section: keys, bounds, defaults, and what a path of this machine means.

use std::collections::HashSet;
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use super::container::{read_env, read_options};
use super::reader::{Findings, Located, Section};
use super::{
    AgentConfig, Credentials, Environment, Exclude, ExecutorConfig, Mount, OutputsConfig, PathsConfig, Program, Secret,
    ServerConfig, WORKSPACE, clean_base_url,
};
use crate::data_dir::DataDir;

pub(super) fn read_server(mut section: Section<'_>, findings: &mut Findings) -> Option<ServerConfig> {
    let written = section.string("base_url");
    let poll_interval = section.integer("poll_interval_secs", 1..=3600).map_or(5, |n| n.value);
    let use_system_proxy = section.boolean("use_system_proxy").unwrap_or(false);
    let max_requests = section.integer("max_requests_per_minute", 0..=100_000);
    if let Some(Located { value: 1..20, span }) = &max_requests {
        let wrong = "must be 0 (no limit) or at least 20: heartbeats and polls alone need that";
        section.refuse("max_requests_per_minute", span.clone(), wrong);
    }
    let max_requests = max_requests.map_or(140, |n| n.value);
    let base_url = match written {
        Some(Located { value, span }) => match clean_base_url(&value) {
            Ok(url) => Some(url),
            Err(wrong) => {
                section.refuse("base_url", span, &format!("{wrong}: `{value}`"));
                None
            }
        },
        None => {
            if !section.has_problems() {
                section.miss("base_url", "write the Server's address, such as \"http://127.0.0.1:8080\"");
            }
            None
        }
    };
    section.finish(findings);
    Some(ServerConfig {
        base_url: base_url?,
        poll_interval: Duration::from_secs(poll_interval),
        use_system_proxy,
        environment: Environment::default(),
        max_requests_per_minute: usize::try_from(max_requests).unwrap_or(usize::MAX),
    })
}

pub(super) fn read_agent(mut section: Section<'_>, findings: &mut Findings) -> AgentConfig {
    let service_id = section.string("service_id").filter(|id| !id.value.is_empty());
    let api_key = section.string("api_key").filter(|key| !key.value.is_empty());
    let name = section.string("name").map_or_else(|| "agent-core".to_owned(), |name| name.value);
    let wrong = match (&service_id, &api_key) {
        (Some(id), _) if !is_service_id(&id.value) => Some(("service_id", id, "holds characters that no id has")),
        (_, Some(key)) if !is_api_key(&key.value) => Some(("api_key", key, "holds characters that no key has")),
        // A value of a wrong type has been said already.
        _ if section.has_problems() => None,
        (Some(id), None) => Some(("service_id", id, "stands without `agent.api_key`")),
        (None, Some(key)) => Some(("api_key", key, "stands without `agent.service_id`")),
        _ => None,
    };
    if let Some((key, written, why)) = wrong {
        section.refuse(key, written.span.clone(), &format!("{why}; register again"));
    }
    section.finish(findings);
    let credentials =
        service_id.zip(api_key).map(|(id, key)| Credentials { service_id: id.value, api_key: Secret::new(key.value) });
    AgentConfig { credentials, name }
}

/// Whether the text can be the Server's id of a service: it goes into every request's headers, and into its path.
pub fn is_service_id(text: &str) -> bool {
    is_header_word(text) && !text.contains(['/', '\\', '?', '#', '%'])
}

/// Whether the text can be a key: it goes into every request's headers.
pub fn is_api_key(text: &str) -> bool {
    is_header_word(text)
}

pub(super) fn read_executor(mut section: Section<'_>, file: &Path, findings: &mut Findings) -> Option<ExecutorConfig> {
    let image = section.string("image");
    let capacity = section.integer("capacity", 1..=1000).map_or(2, |n| n.value);
    let timeout_minutes = section.integer("timeout_minutes", 0..=5_256_000).map_or(0, |n| n.value);
    let idle_timeout_minutes = section.integer("idle_timeout_minutes", 0..=5_256_000).map_or(0, |n| n.value);
    let memory_limit = section.string("memory_limit");
    let docker = read_docker(&mut section, file);
    let working_dir = section.string("working_dir");
    if let Some(image) = image.as_ref().filter(|image| !is_image_name(&image.value)) {
        section.refuse("image", image.span.clone(), &format!("is no name of an image: `{}`", image.value));
    }
    if let Some(limit) = memory_limit.as_ref().filter(|limit| !is_memory_limit(&limit.value)) {
        let wrong = format!("must be a number and a unit, such as \"512m\" or \"4g\", not `{}`", limit.value);
        section.refuse("memory_limit", limit.span.clone(), &wrong);
    }
    if let Some(dir) = working_dir.as_ref().filter(|dir| !is_container_path(&dir.value)) {
        let wrong = format!("must be an absolute path inside the container, not `{}`", dir.value);
        section.refuse("working_dir", dir.span.clone(), &wrong);
    }
    let working_dir = working_dir.map_or_else(|| WORKSPACE.to_owned(), |dir| dir.value);
    let program = read_program(&mut section, &working_dir);
    let options = read_options(&mut section, findings);
    let env = read_env(&mut section);
    section.finish(findings);
    Some(ExecutorConfig {
        program: program?,
        image: image.map_or_else(|| "open-aaas-executor:latest".to_owned(), |image| image.value),
        capacity: usize::try_from(capacity).ok()?,
        timeout_minutes,
        memory_limit: memory_limit.map(|limit| limit.value),
        working_dir,
        docker,
        idle_timeout_minutes,
        options,
        env,
    })
}

/// The docker client. A bare name is looked for in PATH; anything with a separator is a path of this machine.
fn read_docker(section: &mut Section<'_>, file: &Path) -> String {
    let Some(written) = section.string("docker") else { return "docker".to_owned() };
    if !written.value.contains(['/', '\\']) && !written.value.is_empty() && !written.value.starts_with('-') {
        return written.value;
    }
    match resolve_host(file, &written.value) {
        Ok((path, _)) => path.to_string_lossy().into_owned(),
        Err(wrong) => {
            section.refuse("docker", written.span, &wrong);
            written.value
        }
    }
}

fn read_program(section: &mut Section<'_>, working_dir: &str) -> Option<Program> {
    let executor_type = section.string("executor_type");
    let script = section.string("script_path");
    let entrypoint = section.strings("custom_entrypoint");
    let args = section.strings("custom_args");
    for (key, words) in [("custom_entrypoint", &entrypoint), ("custom_args", &args)] {
        if let Some(words) = words.as_ref().filter(|words| words.value.iter().any(|word| word.contains('\0'))) {
            section.refuse(key, words.span.clone(), "holds a NUL character, which no command can have");
        }
    }
    if let Some(path) = script.as_ref().filter(|path| path.value.is_empty() || path.value.contains('\0')) {
        section.refuse("script_path", path.span.clone(), "must be a path inside the container");
    }
    let script_or = |name: &str| match &script {
        Some(path) => path.value.clone(),
        None => format!("{}/{name}", working_dir.trim_end_matches('/')),
    };
    match executor_type.as_ref().map_or("standard", |written| written.value.as_str()) {
        "standard" => Some(Program::Standard),
        "bash" => Some(Program::Bash(script_or("run.sh"))),
        "python" => Some(Program::Python(script_or("run.py"))),
        "custom" => match entrypoint {
            Some(words) if words.value.first().is_some_and(|first| !first.is_empty()) => {
                let mut command = words.value;
                command.extend(args.into_iter().flat_map(|args| args.value));
                Some(Program::Custom(command))
            }
            Some(words) => {
                section.refuse("custom_entrypoint", words.span, "must name a program in its first word");
                None
            }
            None => {
                section.miss("custom_entrypoint", "`executor_type = \"custom\"` runs its words, such as [\"/bin/sh\"]");
                None
            }
        },
        other => {
            let wrong = format!("must be \"standard\", \"bash\", \"python\" or \"custom\", not `{other}`");
            let span = executor_type.as_ref().map(|written| written.span.clone()).unwrap_or_default();
            section.refuse("executor_type", span, &wrong);
            None
        }
    }
}

pub(super) fn read_paths(mut section: Section<'_>, file: &Path, findings: &mut Findings) -> Option<PathsConfig> {
    let data_dir = section.string("data_dir");
    let data_dir = match data_dir {
        None => Some(resolve_host(file, "./data").ok()?.0),
        Some(written) => match resolve_host(file, &written.value) {
            Ok((path, _)) => Some(path),
            Err(wrong) => {
                section.refuse("data_dir", written.span, &wrong);
                None
            }
        },
    };
    let min_free_disk_mb = section.integer("min_free_disk_mb", 0..=1 << 40).map_or(1024, |n| n.value);
    let retention_hours = section.integer("retention_hours", 0..=1_000_000).map_or(168, |n| n.value);
    let mut mounts: Vec<Mount> = Vec::new();
    let mut targets = HashSet::new();
    for mut entry in section.sections("mounts") {
        if let Some(mount) = read_mount(&mut entry, file, &mut targets) {
            mounts.push(mount);
        }
        entry.finish(findings);
    }
    section.finish(findings);
    let retention_hours = (retention_hours > 0).then_some(retention_hours);
    Some(PathsConfig { data_dir: DataDir::new(data_dir?), mounts, min_free_disk_mb, retention_hours })
}

pub(super) fn read_outputs(mut section: Section<'_>, findings: &mut Findings) -> OutputsConfig {
    const MIB: u64 = 1 << 20;
    let max_file = section.integer("max_file_mb", 1..=1 << 30).map_or(50, |n| n.value) * MIB;
    let max_files = section.integer("max_files", 1..=1_000_000).map_or(1000, |n| n.value);
    let max_total = section.integer("max_total_mb", 1..=1 << 30).map_or(2048, |n| n.value) * MIB;
    let exclude = match section.strings("exclude") {
        None => Exclude::default(),
        Some(written) => Exclude::new(&written.value).unwrap_or_else(|wrong| {
            section.refuse("exclude", written.span, &wrong);
            Exclude::default()
        }),
    };
    section.finish(findings);
    OutputsConfig { max_file, max_files: usize::try_from(max_files).unwrap_or(usize::MAX), max_total, exclude }
}

fn read_mount(entry: &mut Section<'_>, file: &Path, targets: &mut HashSet<String>) -> Option<Mount> {
    let host = entry.string("host");
    let container = entry.string("container");
    let readonly = entry.boolean("readonly").unwrap_or(false);
    let clean = !entry.has_problems();
    if host.is_none() && clean {
        entry.miss("host", "write the folder of this machine that the container is to see");
    }
    if container.is_none() && clean {
        entry.miss("container", "write the absolute path where the container is to see it");
    }
    let (host, container) = (host?, container?);
    // The same place has one spelling, so that it can be compared with others.
    let parts: Vec<&str> = container.value.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let target = format!("/{}", parts.join("/"));
    if !is_container_path(&container.value) || parts.is_empty() {
        let wrong = format!("must be an absolute path inside the container, not `{}`", container.value);
        entry.refuse("container", container.span, &wrong);
        return None;
    }
    if target == WORKSPACE || [format!("{WORKSPACE}/task.json"), format!("{WORKSPACE}/input")].contains(&target) {
        entry.refuse("container", container.span, &format!("must leave `{target}` to the task"));
        return None;
    }
    if !targets.insert(target.clone()) {
        entry.refuse("container", container.span, &format!("names `{target}`, which another mount has already"));
        return None;
    }
    match resolve_host(file, &host.value) {
        Ok((path, relative)) => Some(Mount { host: path, relative, container: target, readonly }),
        Err(wrong) => {
            entry.refuse("host", host.span, &wrong);
            None
        }
    }
}

/// What a path of this machine means: `~/` is the home, and a relative path begins at the configuration file's folder.
/// Also says whether it was relative.
fn resolve_host(file: &Path, written: &str) -> Result<(PathBuf, bool), String> {
    if written.is_empty() || written.contains('\0') {
        return Err("must be a path of this machine".to_owned());
    }
    let base = file.parent().unwrap_or(Path::new("/"));
    let (path, relative) = if written == "~" || written.starts_with("~/") {
        let home = std::env::home_dir().filter(|home| home.is_absolute()).ok_or_else(|| {
            format!("begins with `~`, but HOME isn't set; write the whole path instead of `{written}`")
        })?;
        (home.join(written.trim_start_matches('~').trim_start_matches('/')), false)
    } else {
        (base.join(written), Path::new(written).is_relative())
    };
    let path = absolute(&path).map_err(|error| format!("can't be resolved: {error}"))?;
    // It is written into docker's command line as text.
    if path.to_str().is_none() {
        return Err("must be valid UTF-8, with all folders above it".to_owned());
    }
    Ok((path, relative))
}

fn is_header_word(text: &str) -> bool {
    (1..=4096).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_image_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte))
}

/// What docker takes for an amount of memory.
pub(super) fn is_memory_limit(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| "bkmgBKMG".contains(c));
    text.len() - digits.len() <= 1 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_container_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|part| part == "..")
}
