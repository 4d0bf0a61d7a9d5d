//! Host paths of mounts: whether they exist, and whether a container may see them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Config, Mount};
use crate::os::files::make_dirs_by_umask;
use crate::os::timeout::{ProbeLabel, SingleFlight, timeout_message};

/// Makes sure that every mount's host path exists and shows nothing that a container must not see.
///
/// A relative path that doesn't exist is created as a folder. An absolute one isn't: it may be a network drive that
/// isn't mounted, and a container would take the empty folder for its data.
///
/// # Errors
/// The path and the remedy. A drive that gives no answer is an error, too. For repeated checks, keep a [`MountWatch`].
pub fn check_mounts(config: &Config) -> Result<(), String> {
    MountWatch::default().check(config)
}

/// Repeated checks of the mounts. While one check waits for a drive, the next ones don't start another.
#[derive(Default)]
pub struct MountWatch(SingleFlight<Result<(), String>>);

impl MountWatch {
    /// As [`check_mounts`] does.
    pub fn check(&mut self, config: &Config) -> Result<(), String> {
        if config.paths.mounts.is_empty() && config.executor.options.docker_args.sources.is_empty() {
            return Ok(());
        }
        let config = config.clone();
        self.0.run(move |label| check_all(&config, label)).unwrap_or_else(|path| {
            Err(format!("the mount's host path `{path}` {}; a network drive may be disconnected", timeout_message()))
        })
    }
}

fn check_all(config: &Config, label: &ProbeLabel) -> Result<(), String> {
    for mount in &config.paths.mounts {
        label.set(mount.host.to_string_lossy());
        if check_mount(config, mount)? == HostPath::ToBeCreated {
            make_dirs_by_umask(&mount.host).map_err(|error| {
                format!("the mount's host folder `{}` can't be made: {error}", mount.host.display())
            })?;
        }
    }
    config.executor.options.docker_args.sources.iter().try_for_each(|source| {
        label.set(source.to_string_lossy());
        check_exposure(config, source)
    })
}

/// Whether a mount's host path exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPath {
    Exists,
    /// It doesn't, and is relative, so that it will be created.
    ToBeCreated,
}

/// As [`check_mounts`] does, for one mount and without creating anything.
pub fn check_mount(config: &Config, mount: &Mount) -> Result<HostPath, String> {
    let host = mount.host.display();
    let on_host = match fs::metadata(&mount.host) {
        Ok(_) => HostPath::Exists,
        Err(error) if error.kind() == io::ErrorKind::NotFound && mount.relative => HostPath::ToBeCreated,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "the mount's host path `{host}` (for `{}`) doesn't exist; make it, or mount the drive it is on",
                mount.container
            ));
        }
        Err(error) => return Err(format!("the mount's host path `{host}` can't be used: {error}")),
    };
    check_exposure(config, &mount.host)?;
    Ok(on_host)
}

/// The check of a host path that may not exist, such as one of `executor.docker_args`.
///
/// The configuration file holds the key, and the data_dir holds other tasks' files: neither may be in a mount, and no
/// mount in the data_dir.
pub fn check_exposure(config: &Config, mounted: &Path) -> Result<(), String> {
    let host = real(mounted);
    let (file, data_dir) = (real(&config.file), real(&config.paths.data_dir));
    let (what, path) = if file.starts_with(&host) {
        ("the configuration file", config.file.as_path())
    } else if data_dir.starts_with(&host) || host.starts_with(&data_dir) {
        ("the data_dir", &*config.paths.data_dir)
    } else {
        return Ok(());
    };
    Err(format!(
        "the mount of `{}` would show {what} `{}` to every task; mount a folder that has no part of it",
        mounted.display(),
        path.display()
    ))
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
        let wrong = check_mounts(&config(dir.path(), missing.to_str().unwrap())).unwrap_err();
        assert!(wrong.contains(missing.to_str().unwrap()) && wrong.contains("doesn't exist"), "{wrong}");
        assert!(!missing.exists());
    }

    #[test]
    fn a_mount_that_shows_the_key_or_other_tasks_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data/workspaces")).unwrap();
        for host in [".", "./config.toml", "./data", "./data/workspaces", "/"] {
            let wrong = check_mounts(&config(dir.path(), host)).unwrap_err();
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
            let wrong = check_mounts(&raw(&dir.path().join("data/..")).unwrap()).unwrap_err();
            assert!(wrong.contains("would show"), "{wrong}");
            check_mounts(&raw(&dir.path().join("other")).unwrap()).unwrap();
            std::os::unix::fs::symlink(dir.path(), dir.path().join("innocent")).unwrap();
            assert!(check_mounts(&config(dir.path(), "./innocent")).unwrap_err().contains("would show"));
        }
    }
}
