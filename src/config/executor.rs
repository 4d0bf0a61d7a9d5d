//! The rules of `[executor]`.

use std::path::Path;

use super::container_options::{ContainerOptions, DockerArgs, Isolation, Pull};
use super::gpu::read_gpus;
use super::host_path::{check_literal, resolve_host};
use super::problem::Findings;
use super::reader::Section;
use super::values::{is_container_path, is_cpus, is_image_name, is_memory_limit, is_network, is_user};
use super::{ExecutorConfig, Program, Secret, Variable, docker_args};

const ISOLATION: [(&str, Isolation); 3] =
    [("standard", Isolation::Standard), ("strict", Isolation::Strict), ("none", Isolation::None)];
const PULL: [(&str, Pull); 3] = [("missing", Pull::Missing), ("always", Pull::Always), ("never", Pull::Never)];
const MEMORY: &str = "must be a number and a unit, such as \"512m\" or \"4g\"";
const PATH: &str = "must be an absolute path inside the container";
const NETWORK: &str = "must be \"none\", \"bridge\", \"host\" or a network's name";
const USER: &str = "must be a user's number or name, such as \"1000\" or \"1000:100\"";

/// docker's scanner reads lines that are shorter than this, with the line break.
const ENV_LINE_MAX: usize = 64 * 1024;
/// The kernel gives a program some MiB for its environment and arguments together; with more, none would start.
const ENV_MAX: usize = 1024 * 1024;

/// What an address of an engine begins with.
const SCHEMES: [&str; 5] = ["unix:///", "tcp://", "ssh://", "npipe://", "fd://"];
const DOCKER_HOST: &str = "must be an address as in DOCKER_HOST, such as \"unix:///run/user/999/docker.sock\"";

fn is_docker_host(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
        && !text.contains(char::is_whitespace)
}

pub(super) fn read_executor(mut section: Section<'_>, file: &Path, findings: &mut Findings) -> ExecutorConfig {
    let working_dir = section.valid_text("working_dir", is_container_path, PATH).unwrap_or_default();
    let executor = ExecutorConfig {
        program: read_program(&mut section, &working_dir),
        image: section.valid_text("image", is_image_name, "must be the name of an image").unwrap_or_default(),
        capacity: section.size("capacity"),
        timeout_minutes: section.integer("timeout_minutes"),
        idle_timeout_minutes: section.integer("idle_timeout_minutes"),
        memory_limit: section.valid_text("memory_limit", is_memory_limit, MEMORY),
        docker: read_docker(&mut section, file),
        docker_host: section.valid_text("docker_host", is_docker_host, DOCKER_HOST),
        options: read_options(&mut section, findings),
        env: read_env(&mut section),
        working_dir,
    };
    section.finish(findings);
    executor
}

/// The docker client. A plain name is looked up in PATH; a text with a separator is a path of this machine.
fn read_docker(section: &mut Section<'_>, file: &Path) -> String {
    let written = section.text("docker");
    let is_name = !written.contains(['/', '\\']) && !written.is_empty() && !written.starts_with('-');
    let resolved = if is_name {
        check_literal(&written).map(|()| written.clone())
    } else {
        resolve_host(file, &written).map(|path| path.to_string_lossy().into_owned())
    };
    match resolved {
        Ok(docker) => docker,
        Err(wrong) => {
            section.refuse("docker", wrong);
            written
        }
    }
}

fn read_program(section: &mut Section<'_>, working_dir: &str) -> Program {
    let is_path = |text: &str| !text.is_empty() && !text.contains('\0');
    let script = section.valid_text("script_path", is_path, "must be a path inside the container");
    let script_or = |name: &str| script.clone().unwrap_or(format!("{}/{name}", working_dir.trim_end_matches('/')));
    let [entrypoint, args] = ["custom_entrypoint", "custom_args"].map(|key| {
        let words = section.texts(key);
        if words.iter().flatten().any(|word| word.contains('\0')) {
            section.refuse(key, "holds a NUL character, which no command can have");
        }
        words
    });
    let custom = Program::Custom(entrypoint.iter().chain(&args).flatten().cloned().collect());
    let kinds = [
        ("standard", &Program::Standard),
        ("bash", &Program::Bash(script_or("run.sh"))),
        ("python", &Program::Python(script_or("run.py"))),
        ("custom", &custom),
    ];
    let program = section.choice("executor_type", &kinds).unwrap_or(&Program::Standard).clone();
    if let Program::Custom(_) = program {
        match entrypoint {
            None => {
                section.miss("custom_entrypoint", "`executor_type = \"custom\"` runs its words, such as [\"/bin/sh\"]")
            }
            Some(words) if words.first().is_none_or(String::is_empty) => {
                section.refuse("custom_entrypoint", "must name a program in its first word");
            }
            Some(_) => {}
        }
    }
    program
}

