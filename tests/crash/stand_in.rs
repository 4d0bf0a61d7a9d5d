//! The script that replaces docker, and its folder.

use crate::point::How;
use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::ordinary_user::open_to_all;
use crate::support::secs;
use std::fs;
use std::path::PathBuf;

const SCRIPT: &str = include_str!("docker-stand-in.sh");

/// The kinds of docker calls that the script distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Version,
    /// The listing of all containers of this agent.
    Sweep,
    Inspect,
    /// The listing that proves that a container doesn't exist.
    Absent,
    Run,
    Stop,
    Logs,
    Follow,
    Create,
    Cp,
    /// The engine's events about a container's end.
    Events,
    Rm,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Sweep => "sweep",
            Self::Inspect => "inspect",
            Self::Absent => "absent",
            Self::Run => "run",
            Self::Stop => "stop",
            Self::Logs => "logs",
            Self::Follow => "follow",
            Self::Create => "create",
            Self::Cp => "cp",
            Self::Events => "events",
            Self::Rm => "rm",
        }
    }
}

/// The script in its folder, which lies in the agent's.
pub struct StandIn {
    folder: PathBuf,
}

impl StandIn {
    /// Writes the script and names it in the agent's configuration.
    pub fn install(agent: &Agent) -> Self {
        let folder = agent.path("stand-in");
        let script = SCRIPT.replace("@HERE@", &folder.to_string_lossy());
        // Not in that folder, which is open to others: the agent would not run it.
        let script = agent.write_script("stand-in-docker", &script);
        agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
        // The agent may run as another user.
        fs::create_dir(&folder).expect("make the script's folder");
        open_to_all(&folder);
        let stand_in = Self { folder };
        stand_in.disarm();
        stand_in
    }

    /// Kills the agent at this call, counted from now on.
    pub fn arm(&self, verb: Verb, number: usize, how: How) {
        self.disarm();
        fs::write(self.folder.join("armed"), format!("{} {number} {}\n", verb.word(), how.word()))
            .expect("write the chosen call");
    }

    /// Resets the chosen call, the counts and the process to kill.
    pub fn disarm(&self) {
        // The file may not exist.
        let _ = fs::remove_file(self.folder.join("pid"));
        // The rename is one step: a client that outlived its agent may still add itself to the count.
        let seen = self.folder.join("seen");
        let old = self.folder.join("seen.old");
        if seen.exists() {
            wait_until("the old count to be removed", secs(20), || {
                (!old.exists() || fs::remove_dir_all(&old).is_ok()) && fs::rename(&seen, &old).is_ok()
            });
        }
        fs::create_dir(self.folder.join("seen")).expect("make a folder to count in");
        open_to_all(&self.folder.join("seen"));
        fs::write(self.folder.join("armed"), "nothing 0 never\n").expect("write no chosen call");
    }

    /// Names the process to be killed.
    pub fn aim(&self, process: u32) {
        // The rename is one step, so the script never reads half a number.
        let half = self.folder.join("pid.tmp");
        fs::write(&half, process.to_string()).expect("write the pid");
        fs::rename(&half, self.folder.join("pid")).expect("write the pid");
    }

    /// Every call so far, in one line each.
    pub fn calls(&self) -> String {
        fs::read_to_string(self.folder.join("calls")).unwrap_or_default()
    }
}
