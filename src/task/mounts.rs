//! Host paths of mounts: whether they exist, and whether a container may see them.
//!
//! The engine resolves the host path of a mount as root, when a container starts. So no part of it may be replaceable by
//! a task or by another user: a link in its place would show any folder of this machine.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::container_options::HostPath;
use crate::config::{Config, Mount};
use crate::docker::check_client_settings;
use crate::os::mount_table::{Location, MountTable};
use crate::os::platform::{Last, Untrusted, Walked, Why, folder_identity, is_executable, is_shortage, program_places};
use crate::os::timeout::{NoResult, ProbeLabel, SingleFlight, timeout_message};
use crate::os::trust::check_file;

/// The mode of a folder that is made for a mount.
const MODE: u32 = 0o755;

/// Why a read-only mount may be written to: with Docker before 25 or Linux before 5.12.
const NOT_RECURSIVE: &str = "`readonly` may not hold for a file system that is mounted below the mount's host path";

/// Why a mount isn't to be used.
#[derive(Debug)]
pub enum MountTrouble {
    /// The path and the remedy.
    Wrong(String),
    /// This machine has no thread, no descriptor or no memory to look at it. That says nothing about the mount.
    NotChecked(String),
}

impl fmt::Display for MountTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Wrong(why) | Self::NotChecked(why)) = self;
        f.write_str(why)
    }
}

impl From<String> for MountTrouble {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

/// Makes sure that every mount's host path exists and shows nothing that a container must not see.
///
/// A relative path that doesn't exist is created as a folder. An absolute one isn't: it may be a network drive that
/// isn't mounted, and a container would take the empty folder for its data.
///
/// # Errors
/// A drive that gives no answer is an error, too. For repeated checks, keep a [`MountWatch`].
pub fn check_mounts(config: &Config) -> Result<(), MountTrouble> {
    MountWatch::default().check(config)
}

/// Repeated checks of the mounts. While one check waits for a drive, the next ones don't start another.
#[derive(Default)]
pub struct MountWatch(SingleFlight<Result<(), MountTrouble>>);

impl MountWatch {
    /// As [`check_mounts`] does.
    pub fn check(&mut self, config: &Config) -> Result<(), MountTrouble> {
        let config = config.clone();
        self.0.run(move |label| check_all(&config, label)).unwrap_or_else(|none| {
            Err(match none {
                NoResult::TooLate(path) => {
                    MountTrouble::Wrong(format!("{path} {}; a network drive may be disconnected", timeout_message()))
                }
                NoResult::NoThread(why) => {
                    MountTrouble::NotChecked(format!("the mounts can't be checked without a thread: {why}"))
                }
            })
        })
    }
}

fn check_all(config: &Config, label: &ProbeLabel) -> Result<(), MountTrouble> {
    for mount in &config.paths.mounts {
        label.set(format!("the mount's host path `{}`", mount.host.display()));
        if check_mount(config, mount)? == OnHost::ToBeCreated {
            let made = walk(&mount.host)?.make_folders(MODE);
            made.map_err(|wrong| {
                let words = format!("the mount's host folder `{}` can't be made: {wrong}", mount.host.display());
                if wrong.is_shortage() { MountTrouble::NotChecked(words) } else { words.into() }
            })?;
        }
    }
    let args = &config.executor.options.docker_args;
    args.sources.iter().try_for_each(|source| {
        label.set(format!("the mount's host path `{}`", source.path.display()));
        check_exposure(config, source)
    })?;
    if let Some(folder) = &config.server.environment.docker_config {
        label.set(format!("the docker client's configuration `{}`", folder.display()));
        check_client_settings(folder).map_err(|wrong| unsafe_file("the docker client's configuration", &wrong))?;
    }
    args.files.iter().try_for_each(|file| {
        label.set(format!("the file `{}` of `executor.docker_args`", file.display()));
        check_named_file(file)
    })
}

/// Checks a file that `executor.docker_args` names: docker reads it as the agent's user, and another user could let it read
/// another file, or put another user's rules for containers there.
pub fn check_named_file(file: &Path) -> Result<(), MountTrouble> {
    check_file(file)
        .map_err(|wrong| unsafe_file(&format!("`{}`, which `executor.docker_args` names,", file.display()), &wrong))
}

fn unsafe_file(what: &str, wrong: &Untrusted) -> MountTrouble {
    let words = format!("{what} isn't safe from other users: {wrong}");
    if wrong.is_shortage() { MountTrouble::NotChecked(words) } else { words.into() }
}

/// Whether a mount's host path exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHost {
    Exists,
    /// It doesn't, and is relative, so that it will be created.
    ToBeCreated,
}

