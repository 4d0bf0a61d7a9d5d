use super::{HostPath, SWITCHES, read};
use std::path::PathBuf;

fn split(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn refused(args: &[&str]) -> String {
    read(args.iter().map(|arg| (*arg).to_owned()).collect()).expect_err(&args.join(" "))
}

#[test]
fn arguments_are_kept_when_they_break_no_promise() {
    for line in [
        "",
        "--hostname=lab",
        "--init --dns=1.1.1.1",
        "--ulimit=nofile=1024:1024 --cap-add=SYS_PTRACE",
        "--env=A=b --env=C --env=TASK_IDS=1 --env-file=/etc/agent/more",
        "--hostname=-d",
        "--hostname=--rm",
        "--quiet --publish-all --read-only=false",
        "--volume=data:/data --volume=/scratch --volume=/srv/x:/workspaces:ro",
        "--mount=type=bind,src=/srv,dst=/srv,readonly --mount=type=volume,target=/v",
        "--tmpfs=/workspace/scratch:size=1g --tmpfs=/workspace/output/tmp",
        "--mount=type=tmpfs,target=/workspace/scratch",
        "--label=a.open-aaas.task=1 --label=b",
        "--security-opt=seccomp=unconfined --security-opt=seccomp=/etc/s.json --security-opt=label=disable",
        "--flag-of-another-day=1 --empty=",
        "--user=1000 --memory=4g --network=host --net=host --privileged --privileged=true",
    ] {
        let read = read(split(line)).unwrap_or_else(|why| panic!("{line}: {why}"));
        assert_eq!(read.args, split(line));
    }
}

#[test]
fn a_refused_flag_is_refused_in_every_spelling_of_docker() {
    // The last three are podman's.
    let long = "detach rm name cidfile label-file sig-proxy restart log-driver log-opt attach detach-keys interactive tty \
                entrypoint workdir pull volumes-from help replace rmi purge";
    for name in long.split_whitespace() {
        let flag = format!("--{name}");
        let [valued, off, empty] = ["x", "false", ""].map(|value| format!("{flag}={value}"));
        for args in [&[flag.as_str()][..], &[&flag, "x"], &[&valued], &[&off], &[&empty], &["--init", &flag]] {
            let wrong = refused(args);
            assert!(wrong.starts_with(&format!("must not hold `--{name}`: ")), "{args:?}: {wrong}");
        }
    }
    for (letter, name) in [("d", "detach"), ("a", "attach"), ("i", "interactive"), ("t", "tty"), ("w", "workdir")] {
        let flag = format!("-{letter}");
        let [attached, valued, behind, before] =
            [format!("{flag}x"), format!("{flag}=x"), format!("-q{letter}"), format!("{flag}q")];
        for args in [&[flag.as_str()][..], &[&flag, "x"], &[&attached], &[&valued], &[&before], &["--init", &flag]] {
            let wrong = refused(args);
            assert!(wrong.starts_with(&format!("must not hold `--{name}`: ")), "{args:?}: {wrong}");
        }
        refused(&[&behind]);
    }
}

#[test]
fn values_that_would_break_a_promise_are_refused() {
    for arg in [
        "--label=open-aaas.task=1",
        "--label= open-aaas.task=1",
        "--env=TASK_ID=1",
        "--env=TIMEOUT=1",
        "--env=TASK_ID",
        "--env-file=more",
        "--security-opt=seccomp=s.json",
        "--security-opt=seccomp:s.json",
    ] {
        let wrong = refused(&[arg]);
        assert!(wrong.starts_with("must not hold `--"), "{arg}: {wrong}");
    }
}

#[test]
fn the_right_form_is_shown_for_a_flag_without_equals_sign() {
    for (args, form) in [
        (
            &["--ulimit", "nofile=65536"][..],
            "has `--ulimit`; write a flag and its value in one word, `--ulimit=nofile=65536`",
        ),
        (&["--ulimit"], "`--ulimit=…`"),
        (&["--ulimit", "--init"], "`--ulimit=…`; for a flag that is on or off"),
        (&["--mount", "type=tmpfs,dst=/t"], "`--mount=type=tmpfs,dst=/t`, or use `[[paths.mounts]]`"),
        (&["--env", "A=hunter2"], "`--env=…`, or use `[executor.env]`"),
        (&["--init", "--hostname"], "`--hostname=…`"),
        (&["--flag-of-another-day", "1"], "`--flag-of-another-day=1`"),
        (&["--flag-of-another-day"], "`--flag-of-another-day=…`; for a flag that is on or off, the value is `true`"),
        (
            &["-v", "a:/b"],
            "has `-v`; write a flag and its value in one word, `--volume=a:/b`, or use `[[paths.mounts]]`",
        ),
        (&["-va:/b"], "`--volume=a:/b`, or use"),
        (&["-v=a:/b"], "`--volume=a:/b`, or use"),
        (&["-m", "4g"], "`--memory=4g`"),
        (&["-h", "\u{1b}[31m"], "`--hostname=\\u{1b}[31m`"),
        (&["-e", "A=hunter2"], "`--env=…`, or use `[executor.env]`"),
        (&["-eA=hunter2"], "`--env=…`, or use `[executor.env]`"),
        (&["-q"], "has the short flag `-q`; write `--quiet`"),
        (&["-P"], "has the short flag `-P`; write `--publish-all`"),
    ] {
        let wrong = refused(args);
        assert!(wrong.contains(form) && !wrong.contains("hunter2"), "{args:?}: {wrong}");
    }
}

/// Else docker would take the next argument for the flag's value, which may be the image.
#[test]
fn only_switches_stand_without_a_value() {
    for name in SWITCHES {
        assert!(read(vec![format!("--{name}")]).is_ok(), "{name}");
    }
    // Flags of docker that take a value, each a prefix or a relative of a switch.
    for name in ["init-path", "health-cmd", "oom-score-adj", "publish", "read-only-tmpfs", "user", "network", "gpus"] {
        assert!(refused(&[&format!("--{name}")]).contains("in one word"), "{name}");
    }
}

#[test]
fn ambiguous_arguments_are_refused() {
    for (line, part) in [
        ("image", "take for the image"),
        ("--init image", "take for the image"),
        ("--init true", "take for the image"),
        ("-", "take for the image"),
        ("-- image", "is no flag"),
        ("--", "is no flag"),
        ("--=x", "is no flag"),
        ("---rm", "is no flag"),
        ("--r\u{0301}m=x", "is no flag"),
        ("-x", "is no flag"),
        ("-=x", "is no flag"),
        ("-ü", "is no flag"),
        ("--mount=type=bind", "no target"),
        ("--mount=\"target=/x", "CSV"),
        ("--volume=./a:/x", "absolute"),
        ("--volume=a/b:/x", "absolute"),
        ("--volume=~/a:/x", "absolute"),
        ("--volume=a:x", "absolute"),
        ("--mount=type=bind,src=a,dst=/x", "absolute"),
    ] {
        let wrong = read(split(line)).expect_err(line);
        assert!(wrong.contains(part), "{line}: {wrong}");
    }
    assert!(refused(&[""]).contains("take for the image"));
    assert!(refused(&["--hostname=a\0b"]).contains("NUL"));
}

#[test]
fn every_spelling_of_a_mount_at_the_workspace_is_refused() {
    for place in [
        "/workspace",
        "/workspace/",
        "//workspace",
        "/./workspace/.",
        "/x/../workspace",
        "/../workspace",
        "/workspace/input",
        "/workspace/input/data",
        "/workspace/x/../task.json",
        "/workspace/output/",
    ] {
        for spelling in [
            "--volume=@",
            "--volume=a:@",
            "--volume=/a:@",
            "--volume=/a:@:ro",
            "--mount=type=bind,source=/a,target=@",
            "--mount=type=volume,dst=@",
            "--mount=Destination=@,type=tmpfs",
            "--mount=\"target=@\"",
            "--mount=type=bind,src=/a,target=/b,target=@",
            "--tmpfs=@",
            "--tmpfs=@:size=1m",
        ] {
            let wrong = refused(&[&spelling.replace('@', place)]);
            assert!(wrong.contains("is the task's own"), "{spelling} {place}: {wrong}");
        }
    }
    for arg in
        ["--volume=/a:/workspace/sub", "--volume=/workspace/sub", "--mount=type=bind,src=/a,dst=/workspace/output/x"]
    {
        assert!(refused(&[arg]).contains("[[paths.mounts]]"), "{arg}");
    }
}

#[test]
fn mounts_and_platform_are_noted() {
    let line = "--volume=/a:/x/../b:ro --mount=type=bind,src=/c,dst=/d/ --volume=name:/e --tmpfs=/tmp:size=1m \
                --platform=linux/arm64";
    let read = read(split(line)).unwrap();
    let source = |path: &str, readonly| HostPath { path: PathBuf::from(path), readonly };
    assert_eq!(read.sources, [source("/a", true), source("/c", false)]);
    assert_eq!(read.targets, ["/b", "/d", "/e", "/tmp"]);
    assert_eq!(read.platform.as_deref(), Some("linux/arm64"));
}

#[test]
fn a_refusal_shows_the_flag_and_no_value() {
    let wrong = refused(&["--env=TASK_ID=hunter2"]);
    assert_eq!(wrong, "must not hold `--env`: TASK_ID and TIMEOUT are the agent's own");
}
