//! Whether a container starts as a task's would, and a program in it can use its workspace.

use super::report::{Check, Report};
use crate::config::Config;
use crate::config::container_options::Isolation;
use crate::docker::Docker;
use crate::docker::probe::LABEL;
use crate::os::random::random_u64;
use crate::task::selinux::find_denial;
use crate::task::{ProbeFolder, StartProbe, StartProblem, Started};

pub fn check(config: &Config, docker: &Docker, folder: &ProbeFolder, report: &mut Report) {
    if let Some(why) = find_denial(config, docker) {
        return report.fail(Check::Start, why, "the message has the command; until then no task is accepted");
    }
    let owner = format!("{:016x}", random_u64());
    let (name, labels) = (format!("open-aaas-check-{owner}"), vec![(LABEL, owner.clone())]);
    match (StartProbe { config, docker, name, labels, folder }).run() {
        Ok(Started::Ran) => report.pass(Check::Start, "a container starts, and can use its workspace"),
        Ok(Started::WithoutProgram) => {
            report.pass(Check::Start, "a container starts as far as can be seen with an image without `sh`");
        }
        Err(problem) => {
            let remedy = remedy(&problem, config.executor.options.isolation);
            report.fail(Check::Start, format!("every task would fail: {problem}"), remedy);
        }
    }
    if let Err(error) = docker.remove_probes(&owner) {
        log::warn!("containers with the label `{LABEL}={owner}` may be left: {error}");
    }
}

fn remedy(problem: &StartProblem, isolation: Isolation) -> &'static str {
    match problem {
        StartProblem::Engine(_) => "see what keeps the engine from answering, for example in `journalctl -u docker`",
        StartProblem::Refused(_) => {
            "put in order what docker names; a network of `executor.network` is made again by `docker network create`"
        }
        StartProblem::Ended(..) if isolation == Isolation::None => {
            "see whether AppArmor or SELinux forbids something (`journalctl -k`), and whether the image is for this processor"
        }
        StartProblem::Ended(..) => {
            "docker from snap lets no program start with `no-new-privileges`: install Docker's own packages, or set \
             `executor.isolation = \"none\"`; otherwise see what AppArmor or SELinux forbids (`journalctl -k`), and whether \
             the image is for this processor"
        }
    }
}