/// As [`check_mounts`] does, for one mount and without creating anything.
pub fn check_mount(config: &Config, mount: &Mount) -> Result<OnHost, MountTrouble> {
    let host = mount.host.display();
    let on_host = match fs::metadata(&mount.host) {
        Ok(_) => OnHost::Exists,
        Err(error) if error.kind() == io::ErrorKind::NotFound && mount.relative => OnHost::ToBeCreated,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "the mount's host path `{host}` (for `{}`) doesn't exist; make it, or mount the drive it is on",
                mount.container
            )
            .into());
        }
        Err(error) => return Err(trouble(&error, format!("the mount's host path `{host}` can't be used: {error}"))),
    };
    check_exposure(config, &host_path(mount))?;
    Ok(on_host)
}

fn host_path(mount: &Mount) -> HostPath {
    HostPath { path: mount.host.clone(), readonly: mount.readonly }
}

/// The check of a host path that may not exist, such as one of `executor.docker_args`.
///
/// The configuration file holds the key, and the data_dir holds other tasks' files: neither may be in a mount, and no
/// mount in the data_dir. What the agent runs may not be in a mount that tasks write to.
pub fn check_exposure(config: &Config, mounted: &HostPath) -> Result<(), MountTrouble> {
    let walked = walk(&mounted.path)?;
    let shown = mounted.path.display();
    let unread = |error: io::Error| trouble(&error, format!("the mount's host path `{shown}` can't be used: {error}"));
    if walked.may_appear().map_err(unread)? {
        return Err(format!(
            "the mount's host path `{shown}` doesn't exist, and another user could put a link to any folder of this \
             machine there; make it first"
        )
        .into());
    }
    let unread = |error: io::Error| trouble(&error, format!("the mounts of this machine can't be read: {error}"));
    let table = MountTable::read().map_err(unread)?;
    check_shown(config, mounted, &table)?;
    for outer in all_mounts(config) {
        if Writable::new(&outer, &table).is_passed(&walked) {
            let remedy = match outer.readonly {
                true => format!("{NOT_RECURSIVE}, so mount only one of the two"),
                false => "mount the outer one only, or set its `readonly = true`".to_owned(),
            };
            return Err(format!(
                "the mount of `{shown}` lies in that of `{}`, which tasks may write to, so a task could put a link to any \
                 folder of this machine in its place; {remedy}",
                outer.path.display()
            )
            .into());
        }
    }
    Ok(check_programs(config, mounted, &Writable::new(mounted, &table))?)
}

/// Refuses a mount that shows what no task may see, also by another path than its own.
fn check_shown(config: &Config, mounted: &HostPath, table: &MountTable) -> Result<(), String> {
    let host = real(&mounted.path);
    let [file, data_dir] = [&config.file, &*config.paths.data_dir].map(|path| table.location(&real(path)));
    let top = table.location(&host);
    let is_shown = |path: &Location| path.is_within(&top) || table.below(&host).any(|(root, _)| path.is_within(root));
    let (what, path) = if is_shown(&file) {
        ("the configuration file", config.file.as_path())
    } else if is_shown(&data_dir) || top.is_within(&data_dir) {
        ("the data_dir", &*config.paths.data_dir)
    } else {
        return Ok(());
    };
    Err(format!(
        "the mount of `{}` would show {what} `{}` to every task; mount a folder that has no part of it",
        mounted.path.display(),
        path.display()
    ))
}

