//! What `run` needs of this machine: files, permissions, free space and mounts.

use std::io;
use std::path::{Path, PathBuf};

use super::report::{Check, Report};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::data_dir::permissions::{self, Refusal};
use crate::os::platform;
use crate::os::timeout::{timeout_message, with_timeout};
use crate::shell::shell_line;
use crate::task::ProbeFolder;
use crate::task::mounts::{OnHost, check_exposure, check_mount, check_named_file};

/// What to look at through the engine.
pub struct ProbeTargets {
    /// A folder where workspaces are made, where there can be one.
    pub folder: Option<ProbeFolder>,
    /// The host paths of mounts that are there.
    pub mounts: Vec<PathBuf>,
}

pub fn check(config: &Config, report: &mut Report) -> ProbeTargets {
    let close = format!("run `{}`", shell_line(["chmod", "go=", &config.file.to_string_lossy()]));
    check_permissions(Check::ConfigRights, &config.file, close, report);
    let folder = check_data_dir(config, report);
    let mounts = check_mounts(config, report);
    check_processes(config, report);
    ProbeTargets { folder, mounts }
}

/// Warns where containers may take all processes that the machine has, or that the agent's user may have: a process of root
/// in a container can take that user's uid, and the limit counts by uid. The agent goes on, and starts nothing meanwhile.
fn check_processes(config: &Config, report: &mut Report) {
    const REMEDY: &str = "set `executor.pids_limit` to less, or allow more (`ulimit -u`, `kernel.pid_max`)";
    let Some((most, whose)) = platform::most_processes() else {
        return report.pass(Check::Processes, "this system names no limit");
    };
    let Some(each) = config.executor.options.most_processes() else {
        let detail = format!("containers may have any number of processes, of the {most} that {whose}");
        return report.warn(Check::Processes, detail, REMEDY);
    };
    let capacity = config.executor.capacity as u64;
    let detail = format!("{capacity} container(s) may have {each} processes each, of the {most} that {whose}");
    if each.saturating_mul(capacity) < most {
        report.pass(Check::Processes, detail);
    } else {
        report.warn(Check::Processes, format!("{detail}; without one the agent can start no container"), REMEDY);
    }
}

/// Checks the data_dir, its permissions and its disk.
fn check_data_dir(config: &Config, report: &mut Report) -> Option<ProbeFolder> {
    let data_dir = &config.paths.data_dir;
    let shown = data_dir.display();
    let path = data_dir.clone();
    // Nothing is made in a folder that another user could change.
    let last_used = config.last_used();
    let found = with_timeout(move || {
        if let Some(Err(missing)) = last_used.map(|last_used| last_used.check()) {
            return Ok(Err(missing));
        }
        let is_there = permissions::find(&path)?.is_some();
        let folder = ProbeFolder::create(&path).map_err(|error| Refusal::Unusable(error.to_string()))?;
        Ok(Ok((is_there, folder)))
    });
    let Some(found) = found else {
        report.fail(Check::DataDir, format!("`{shown}` {}", timeout_message()), "see what is wrong with that disk");
        report.skip_missing(&[Check::DataDirRights, Check::Disk], "the data_dir doesn't answer");
        return None;
    };
    let folder = match found {
        Ok(Err(missing)) => {
            report.fail(Check::DataDir, missing.state(), missing.remedy());
            report.skip(Check::DataDirRights, "the data_dir isn't there");
            None
        }
        Ok(Ok((is_there, folder))) => {
            let state = if folder.has_made_data_dir() { "isn't there yet and can be made" } else { "can be written" };
            report.pass(Check::DataDir, format!("`{shown}` {state}"));
            if is_there {
                check_permissions(
                    Check::DataDirRights,
                    data_dir,
                    "start the agent, which closes it".to_owned(),
                    report,
                );
            } else {
                report.skip(Check::DataDirRights, "the data_dir isn't there yet");
            }
            Some(folder)
        }
        Err(refused) => {
            fail_data_dir(&refused, data_dir, report);
            None
        }
    };
    check_disk(config, report);
    folder
}

fn fail_data_dir(refused: &Refusal, data_dir: &DataDir, report: &mut Report) {
    let shown = data_dir.display();
    match refused {
        Refusal::Unusable(why) => {
            report.fail(
                Check::DataDir,
                format!("`{shown}` can't be used: {why}"),
                format!(
                    "see what is wrong with that place, or set `paths.data_dir` to a new folder that the agent's user may \
                     write to, as `{}` makes it",
                    permissions::new_folder_command(data_dir)
                ),
            );
            report.skip(Check::DataDirRights, "the data_dir can't be used");
        }
        Refusal::Unsafe(why) => {
            report.fail(Check::DataDirRights, why.clone(), "name a folder that is the agent's alone");
            report.skip(Check::DataDir, "nothing is written into a folder that isn't the agent's alone");
        }
    }
}

