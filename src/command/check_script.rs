//! Whether the script of the executor types `bash` and `python` can exist, as far as this machine knows: `check` and
//! `run` report it.

use crate::config::{Config, ScriptSource, WORKSPACE};
use crate::os::timeout::{timeout_message, with_timeout};

/// # Errors
/// The reason why no task can have its script, with the key and the remedy.
pub fn check_script(config: &Config) -> Result<(), String> {
    match config.script_source() {
        Some(ScriptSource::Hidden(path)) => Err(format!(
            "the script `{path}` (`executor.script_path`) can't be there: the task's workspace is mounted over what the \
             image has in `{WORKSPACE}`; set `executor.working_dir` or `executor.script_path` to another folder of the \
             image, or mount the script with `[[paths.mounts]]`"
        )),
        Some(ScriptSource::Mount(file)) => {
            let shown = file.display().to_string();
            match with_timeout(move || file.metadata().is_ok_and(|metadata| metadata.is_file())) {
                Some(true) => Ok(()),
                Some(false) => Err(format!(
                    "the script `{shown}` (`executor.script_path`), which a mount would show to the container, is no \
                     file on this machine; put it there"
                )),
                None => Err(format!("the script `{shown}` (`executor.script_path`) {}", timeout_message())),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_script;
    use crate::config::Config;
    use std::path::Path;

    fn checked(executor: &str) -> Result<(), String> {
        let mount = "[[paths.mounts]]\nhost = '/jobs'\ncontainer = '/opt'";
        let text = format!("[server]\nbase_url = 'http://h'\n[executor]\n{executor}\n{mount}\n");
        check_script(&Config::parse(Path::new("/c.toml"), &text).unwrap())
    }

    #[test]
    fn missing_scripts_are_reported_with_key_and_remedy() {
        let hidden = checked("executor_type = 'bash'").unwrap_err();
        let expected = "`/workspace/run.sh` (`executor.script_path`)";
        assert!(hidden.contains(expected) && hidden.contains("working_dir"), "{hidden}");
        let missing = checked("executor_type = 'bash'\nscript_path = '/opt/two.sh'").unwrap_err();
        assert!(missing.contains("`/jobs/two.sh`"), "{missing}");
        assert_eq!(checked("executor_type = 'bash'\nscript_path = '/img/x.sh'"), Ok(()));
    }
}