/// Refuses a mount in which a task could replace what the agent runs, what docker reads, or where the configuration and
/// the data_dir are found.
fn check_programs(config: &Config, mounted: &HostPath, writable: &Writable<'_>) -> Result<(), String> {
    let own = std::env::current_exe().ok().map(|path| ("the program of the agent", path));
    let file = ("a part of the path of the configuration file", config.file.clone());
    let data_dir = ("a part of the path of the data_dir", config.paths.data_dir.to_path_buf());
    let read = config.executor.options.docker_args.files.iter().cloned();
    let read = read.map(|path| ("a file that `executor.docker_args` names", path));
    let client = config.server.environment.docker_config.clone();
    let client = client.map(|folder| ("the configuration of the docker client", folder));
    let is_in_client = client.as_ref().is_some_and(|(_, folder)| writable.is_part_of(folder));
    let client = client.map(|(what, folder)| (what, folder.join("config.json")));
    let paths = [file, data_dir].into_iter().chain(own).chain(docker_places(config)).chain(read).chain(client.clone());
    let is_replaceable = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // A path that isn't trusted is refused where it is used.
        writable.holds(&real(&path)) || Walked::new(&path, Last::Strict).is_ok_and(|walked| writable.is_passed(&walked))
    };
    let found = paths.into_iter().find(|(_, path)| is_replaceable(path)).or(client.filter(|_| is_in_client));
    let Some((what, path)) = found else { return Ok(()) };
    let remedy = match mounted.readonly {
        true => format!("{NOT_RECURSIVE}, so mount a folder that has no part of it"),
        false => "set `readonly = true`, or mount a folder that has no part of it".to_owned(),
    };
    Err(format!(
        "tasks may write to the mount of `{}`, which holds {what}, `{}`, so a task could replace it; {remedy}",
        mounted.path.display(),
        path.display()
    ))
}

/// The docker client, and the places where a program of its name would be found before it.
fn docker_places(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let mut places = Vec::new();
    for place in program_places(config.executor.docker.as_ref()) {
        let is_found = is_executable(&place);
        places.push((
            if is_found { "the docker client" } else { "a place where the docker client is looked for" },
            place,
        ));
        if is_found {
            break;
        }
    }
    places
}

/// All mounts of a task's container.
fn all_mounts(config: &Config) -> impl Iterator<Item = HostPath> + '_ {
    let mounts = config.paths.mounts.iter().map(host_path);
    mounts.chain(config.executor.options.docker_args.sources.iter().cloned())
}

/// What tasks may write to by a mount: that of the host path unless it is read-only, and that of the file systems that are
/// mounted below it: for these, `readonly` holds only with newer engines and kernels.
struct Writable<'m> {
    /// The host path, unless it is read-only.
    host: Option<&'m Path>,
    places: Vec<Location>,
    table: &'m MountTable,
}

impl<'m> Writable<'m> {
    fn new(mounted: &'m HostPath, table: &'m MountTable) -> Self {
        let (real, host) = (real(&mounted.path), Some(mounted.path.as_path()).filter(|_| !mounted.readonly));
        let below = table.below(&real).filter(|(_, readonly)| !readonly).map(|(root, _)| root.clone());
        let places = below.chain(host.map(|_| table.location(&real))).collect();
        Self { host, places, table }
    }

    /// Whether it has this path, which has no links.
    fn holds(&self, path: &Path) -> bool {
        let location = self.table.location(path);
        self.places.iter().any(|place| location.is_within(place))
    }

    /// Whether some of it is in this folder.
    fn is_part_of(&self, folder: &Path) -> bool {
        let folder = self.table.location(&real(folder));
        self.places.iter().any(|place| place.is_within(&folder))
    }

    /// Whether a name on the way was looked up in it. A link in it may be a task's, also where it belongs to root.
    fn is_passed(&self, walked: &Walked) -> bool {
        walked.places.iter().any(|place| self.holds(place)) || self.host.is_some_and(|host| passes(walked, host))
    }
}

