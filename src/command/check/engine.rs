//! What `run` needs of the engine: a client, an answer, the image, and the same files as on this machine.

use std::path::Path;

use super::container_user;
use super::machine::ProbeTargets;
use super::probe::EngineProbe;
use super::program::{check_program, fail_script};
use super::report::{Check, Report};
use super::start;
use crate::command::check_script::check_script;
use crate::config::Config;
use crate::config::container_options::Pull;
use crate::docker::Docker;
use crate::docker::probe::ClientTrouble;
use crate::os::own_address::first_unprivileged_port;
use crate::os::trust::{SearchPath, check_socket, open_folder_before};
use crate::server::address_on_this_machine;

pub fn check(config: &Config, targets: &ProbeTargets, report: &mut Report) {
    let docker = match Docker::new(config) {
        Ok(docker) => docker,
        Err(error) => {
            report.fail(Check::Docker, error.to_string(), error.remedy());
            return skip(config, "the docker client isn't safe from other users", report);
        }
    };
    check_client(config, &docker, report);
    if !report.has_passed(Check::Docker) {
        return skip(config, "there is no docker client", report);
    }
    check_engine(config, &docker, report);
    if !report.has_passed(Check::Engine) {
        return skip(config, "the engine doesn't answer", report);
    }
    check_image(config, &docker, report);
    if !report.has_passed(Check::Image) {
        return skip(config, "there is no image to make a container of", report);
    }
    container_user::check(config, &docker, &targets.mounts, report);
    let probe = EngineProbe::new(config, &docker);
    match &targets.folder {
        Some(folder) => {
            let container = probe.create(&folder.dir);
            check_program(&probe, container.as_deref().ok(), &folder.dir, report);
            probe.check_data_dir(folder, container, report);
        }
        None => {
            report.skip_missing(&[Check::Program, Check::EngineDataDir, Check::Start], "the data_dir can't be used")
        }
    }
    probe.check_mounts(&targets.mounts, report);
    match &targets.folder {
        Some(folder) if report.has_passed(Check::EngineDataDir) => start::check(config, &docker, folder, report),
        _ => report.skip_missing(&[Check::Start], "containers would not see the data_dir"),
    }
}

/// Skips the checks that need what the last one has not found.
fn skip(config: &Config, why: &str, report: &mut Report) {
    report.skip_missing(&[Check::Engine, Check::Image, Check::ContainerUser], why);
    // Whether there can be a script at all is known without an engine.
    if let Err(wrong) = check_script(config) {
        fail_script(wrong, report);
    }
    report.skip_missing(&[Check::Program, Check::EngineDataDir, Check::EngineMounts, Check::Start], why);
}

fn check_client(config: &Config, docker: &Docker, report: &mut Report) {
    let program = &config.executor.docker;
    let (why, remedy) = match docker.client_version() {
        Ok(version) => return pass_client(docker, version, report),
        Err(ClientTrouble::NotStarted(error)) => (
            format!("can't be started: {error}"),
            format!(
                "install Docker, or set `executor.docker` to its path; `{program}` must be in the PATH of the user that \
                 runs the agent, also when cron starts it"
            ),
        ),
        Err(ClientTrouble::Odd(why)) => {
            (why, format!("run `{program} --version` by hand, as the agent's user, and see what it prints"))
        }
    };
    report.fail(Check::Docker, format!("`{program} --version` {why}"), remedy);
}

/// Passes the client. One that another user could put before it would be refused, and not executed.
fn pass_client(docker: &Docker, version: String, report: &mut Report) {
    let program = docker.program.to_string_lossy();
    if let Some(folder) = open_folder_before(&docker.program) {
        return report.warn(
            Check::Docker,
            format!(
                "{version}; another user could put a `{program}` into `{}`, which stands before it in PATH; it would be \
                 refused, and no task accepted",
                folder.display()
            ),
            "take that folder out of the agent's PATH, or set `executor.docker` to the client's path",
        );
    }
    match docker.search_path.as_ref().and_then(SearchPath::unsafe_list) {
        None => report.pass(Check::Docker, version),
        Some(folders) => report.warn(
            Check::Docker,
            format!(
                "{version}; other users could put programs into these folders of PATH, so docker isn't given them and \
                 finds none of its helpers there: {folders}"
            ),
            "take these folders out of the agent's PATH",
        ),
    }
}

fn check_engine(config: &Config, docker: &Docker, report: &mut Report) {
    match docker.engine_version() {
        Ok(version) => match engine_of_others(config) {
            None => report.pass(Check::Engine, format!("Docker Engine {version} answers")),
            Some(why) => report.warn(
                Check::Engine,
                format!("Docker Engine {version} answers, and {why}: such an engine gets all that containers get"),
                "let DOCKER_HOST name a socket that only root or the agent's user can make, such as unix:///var/run/docker.sock",
            ),
        },
        // Only the remedy depends on the words.
        Err(error) if error.to_string().to_lowercase().contains("permission denied") => {
            let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
            let remedy = format!(
                "let the agent's user talk to the engine: `sudo usermod -aG docker {}`; then log in anew, and restart a running \
                 agent: groups are taken at its start",
                user.as_deref().unwrap_or("agent-core")
            );
            report.fail(Check::Engine, error.to_string(), remedy);
        }
        Err(error) => {
            let remedy = format!(
                "start the engine (`sudo systemctl start docker`), and let this user talk to it (group `docker`), \
                 until `{} version` names a server; where that works in a shell, set DOCKER_HOST or DOCKER_CONTEXT for \
                 the agent as the shell has them: cron, sudo and systemd don't keep them",
                config.executor.docker
            );
            report.fail(Check::Engine, error.to_string(), remedy);
        }
    }
}

/// How another user could be the engine that DOCKER_HOST names.
fn engine_of_others(config: &Config) -> Option<String> {
    let environment = &config.server.environment;
    let host = environment.docker_host.as_deref()?;
    if let Some(socket) = host.strip_prefix("unix://") {
        let wrong = check_socket(Path::new(socket)).err()?;
        return Some(format!("another user could have its socket (DOCKER_HOST): {wrong}"));
    }
    let place = host.strip_prefix("tcp://").filter(|_| !environment.has_docker_tls)?;
    let address = address_on_this_machine(&format!("http://{place}"))?;
    (address.port() >= first_unprivileged_port())
        .then(|| format!("any user of this machine could listen on {address} (DOCKER_HOST) when it doesn't"))
}

fn check_image(config: &Config, docker: &Docker, report: &mut Report) {
    let image = &config.executor.image;
    let pull = config.executor.options.pull;
    match docker.has_image(image) {
        Ok(true) => {
            let pulled = if pull == Some(Pull::Always) { "; each task pulls it anew" } else { "" };
            report.pass(Check::Image, format!("`{image}` is here{pulled}"));
        }
        Ok(false) => {
            let later = match pull {
                Some(Pull::Never) => "",
                _ => "; no task is accepted before it is here",
            };
            report.fail(
                Check::Image,
                format!("the image `{image}` isn't on this machine{later}"),
                format!(
                    "pull it with `docker pull {image}`, build it, for example with `docker build -t {image} \
                     executor-example/minimal`, or correct `executor.image`"
                ),
            );
        }
        Err(error) => report.fail(Check::Image, error.to_string(), "see what is wrong with the engine"),
    }
}
