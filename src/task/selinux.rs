//! SELinux: whether it keeps containers from their workspaces.
//!
//! An engine that uses SELinux confines each container to files of a few types, and `--mount` sets none. Where the
//! data_dir has another type, every task would say "Permission denied" of its `task.json`.

use std::fs;

use crate::config::Config;
use crate::docker::Docker;
use crate::os::platform;
use crate::shell::shell_line;

/// Where the kernel says whether SELinux is enforced.
const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// The types of files that containers may use.
const USABLE: [&str; 2] = [":container_file_t:", ":svirt_sandbox_file_t:"];

/// Why SELinux keeps containers from the data_dir, with the remedy, if it does.
pub fn find_denial(config: &Config, docker: &Docker) -> Option<String> {
    let is_enforced = fs::read_to_string(ENFORCE).is_ok_and(|text| text.trim() == "1");
    if !is_enforced || is_disabled(&config.executor.options.docker_args.args) || !docker.uses_selinux() {
        return None;
    }
    let data_dir = &config.paths.data_dir;
    let label = platform::selinux_label(data_dir);
    if label.as_deref().is_some_and(is_usable) {
        return None;
    }
    Some(format!(
        "SELinux is enforced and keeps containers from the files in `{}`, whose label is {}; run `{}` once, or set \
         `executor.docker_args = [\"--security-opt=label=disable\"]`",
        data_dir.display(),
        label.map_or("not known".to_owned(), |label| format!("`{label}`")),
        shell_line(["sudo", "chcon", "-Rt", "container_file_t", &data_dir.to_string_lossy()])
    ))
}

/// Whether containers may use files of this label.
fn is_usable(label: &str) -> bool {
    USABLE.iter().any(|usable| label.contains(usable))
}

/// Whether the arguments set a label, or none.
fn is_disabled(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "--privileged" || arg.starts_with("--security-opt=label"))
}

#[cfg(test)]
mod tests {
    use super::{is_disabled, is_usable};

    #[test]
    fn containers_may_use_files_of_their_types_or_without_confinement() {
        assert!(
            is_usable("system_u:object_r:container_file_t:s0") && is_usable("u:object_r:svirt_sandbox_file_t:s0:c1")
        );
        assert!(!is_usable("system_u:object_r:var_lib_t:s0") && !is_usable("unconfined_u:object_r:user_home_t:s0"));
        let args = |arg: &str| is_disabled(&["--init".to_owned(), arg.to_owned()]);
        assert!(args("--security-opt=label=disable") && args("--security-opt=label=type:x_t") && args("--privileged"));
        assert!(!args("--security-opt=no-new-privileges") && !args("--label=label"));
    }
}
