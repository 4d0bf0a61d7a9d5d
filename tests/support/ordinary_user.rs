//! The agent as an ordinary user with access to the engine, and containers that run as root.

use super::agent::{Agent, Builder, Invocation, Running};
use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user `nobody`, who owns no other files here.
pub const USER: u32 = 65534;

/// An agent whose folder belongs to that user, with a copy of the program, since the original may lie below a private
/// home.
///
/// If the tests run as an ordinary user, the agent runs as that user.
pub struct OrdinaryUser {
    pub agent: Agent,
    program: Option<PathBuf>,
}

impl OrdinaryUser {
    pub fn new(builder: Builder) -> Self {
        if !nix::unistd::geteuid().is_root() {
            return Self { agent: builder.build(), program: None };
        }
        let agent = builder.folder_in(&env::temp_dir()).build();
        let program = agent.path("agent-core");
        // Another process makes the copy: a file that this process has open for writing may be inherited by a child of
        // another thread, and then can't be executed.
        let copied = Command::new("cp").arg(super::program()).arg(&program).status();
        assert!(copied.is_ok_and(|status| status.success()), "copy the program");
        let user = Self { agent, program: Some(program) };
        user.own_everything();
        user
    }

    /// Gives all files in the agent's folder to the user.
    pub fn own_everything(&self) {
        let root = self.agent.dir().parent().expect("the agent's folder has one around it").to_owned();
        for entry in walkdir::WalkDir::new(root).into_iter().flatten() {
            if self.program.is_some() {
                chown(entry.path(), Some(USER), Some(USER)).expect("give the folder away");
            }
        }
    }

    pub fn start(&self) -> Running {
        self.invoke(&["run"]).start()
    }

    /// The program with these arguments, to be started as the ordinary user.
    pub fn invoke(&self, arguments: &[&str]) -> Invocation {
        let Some(program) = &self.program else { return self.agent.invoke(arguments) };
        let group = fs::metadata(socket()).expect("look at the engine's socket").gid().to_string();
        let (user, program) = (USER.to_string(), program.to_string_lossy().into_owned());
        // The last word before the arguments is the program's usual path.
        let other = ["sh", "-c", r#"own=$1; shift 2; exec "$own" "$@""#, "sh", &program];
        let become_user = ["setpriv", "--reuid", &user, "--regid", &group, "--clear-groups", "--no-new-privs"];
        let words = [become_user.as_slice(), other.as_slice()].concat();
        let home = self.agent.home().to_string_lossy().into_owned();
        self.agent.invoke(arguments).through(&words).env("DOCKER_CONFIG", home)
    }
}

fn socket() -> PathBuf {
    let host = env::var("DOCKER_HOST").unwrap_or_default();
    PathBuf::from(host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock"))
}

/// Makes a folder writable for every user.
pub fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("open the folder");
}
