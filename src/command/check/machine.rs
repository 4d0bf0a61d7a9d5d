//! What `run` needs of this machine: files, rights, room and mounts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::report::{Check, Report};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::data_dir::permissions;
use crate::docker::probe::MAX_AGE;
use crate::os::platform;
use crate::os::random::random_u64;
use crate::os::timeout::{timeout_message, with_timeout};
use crate::shell::shell_line;
use crate::task::mounts::{HostPath, check_mount, check_raw_mount};

/// A folder where workspaces lie, with a file in it that nobody else can know. It goes when this is dropped, with what
/// had to be made for it.
pub struct ProbeFolder {
    dir: PathBuf,
    /// The content of [`ProbeFolder::file`].
    pub content: String,
    made: Vec<PathBuf>,
}

impl ProbeFolder {
    fn make(data_dir: &DataDir) -> io::Result<Self> {
        let parent = data_dir.workspaces();
        let missing = parent.ancestors().take_while(|path| !path.exists()).map(Path::to_owned);
        let missing: Vec<PathBuf> = missing.collect();
        remove_old(&parent);
        let name = DataDir::probe_name(format_args!("{:016x}", random_u64()));
        let content = format!("{name} {:016x}\n", random_u64());
        let mut folder = Self { dir: parent.join(name), content, made: Vec::new() };
        for path in missing.into_iter().rev() {
            match fs::create_dir(&path) {
                Ok(()) => {
                    if path == **data_dir {
                        platform::make_private_dir(&path)?;
                    }
                    folder.made.push(path);
                }
                // The agent is being started at this moment.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        fs::create_dir(&folder.dir)?;
        platform::make_world_writable(&folder.dir)?;
        let mut file = File::create(folder.dir.join(Self::file()))?;
        file.write_all(folder.content.as_bytes())?;
        file.sync_all()?;
        Ok(folder)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of the file in it.
    pub fn file() -> &'static str {
        "seen"
    }

    fn made_data_dir(&self) -> bool {
        self.made.len() > 1
    }
}

impl Drop for ProbeFolder {
    fn drop(&mut self) {
        let (dir, made) = (self.dir.clone(), std::mem::take(&mut self.made));
        let removed = with_timeout(move || {
            let removed = if dir.exists() { platform::remove_tree(&dir) } else { Ok(()) };
            for path in made.iter().rev() {
                // Somebody else may use it by now, and then it isn't empty and stays.
                let _ = fs::remove_dir(path);
            }
            removed
        });
        if let Err(error) = removed.unwrap_or_else(|| Err(io::Error::other(timeout_message()))) {
            log::warn!("`{}` can't be removed: {error}", self.dir.display());
        }
    }
}

/// What there is to look at through the engine.
pub struct OnMachine {
    /// A folder where workspaces lie, if there could be one.
    pub folder: Option<ProbeFolder>,
    /// The host paths of mounts that are there.
    pub mounts: Vec<PathBuf>,
}

/// Removes what killed ones have left.
fn remove_old(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_probe = DataDir::is_probe_name(&entry.file_name().to_string_lossy());
        let made = entry.metadata().and_then(|metadata| metadata.modified());
        if is_probe && made.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MAX_AGE)) {
            if let Err(error) = platform::remove_tree(&entry.path()) {
                log::warn!("`{}` can't be removed: {error}", entry.path().display());
            }
        }
    }
}

