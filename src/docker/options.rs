//! The options of `docker run` for what a container may do and use: pure functions, no process.

use crate::config::container_options::{ContainerOptions, Isolation, Pull};

/// The options without `executor.docker_args`. `mounted` are the paths in the container where something is mounted
/// already: docker refuses a second mount at one place.
pub(super) fn option_args(options: &ContainerOptions, mounted: &[&str]) -> Vec<String> {
    let level: &[&str] = match options.isolation {
        Isolation::Standard => &["--security-opt", "no-new-privileges", "--cap-drop", "NET_RAW", "--cap-drop", "MKNOD"],
        Isolation::Strict => &["--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--read-only"],
        Isolation::None => &[],
    };
    let mut args: Vec<String> = level.iter().copied().map(str::to_owned).collect();
    let is_taken = mounted.contains(&"/tmp") || options.docker_args.targets.iter().any(|target| target == "/tmp");
    let has_tmpfs = options.isolation == Isolation::Strict && !is_taken;
    add(&mut args, "--tmpfs", has_tmpfs.then(|| "/tmp".to_owned()));
    let pids_limit = match options.pids_limit {
        Some(0) => Some("-1".to_owned()),
        _ => options.most_processes().map(|limit| limit.to_string()),
    };
    add(&mut args, "--pids-limit", pids_limit);
    add(&mut args, "--network", options.network.clone());
    add(&mut args, "--cpus", options.cpus.clone());
    add(&mut args, "--shm-size", options.shm_size.clone());
    add(&mut args, "--user", options.user.clone());
    add(&mut args, "--gpus", options.gpus.clone());
    add(&mut args, "--device", options.devices.iter().cloned());
    add(&mut args, "--add-host", options.host_access.then(|| "host.docker.internal:host-gateway".to_owned()));
    add(&mut args, "--pull", options.pull.map(|pull| pull_policy(pull).to_owned()));
    args
}

/// Adds the flag once for each value.
pub(super) fn add(args: &mut Vec<String>, flag: &str, values: impl IntoIterator<Item = String>) {
    args.extend(values.into_iter().flat_map(|value| [flag.to_owned(), value]));
}

fn pull_policy(pull: Pull) -> &'static str {
    match pull {
        Pull::Missing => "missing",
        Pull::Always => "always",
        Pull::Never => "never",
    }
}

#[cfg(test)]
mod tests {
    use super::option_args;
    use crate::config::container_options::{ContainerOptions, DockerArgs, Isolation, Pull};

    fn with(isolation: Isolation) -> ContainerOptions {
        ContainerOptions { isolation, ..ContainerOptions::default() }
    }

    #[test]
    fn each_isolation_level_has_its_arguments() {
        let standard = "--security-opt no-new-privileges --cap-drop NET_RAW --cap-drop MKNOD --pids-limit 4096";
        let strict = "--security-opt no-new-privileges --cap-drop ALL --read-only --tmpfs /tmp --pids-limit 512";
        assert_eq!(option_args(&ContainerOptions::default(), &[]).join(" "), standard);
        assert_eq!(option_args(&with(Isolation::Standard), &["/tmp"]).join(" "), standard);
        assert_eq!(option_args(&with(Isolation::Strict), &["/workspace"]).join(" "), strict);
        assert_eq!(option_args(&with(Isolation::None), &[]), Vec::<String>::new());
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
        assert_eq!(option_args(&options, &[]).join(" "), expected);
    }

    #[test]
    fn pids_limit_replaces_the_levels_limit_and_0_removes_it() {
        let limit = |isolation, limit| {
            let words = option_args(&ContainerOptions { pids_limit: Some(limit), ..with(isolation) }, &[]);
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
        let mut strict = with(Isolation::Strict);
        assert!(!option_args(&strict, &["/workspace", "/tmp"]).contains(&"--tmpfs".to_owned()));
        strict.docker_args.targets = vec!["/tmp".to_owned()];
        assert!(!option_args(&strict, &[]).contains(&"--tmpfs".to_owned()));
    }
}
