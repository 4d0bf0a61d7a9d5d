//! Why the engine couldn't start a container, read from its words: the one place where they decide something.
//!
//! The structured values don't tell: the exit status that docker sets for a failed start is itself taken from the words,
//! and 127 stands for a missing program as for a missing device. What isn't recognized counts as the machine's, so that a
//! wording of tomorrow's engine costs a few more tries, and no queue of tasks.

/// What kept a container from being started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFault {
    /// The image has no such program: the machine did all that comes before it.
    NoProgram,
    /// Something else of the image, such as a program that isn't executable, or a user that it doesn't know.
    Image,
    /// This machine: network, disk, runtime, devices, or an error that isn't recognized. The container has never run.
    Machine,
    /// The engine gave up waiting for the runtime, so that the program may have begun.
    Unclear,
}

/// What the words say of a failed start.
pub fn find_fault(words: &str) -> StartFault {
    let words = words.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    // The runtime names the program behind `exec`; runc as `exec: "sh"`, crun without it.
    let is_about_program = has(&["exec: \"", "executable file `", "open executable", "exec container process `"]);
    if is_about_program && has(&["executable file not found", "not found in $path", "no such file or directory"]) {
        return StartFault::NoProgram;
    }
    let is_not_executable = has(&["permission denied", "is a directory", "exec format error"]);
    let is_unknown_user = has(&["no matching entries in passwd file", "no matching entries in group file"]);
    if is_about_program && is_not_executable || is_unknown_user {
        return StartFault::Image;
    }
    // What fails at the creation hasn't run: the runtime starts the program in a second step.
    let is_before_start = has(&["create failed", "failed to create", "failed to set up container networking"]);
    let is_given_up = has(&["deadline exceeded", "context canceled", "transport is closing", "ttrpc: closed", ": eof"]);
    if is_given_up && !is_before_start { StartFault::Unclear } else { StartFault::Machine }
}

#[cfg(test)]
mod tests {
    use super::StartFault::{Image, Machine, NoProgram, Unclear};
    use super::find_fault;

    /// runc's words before its own.
    const RUNC: &str = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
                        process: ";

    #[test]
    fn words_of_docker_and_podman_tell_the_images_faults_from_the_machines() {
        let runc = |end: &str| format!("{RUNC}{end}");
        let table = [
            (NoProgram, runc(r#"exec: "/nope": stat /nope: no such file or directory: unknown"#)),
            (NoProgram, runc(r#"exec: "nope": executable file not found in $PATH: unknown"#)),
            (
                NoProgram,
                r#"OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "x": executable file not found in $PATH: unknown"#.to_owned(),
            ),
            (
                NoProgram,
                "Error: crun: executable file `nope` not found in $PATH: No such file or directory: OCI runtime attempted to \
                 invoke a command that was not found"
                    .to_owned(),
            ),
            (Image, runc(r#"exec: "/etc": permission denied: unknown"#)),
            (Image, runc(r#"exec: "/etc": is a directory: unknown"#)),
            (Image, "Error: crun: open executable: Permission denied: OCI permission denied".to_owned()),
            (Image, "unable to find user nosuch: no matching entries in passwd file".to_owned()),
            (Image, "Unable to find group nosuchgrp: no matching entries in group file".to_owned()),
            (Machine, "network lab not found".to_owned()),
            (Machine, "Error: unable to find network with name or ID lab: network not found".to_owned()),
            (Machine, "could not find bridge docker0: route ip+net: no such network interface".to_owned()),
            (Machine, "no available IPv4 addresses on this network's address pools: tiny (0c1f)".to_owned()),
            (
                Machine,
                r#"error gathering device information while adding custom device "/dev/nope": no such file or directory"#
                    .to_owned(),
            ),
            (Machine, "error creating overlay mount to /var/lib/docker/overlay2/x/merged: no space left on device".to_owned()),
            (Machine, r#"could not select device driver "" with capabilities: [[gpu]]"#.to_owned()),
            (Machine, "failed to create shim task: context deadline exceeded: unknown".to_owned()),
            (
                Machine,
                runc(
                    "unable to apply cgroup configuration: unable to start unit \"docker-1.scope\": Message recipient \
                     disconnected from message bus without replying: unknown",
                ),
            ),
            (Machine, runc(r#"exec: "/bin/sh": operation not permitted: unknown"#)),
            (Machine, "Cannot mkdir: /etc/hostname is not a directory".to_owned()),
            (Machine, "a message of an engine that isn't written yet".to_owned()),
            (Machine, String::new()),
            (Unclear, "context deadline exceeded".to_owned()),
            (Unclear, "rpc error: code = Unavailable desc = transport is closing".to_owned()),
            (Unclear, "ttrpc: closed: unknown".to_owned()),
        ];
        for (fault, words) in table {
            assert_eq!(find_fault(&words), fault, "{words}");
        }
    }
}