/// Whether a name on the way was looked up in this folder, by any of its paths.
fn passes(walked: &Walked, folder: &Path) -> bool {
    folder_identity(folder).is_ok_and(|identity| walked.passed.contains(&identity))
}

/// Walks to a host path. The folder or file itself may belong to any user, but no other user may be able to replace it.
fn walk(host: &Path) -> Result<Walked, MountTrouble> {
    Walked::new(host, Last::Any).map_err(|wrong| {
        let words = refuse(host, &wrong);
        if wrong.is_shortage() { MountTrouble::NotChecked(words) } else { words.into() }
    })
}

fn trouble(error: &io::Error, words: String) -> MountTrouble {
    if is_shortage(error) { MountTrouble::NotChecked(words) } else { words.into() }
}

fn refuse(host: &Path, wrong: &Untrusted) -> String {
    let (host, part) = (host.display(), wrong.path.display());
    let link = "could put a link to any folder of this machine in its place";
    match &wrong.why {
        Why::Unreadable(error) => format!("the mount's host path `{host}` can't be used: `{part}`: {error}"),
        Why::Owner { owner } if wrong.path.as_os_str() != host.to_string().as_str() => format!(
            "the mount's host path `{host}` lies in `{part}`, which belongs to user {owner}, and that user {link}; mount \
             `{part}` itself, or a folder below root's folders only"
        ),
        Why::Owner { owner } => format!(
            "the mount's host path `{host}` belongs to user {owner} and lies in a folder where every user may write, so \
             that user {link}; move it into a folder of root's"
        ),
        _ => format!("another user {link}, that of the mount's host path `{host}`: {wrong}"),
    }
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    if let Ok(whole) = fs::canonicalize(path) {
        return whole;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::check_mounts;
    use crate::config::Config;
    use std::fs;
    use std::path::Path;

    fn config(dir: &Path, host: &str) -> Config {
        let text = format!("[server]\nbase_url='http://h'\n[[paths.mounts]]\nhost='{host}'\ncontainer='/m'\n");
        fs::write(dir.join("config.toml"), &text).unwrap();
        Config::load(&dir.join("config.toml")).unwrap()
    }

    #[test]
    fn missing_mount_hosts_are_made_if_relative_else_refused() {
        let dir = tempfile::tempdir().unwrap();
        check_mounts(&config(dir.path(), "./share/x")).unwrap();
        assert!(dir.path().join("share/x").is_dir());
        let missing = dir.path().join("nas");
        let wrong = check_mounts(&config(dir.path(), missing.to_str().unwrap())).unwrap_err().to_string();
        assert!(wrong.contains(missing.to_str().unwrap()) && wrong.contains("doesn't exist"), "{wrong}");
        assert!(!missing.exists());
    }

    #[test]
    fn a_mount_that_shows_the_key_or_other_tasks_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data/workspaces")).unwrap();
        for host in [".", "./config.toml", "./data", "./data/workspaces", "/"] {
            let wrong = check_mounts(&config(dir.path(), host)).unwrap_err().to_string();
            assert!(wrong.contains("would show"), "{host}: {wrong}");
        }
        #[cfg(unix)]
        {
            let raw = |host: &Path| {
                let words = format!("docker_args = ['--volume={}:/m']", host.display());
                Config::parse(
                    &dir.path().join("config.toml"),
                    &format!("[server]\nbase_url='http://h'\n[executor]\n{words}"),
                )
            };
            let wrong = check_mounts(&raw(&dir.path().join("data/..")).unwrap()).unwrap_err().to_string();
            assert!(wrong.contains("would show"), "{wrong}");
            check_mounts(&raw(&dir.path().join("other")).unwrap()).unwrap();
            std::os::unix::fs::symlink(dir.path(), dir.path().join("innocent")).unwrap();
            assert!(check_mounts(&config(dir.path(), "./innocent")).unwrap_err().to_string().contains("would show"));
        }
    }
}