/// Looks at all of it.
pub fn check(config: &Config, report: &mut Report) -> OnMachine {
    let data_dir = &config.paths.data_dir;
    look_at_rights(Check::ConfigRights, &config.file, report);
    let path = data_dir.clone();
    let shown = data_dir.display();
    let folder = match with_timeout(move || ProbeFolder::make(&path)) {
        Some(Ok(folder)) => {
            let new = if folder.made_data_dir() { "isn't there yet and can be made" } else { "can be written" };
            report.pass(Check::DataDir, format!("`{shown}` {new}"));
            Some(folder)
        }
        Some(Err(error)) => {
            let user = platform::user();
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => format!(
                    "let the user {user} write there, with `{}`, or set `paths.data_dir` to another folder",
                    shell_line(["sudo", "chown", "-R", &user, &data_dir.to_string_lossy()])
                ),
                _ => "set `paths.data_dir` to another folder, or see what is wrong with that place".to_owned(),
            };
            report.fail(Check::DataDir, format!("`{shown}` can't be used: {error}"), remedy);
            None
        }
        None => {
            report.fail(Check::DataDir, format!("`{shown}` {}", timeout_message()), "see what is wrong with that disk");
            report.skip(Check::DataDirRights, "the data_dir doesn't answer");
            report.skip(Check::Disk, "the data_dir doesn't answer");
            return OnMachine { folder: None, mounts: mounts(config, report) };
        }
    };
    let there = data_dir.clone();
    match with_timeout(move || there.exists().then(|| permissions::check_folder(&there))) {
        Some(Some(Err(why))) => report.fail(Check::DataDirRights, why, "name a folder that is the agent's alone"),
        Some(None) => report.skip(Check::DataDirRights, "the data_dir isn't there yet"),
        _ if folder.as_ref().is_some_and(ProbeFolder::made_data_dir) => {
            report.skip(Check::DataDirRights, "the data_dir isn't there yet");
        }
        _ => look_at_rights(Check::DataDirRights, data_dir, report),
    }
    disk(config, report);
    OnMachine { folder, mounts: mounts(config, report) }
}

fn look_at_rights(check: Check, path: &Path, report: &mut Report) {
    let shown = path.display();
    let close = format!("run `{}`", shell_line(["chmod", "go=", &path.to_string_lossy()]));
    let asked = path.to_owned();
    match with_timeout(move || platform::mode_if_shared(&asked))
        .unwrap_or_else(|| Err(io::Error::other(timeout_message())))
    {
        Ok(None) => report.pass(check, format!("`{shown}` is its owner's alone")),
        Ok(Some(mode)) => report.fail(
            check,
            format!("`{shown}` is open to other users (mode {mode:o}); `run` would take their rights away"),
            close,
        ),
        Err(error) => report.fail(check, format!("the rights of `{shown}` can't be read: {error}"), close),
    }
}

fn disk(config: &Config, report: &mut Report) {
    let wanted = config.paths.min_free_disk_mb;
    let data_dir = &config.paths.data_dir;
    let asked = data_dir.clone();
    let free = with_timeout(move || {
        let existing = asked.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        platform::free_disk(existing)
    });
    match free.unwrap_or_else(|| Err(io::Error::other(timeout_message()))).map(|bytes| bytes >> 20) {
        Ok(free) if free >= wanted => report.pass(Check::Disk, format!("{free} MiB free, at least {wanted} wanted")),
        Ok(free) => report.fail(
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

fn mounts(config: &Config, report: &mut Report) -> Vec<PathBuf> {
    const REMEDY: &str = "correct `paths.mounts` or `executor.docker_args`, or put there what is missing";
    if config.paths.mounts.is_empty() && config.executor.options.docker_args.sources.is_empty() {
        report.pass(Check::Mounts, "none is configured");
        return Vec::new();
    }
    let mut there = Vec::new();
    for mount in &config.paths.mounts {
        let shown = mount.host.display();
        let (whole, one) = (config.clone(), mount.clone());
        match with_timeout(move || check_mount(&whole, &one)) {
            Some(Ok(HostPath::Exists)) => {
                report.pass(Check::Mounts, format!("`{shown}` is there"));
                there.push(mount.host.clone());
            }
            Some(Ok(HostPath::ToBeCreated)) => {
                report.pass(Check::Mounts, format!("`{shown}` isn't there yet; `run` makes it"));
            }
            Some(Err(why)) => report.fail(Check::Mounts, why, REMEDY),
            None => report.fail(
                Check::Mounts,
                format!("`{shown}` {}", timeout_message()),
                "see what is wrong with that drive; a network drive may be away",
            ),
        }
    }
    for source in &config.executor.options.docker_args.sources {
        let shown = source.display();
        let (whole, one) = (config.clone(), source.clone());
        let looked = with_timeout(move || check_raw_mount(&whole, &one).map(|()| one.exists()));
        match looked.unwrap_or_else(|| Err(format!("`{shown}` {}", timeout_message()))) {
            Ok(true) => {
                report.pass(Check::Mounts, format!("`{shown}` (`executor.docker_args`) is there"));
                there.push(source.clone());
            }
            Ok(false) => report.pass(Check::Mounts, format!("`{shown}` (`executor.docker_args`) is docker's to make")),
            Err(why) => report.fail(Check::Mounts, why, REMEDY),
        }
    }
    there
}
