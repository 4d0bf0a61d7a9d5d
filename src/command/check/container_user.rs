//! Whether the user of containers is somebody on this machine: that account reads the workspace and the variables of each
//! container under `/proc`, past the closed data_dir.

use super::report::{Check, Report};
use crate::config::Config;
use crate::docker::Docker;
use crate::os::platform;
use crate::os::timeout::{timeout_message, with_timeout};

pub fn check(config: &Config, docker: &Docker, report: &mut Report) {
    const CHECK: Check = Check::ContainerUser;
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
    if uid == 0 {
        return report.pass(CHECK, format!("root, {source}"));
    }
    match with_timeout(move || platform::other_account(uid)) {
        Some(None) => report.pass(CHECK, format!("uid {uid}, {source}; no other account of this machine has it")),
        Some(Some(account)) => report.warn(
            CHECK,
            format!(
                "uid {uid}, {source}, is the account `{account}` of this machine, which can read and change what containers \
                 work on"
            ),
            "set `executor.user` to a uid without an account, such as \"52001:52001\"",
        ),
        None => report.skip(CHECK, format!("the list of accounts {}", timeout_message())),
    }
}
