//! Whether the user of containers has an account on this machine: that account reads the workspace and the variables of each
//! container under `/proc`, past the closed data_dir.

use std::path::PathBuf;

use super::report::{Check, Report};
use crate::config::Config;
use crate::docker::Docker;
use crate::os::platform::{self, Last, Walked};
use crate::os::timeout::{timeout_message, with_timeout};

const CHECK: Check = Check::ContainerUser;
const REMEDY: &str = "set `executor.user` to a uid without an account, such as \"52001:52001\"";

/// `mounts` are the host paths that containers get.
pub fn check(config: &Config, docker: &Docker, mounts: &[PathBuf], report: &mut Report) {
    let (user, source) = match &config.executor.options.user {
        Some(user) => (user.clone(), "`executor.user`"),
        None => match docker.image_user(&config.executor.image) {
            Ok(user) => (user, "the image's USER"),
            Err(error) => return report.skip(CHECK, format!("the image's USER can't be read: {error}")),
        },
    };
    let name = user.split(':').next().unwrap_or_default();
    let uid = match name.parse::<u32>() {
        Ok(uid) => uid,
        Err(_) if matches!(name, "" | "root") => 0,
        Err(_) => return report.pass(CHECK, format!("`{name}`, {source}; the image knows its uid")),
    };
    if docker.maps_users().unwrap_or(false) {
        let detail = format!(
            "uid {uid}, {source}, which the engine maps to a user of `/etc/subuid` (userns-remap): containers read of mounts what \
             all users may read, and write where all may write"
        );
        return report.pass(CHECK, detail);
    }
    if uid == 0 {
        return check_root(source, mounts.to_vec(), report);
    }
    if uid.to_string() == platform::user() {
        let detail = format!(
            "uid {uid}, {source}, is the agent's own user: what a task reaches of this machine, it can use as the agent can, \
             such as the configuration file with the key"
        );
        return report.warn(CHECK, detail, REMEDY);
    }
    let gid = user.split(':').nth(1).and_then(|gid| gid.parse().ok());
    match with_timeout(move || platform::other_account(uid)) {
        Some(None) => match platform::subordinate_to(uid, gid) {
            None => report.pass(CHECK, format!("uid {uid}, {source}; no other account of this machine has it")),
            Some((kind, account)) => report.warn(
                CHECK,
                format!(
                    "{user}, {source}, is in the range of {kind} that the account `{account}` may take (`/etc/sub{kind}`), so \
                     that its user can read and change what containers work on"
                ),
                REMEDY,
            ),
        },
        Some(Some(account)) => report.warn(
            CHECK,
            format!(
                "uid {uid}, {source}, is the account `{account}` of this machine, which can read and change what containers \
                 work on"
            ),
            REMEDY,
        ),
        None => report.skip(CHECK, format!("the list of accounts {}", timeout_message())),
    }
}

/// Warns of a mounted folder in which another user can write: through a socket in it, that user can pass a container of
/// root's an open folder of this machine.
fn check_root(source: &str, mounts: Vec<PathBuf>, report: &mut Report) {
    let find = || {
        let writers = |host: &PathBuf| Walked::new(host, Last::Any).ok()?.other_writers();
        mounts.into_iter().find_map(|host| writers(&host).map(|who| (host, who)))
    };
    match with_timeout(find) {
        None => report.skip(CHECK, format!("a mount {}", timeout_message())),
        Some(None) => report.pass(CHECK, format!("root, {source}")),
        Some(Some((host, who))) => report.warn(
            CHECK,
            format!(
                "root, {source}, and {who} can write to the mount of `{}`: a user of this machine and a task together could \
                 read and change every file of this machine",
                host.display()
            ),
            REMEDY,
        ),
    }
}