fn check_permissions(check: Check, path: &Path, remedy: String, report: &mut Report) {
    let shown = path.display();
    let owned = path.to_owned();
    let mode = with_timeout(move || platform::mode_if_shared(&owned));
    match mode.unwrap_or_else(|| Err(io::Error::other(timeout_message()))) {
        Ok(None) => report.pass(check, format!("`{shown}` is its owner's alone")),
        Ok(Some(mode)) => report.fail(
            check,
            format!("`{shown}` is open to other users (mode {mode:o}); `run` would take their rights away"),
            remedy,
        ),
        Err(error) => report.fail(check, format!("the rights of `{shown}` can't be read: {error}"), remedy),
    }
}

fn check_disk(config: &Config, report: &mut Report) {
    let wanted = config.paths.min_free_disk_mb;
    let data_dir = &config.paths.data_dir;
    let owned = data_dir.clone();
    let free = with_timeout(move || {
        let existing = owned.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        Ok((platform::free_disk(existing)? >> 20, platform::is_short_of_files(existing)?))
    });
    match free.unwrap_or_else(|| Err(io::Error::other(timeout_message()))) {
        Ok((_, true)) => report.fail(
            Check::Disk,
            format!("the disk of `{0}` can have few more files (`df -i {0}`)", data_dir.display()),
            "remove files there; until then no task is accepted",
        ),
        Ok((free, _)) if free >= wanted => {
            report.pass(Check::Disk, format!("{free} MiB free, at least {wanted} wanted"))
        }
        Ok((free, _)) => report.fail(
            Check::Disk,
            format!("{free} MiB free on the disk of `{}`, at least {wanted} wanted", data_dir.display()),
            "make room there, or set `paths.min_free_disk_mb` to less; until then no task is accepted",
        ),
        Err(error) => report.fail(
            Check::Disk,
            format!("the free space of `{}` can't be found out: {error}", data_dir.display()),
            "see what is wrong with that disk",
        ),
    }
}

/// Returns the host paths that are there.
fn check_mounts(config: &Config, report: &mut Report) -> Vec<PathBuf> {
    const REMEDY: &str = "correct `paths.mounts` or `executor.docker_args`, or put there what is missing";
    let sources = &config.executor.options.docker_args.sources;
    for file in config.executor.options.docker_args.files.clone() {
        let checked = with_timeout(move || check_named_file(&file));
        if let Some(Err(why)) = checked {
            report.fail(
                Check::Mounts,
                why.to_string(),
                "put that file where only root and the agent's user can change it",
            );
        }
    }
    if config.paths.mounts.is_empty() && sources.is_empty() {
        report.pass(Check::Mounts, "none is configured");
        return Vec::new();
    }
    let mut present = Vec::new();
    for mount in &config.paths.mounts {
        let shown = mount.host.display();
        let (owned_config, owned_mount) = (config.clone(), mount.clone());
        match with_timeout(move || check_mount(&owned_config, &owned_mount)) {
            Some(Ok(OnHost::Exists)) => {
                report.pass(Check::Mounts, format!("`{shown}` is there"));
                present.push(mount.host.clone());
            }
            Some(Ok(OnHost::ToBeCreated)) => {
                report.pass(Check::Mounts, format!("`{shown}` isn't there yet; `run` makes it"));
            }
            Some(Err(why)) => report.fail(Check::Mounts, why.to_string(), REMEDY),
            None => report.fail(
                Check::Mounts,
                format!("`{shown}` {}", timeout_message()),
                "see what is wrong with that drive; the server of a network drive may not answer",
            ),
        }
    }
    for source in sources {
        let shown = source.path.display();
        let (owned_config, owned_source) = (config.clone(), source.clone());
        let exists =
            with_timeout(move || check_exposure(&owned_config, &owned_source).map(|()| owned_source.path.exists()));
        match exists.unwrap_or_else(|| Err(format!("`{shown}` {}", timeout_message()).into())) {
            Ok(true) => {
                report.pass(Check::Mounts, format!("`{shown}` (`executor.docker_args`) is there"));
                present.push(source.path.clone());
            }
            Ok(false) => report.pass(Check::Mounts, format!("`{shown}` (`executor.docker_args`) is docker's to make")),
            Err(why) => report.fail(Check::Mounts, why.to_string(), REMEDY),
        }
    }
    present
}
