//! What a container may do and use, as options of `docker run`: pure functions, no process.

use std::path::PathBuf;

/// How far a container is kept from what it doesn't need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// For every image that needs no setuid programs, raw sockets or device nodes.
    #[default]
    Standard,
    /// For images that need no capability at all and write nowhere but to the workspace and `/tmp`.
    Strict,
    /// docker's own defaults.
    None,
}

impl Isolation {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Standard => &["--security-opt", "no-new-privileges", "--cap-drop", "NET_RAW", "--cap-drop", "MKNOD"],
            Self::Strict => &["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--read-only"],
            Self::None => &[],
        }
    }

    /// How many processes and threads a container may have; `None` is docker's default.
    fn pids_limit(self) -> Option<u64> {
        match self {
            Self::Standard => Some(4096),
            Self::Strict => Some(512),
            Self::None => None,
        }
    }
}

/// When docker fetches the image from its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Where the engine doesn't have it.
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

impl Pull {
    /// docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Always => "always",
            Self::Never => "never",
        }
    }
}

/// Words for `docker run` that somebody has written themselves, and what has to be known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerArgs {
    /// The words.
    pub args: Vec<String>,
    /// The absolute paths of this machine that they mount.
    pub sources: Vec<PathBuf>,
    /// The absolute paths in the container where they mount something, in their shortest spelling.
    pub targets: Vec<String>,
    /// The value of `--platform`.
    pub platform: Option<String>,
}

/// What a container may do and use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerOptions {
    /// The level that the others vary.
    pub isolation: Isolation,
    /// docker's `--network`.
    pub network: Option<String>,
    /// docker's `--cpus`.
    pub cpus: Option<String>,
    /// Replaces the level's limit of processes; 0 is no limit.
    pub pids_limit: Option<u64>,
    /// docker's `--shm-size`.
    pub shm_size: Option<String>,
    /// docker's `--user`.
    pub user: Option<String>,
    /// docker's `--gpus`.
    pub gpus: Option<String>,
    /// docker's `--device`, each.
    pub devices: Vec<String>,
    /// Whether `host.docker.internal` is this machine.
    pub host_access: bool,
    /// docker's `--pull`; left out, docker decides.
    pub pull: Option<Pull>,
    /// What goes right before the image.
    pub docker_args: DockerArgs,
}

impl ContainerOptions {
    /// The words for `docker run`, without the raw ones. `mounted` are the paths in the container where something is
    /// mounted already: docker refuses a second mount at one place.
    pub fn words(&self, mounted: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = self.isolation.words().iter().copied().map(str::to_owned).collect();
        let is_taken = mounted.contains(&"/tmp") || self.docker_args.targets.iter().any(|target| target == "/tmp");
        if self.isolation == Isolation::Strict && !is_taken {
            words.extend(["--tmpfs".to_owned(), "/tmp".to_owned()]);
        }
        let pids_limit = match self.pids_limit {
            Some(0) => Some("-1".to_owned()),
            Some(limit) => Some(limit.to_string()),
            None => self.isolation.pids_limit().map(|limit| limit.to_string()),
        };
        let valued = [
            ("--pids-limit", pids_limit),
            ("--network", self.network.clone()),
            ("--cpus", self.cpus.clone()),
            ("--shm-size", self.shm_size.clone()),
            ("--user", self.user.clone()),
            ("--gpus", self.gpus.clone()),
        ];
        words.extend(valued.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten());
        for device in &self.devices {
            words.extend(["--device".to_owned(), device.clone()]);
        }
        if self.host_access {
            words.extend(["--add-host".to_owned(), "host.docker.internal:host-gateway".to_owned()]);
        }
        if let Some(pull) = self.pull {
            words.extend(["--pull".to_owned(), pull.as_str().to_owned()]);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::{ContainerOptions, DockerArgs, Isolation, Pull};

    fn of(isolation: Isolation) -> ContainerOptions {
        ContainerOptions { isolation, ..ContainerOptions::default() }
    }

    #[test]
    fn each_isolation_level_has_its_arguments() {
        let standard = "--security-opt no-new-privileges --cap-drop NET_RAW --cap-drop MKNOD --pids-limit 4096";
        let strict = "--security-opt no-new-privileges --cap-drop ALL --read-only --tmpfs /tmp --pids-limit 512";
        assert_eq!(ContainerOptions::default().words(&[]).join(" "), standard);
        assert_eq!(of(Isolation::Standard).words(&["/tmp"]).join(" "), standard);
        assert_eq!(of(Isolation::Strict).words(&["/workspace"]).join(" "), strict);
        assert_eq!(of(Isolation::None).words(&[]), Vec::<String>::new());
    }

    #[test]
    fn every_option_has_its_argument() {
        let options = ContainerOptions {
            isolation: Isolation::None,
            network: Some("lab".to_owned()),
            cpus: Some("1.5".to_owned()),
            pids_limit: Some(99),
            shm_size: Some("1g".to_owned()),
            user: Some("1000:100".to_owned()),
            gpus: Some("\"device=0,1\"".to_owned()),
            devices: vec!["/dev/kfd".to_owned(), "/dev/dri".to_owned()],
            host_access: true,
            pull: Some(Pull::Never),
            docker_args: DockerArgs { args: vec!["--init".to_owned()], ..DockerArgs::default() },
        };
        let expected = "--pids-limit 99 --network lab --cpus 1.5 --shm-size 1g --user 1000:100 --gpus \"device=0,1\" \
                        --device /dev/kfd --device /dev/dri --add-host host.docker.internal:host-gateway --pull never";
        assert_eq!(options.words(&[]).join(" "), expected);
    }

    #[test]
    fn pids_limit_replaces_the_levels_limit_and_0_removes_it() {
        let limit = |isolation, limit| {
            let words = ContainerOptions { pids_limit: Some(limit), ..of(isolation) }.words(&[]);
            let at = words.iter().position(|word| word == "--pids-limit").unwrap();
            assert_eq!(words.iter().filter(|word| *word == "--pids-limit").count(), 1);
            words[at + 1].clone()
        };
        assert_eq!(limit(Isolation::Strict, 64), "64");
        assert_eq!(limit(Isolation::Standard, 0), "-1");
        assert_eq!(limit(Isolation::None, 7), "7");
    }

    #[test]
    fn strict_adds_no_tmpfs_when_tmp_is_mounted_already() {
        let mut strict = of(Isolation::Strict);
        assert!(!strict.words(&["/workspace", "/tmp"]).contains(&"--tmpfs".to_owned()));
        strict.docker_args.targets = vec!["/tmp".to_owned()];
        assert!(!strict.words(&[]).contains(&"--tmpfs".to_owned()));
    }
}