fn read_options(section: &mut Section<'_>, findings: &mut Findings) -> ContainerOptions {
    let network = section.valid_text("network", is_network, NETWORK);
    let cpus = section.decimal("cpus");
    if let Some(number) = cpus.as_ref().filter(|number| !is_cpus(number)) {
        section.refuse("cpus", format_args!("must be a number of processors, such as 2 or 1.5, not `{number}`"));
    }
    let host_access = section.boolean("enable_host_access");
    let is_apart = |network: &&String| network.as_str() == "none" || network.starts_with("container:");
    if let Some(network) = network.as_ref().filter(is_apart).filter(|_| host_access) {
        section.refuse("enable_host_access", format_args!("can't be had with `network = \"{network}\"`"));
    }
    let gpus = read_gpus(section, findings);
    ContainerOptions {
        isolation: section.choice("isolation", &ISOLATION).unwrap_or_default(),
        network,
        cpus,
        pids_limit: section.optional_integer("pids_limit"),
        shm_size: section.valid_text("shm_size", is_memory_limit, MEMORY),
        user: section.valid_text("user", is_user, USER),
        gpus: gpus.gpus,
        devices: gpus.devices,
        host_access,
        pull: section.choice("pull", &PULL),
        docker_args: read_docker_args(section),
    }
}

fn read_docker_args(section: &mut Section<'_>) -> DockerArgs {
    let args = section.texts("docker_args").unwrap_or_default();
    docker_args::read(args).map_err(|wrong| section.refuse("docker_args", wrong)).unwrap_or_default()
}

/// The variables of `[executor.env]`. No message shows a value.
fn read_env(section: &mut Section<'_>) -> Vec<Variable> {
    let mut variables: Vec<Variable> = Vec::new();
    let mut total = 0;
    for (name, value) in section.secrets("env") {
        let length = name.get_ref().len() + 1 + value.get_ref().expose().len();
        total += length;
        if let Some(wrong) = wrong_name(name.get_ref()) {
            section.refuse_at("env", name.span(), wrong);
        } else if ["TASK_ID", "TIMEOUT"].contains(&name.get_ref().as_str()) {
            section.refuse_at("env", name.span(), "must leave TASK_ID and TIMEOUT to the agent");
        } else if let Some(wrong) = wrong_value(value.get_ref(), length) {
            section.refuse_at("env", value.span(), &format!("can't hold this value of {}: {wrong}", name.get_ref()));
        } else if total > ENV_MAX {
            section.refuse_at("env", value.span(), "must hold less than 1 MiB in all, or no program would start");
            break;
        } else {
            variables.push(Variable { name: name.into_inner(), value: value.into_inner() });
        }
    }
    variables
}

/// docker reads the file line by line, cuts blanks off at a line's front, and skips lines that begin with `#`.
fn wrong_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("has a variable without a name");
    }
    let is_bad = |c: char| c == '=' || c.is_whitespace() || c.is_control() || c == '\u{feff}';
    let is_wrong = name.starts_with('#') || name.contains(is_bad);
    is_wrong.then_some("has a variable whose name holds a blank, a `=` or a control character, or begins with `#`")
}

fn wrong_value(value: &Secret, line_length: usize) -> Option<&'static str> {
    if value.expose().contains(['\n', '\r', '\0']) {
        Some("it has a line break or a NUL character, which docker's `--env-file` has no way to write")
    } else if line_length + 1 >= ENV_LINE_MAX {
        Some("with its name it is 64 KiB or longer, which docker's `--env-file` doesn't read")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
