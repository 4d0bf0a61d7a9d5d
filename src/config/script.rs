//! The origin of the script for the executor types `bash` and `python`.

use std::path::PathBuf;

use super::values::{normalize, path_below};
use super::{Config, Program, WORKSPACE};

/// What brings the script into the container. Paths in the container are normalized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptSource {
    /// The image, at this path.
    Image(String),
    /// A mount: this file of the machine.
    Mount(PathBuf),
    /// A mount among `executor.docker_args`.
    DockerArgs,
    /// The task's own input files.
    Input,
    /// Nothing: the workspace is mounted over this path of the image.
    Hidden(String),
}

impl Config {
    /// The script's origin, or `None` for an executor type without a script.
    pub fn script_source(&self) -> Option<ScriptSource> {
        let (Program::Bash(script) | Program::Python(script)) = &self.executor.program else { return None };
        let base = if script.starts_with('/') { "" } else { self.executor.working_dir.as_str() };
        let path = normalize(&format!("{base}/{script}"));
        let within = |target: &str| path_below(&path, target).is_some();
        // The innermost mount covers the others.
        let mounts = self.paths.mounts.iter().filter(|mount| within(&mount.container));
        let mount = mounts.max_by_key(|mount| mount.container.len());
        Some(if let Some(mount) = mount {
            let rest = path_below(&path, &mount.container).unwrap_or_default();
            ScriptSource::Mount(if rest.is_empty() { mount.host.clone() } else { mount.host.join(rest) })
        } else if self.executor.options.docker_args.targets.iter().any(|target| within(target)) {
            ScriptSource::DockerArgs
        } else if path_below(&path, &format!("{WORKSPACE}/input")).is_some_and(|rest| !rest.is_empty()) {
            ScriptSource::Input
        } else if within(WORKSPACE) {
            ScriptSource::Hidden(path)
        } else {
            ScriptSource::Image(path)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ScriptSource;
    use crate::config::Config;
    use std::path::Path;

    const MOUNTS: &str = "[[paths.mounts]]\nhost = '/jobs'\ncontainer = '/opt'\n\
        [[paths.mounts]]\nhost = '/one'\ncontainer = '/opt/one.sh'\n\
        [[paths.mounts]]\nhost = '/lib'\ncontainer = '/workspace/lib'\n";

    fn config(executor: &str) -> Config {
        let text = format!("[server]\nbase_url = 'http://h'\n[executor]\n{executor}\n{MOUNTS}");
        Config::parse(Path::new("/c.toml"), &text).unwrap()
    }

    fn source(executor: &str) -> Option<ScriptSource> {
        config(executor).script_source()
    }

    #[test]
    fn standard_and_custom_types_have_no_script() {
        assert_eq!(source(""), None);
        assert_eq!(source("executor_type = 'custom'\ncustom_entrypoint = ['/x']"), None);
    }

    #[test]
    fn scripts_in_the_workspace_need_a_mount_or_an_input_file() {
        let hidden = |path: &str| Some(ScriptSource::Hidden(path.to_owned()));
        assert_eq!(source("executor_type = 'bash'"), hidden("/workspace/run.sh"));
        assert_eq!(
            source("executor_type = 'python'\nworking_dir = '/workspace/sub/'"),
            hidden("/workspace/sub/run.py")
        );
        assert_eq!(source("executor_type = 'bash'\nscript_path = './x//../y.sh'"), hidden("/workspace/y.sh"));
        assert_eq!(
            source("executor_type = 'bash'\nscript_path = '/workspace/input/run.sh'"),
            Some(ScriptSource::Input)
        );
        let mounted = Some(ScriptSource::Mount("/lib/a/b.py".into()));
        assert_eq!(source("executor_type = 'python'\nscript_path = 'lib/a/b.py'"), mounted);
    }

    #[test]
    fn scripts_elsewhere_come_from_a_mount_or_the_image() {
        let at = |path: &str| source(&format!("executor_type = 'bash'\nscript_path = '{path}'"));
        assert_eq!(at("/opt/two.sh"), Some(ScriptSource::Mount("/jobs/two.sh".into())));
        assert_eq!(at("/opt/one.sh"), Some(ScriptSource::Mount("/one".into())));
        assert_eq!(at("/optional/x.sh"), Some(ScriptSource::Image("/optional/x.sh".to_owned())));
        assert_eq!(at("/workspaces/x.sh"), Some(ScriptSource::Image("/workspaces/x.sh".to_owned())));
        let raw = "executor_type = 'bash'\nscript_path = '/raw/x.sh'\ndocker_args = ['--volume=/h:/raw']";
        assert_eq!(source(raw), Some(ScriptSource::DockerArgs));
    }
}
