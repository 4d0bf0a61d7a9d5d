use super::read;
use std::path::PathBuf;

fn split(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn harmless_arguments_are_kept_unchanged() {
    for line in [
        "",
        "--hostname lab",
        "-h lab --init --dns=1.1.1.1",
        "--ulimit nofile=1024:1024 --cap-add SYS_PTRACE",
        "-e A=b -eC -e=D=e --env TASK_IDS=1 --env-file /etc/agent/more",
        "--hostname -d",
        "--hostname --rm",
        "-qP --read-only=false",
        "-v data:/data -v=/scratch --volume=/srv/x:/workspaces:ro",
        "--mount type=bind,src=/srv,dst=/srv,readonly --mount type=volume,target=/v",
        "--tmpfs /workspace/scratch:size=1g --tmpfs /workspace/output/tmp",
        "--mount type=tmpfs,target=/workspace/scratch",
        "--label a.open-aaas.task=1 -l b",
        "--security-opt seccomp=unconfined --security-opt seccomp=/etc/s.json --security-opt label=disable",
        "--flag-of-another-day=1",
        "-u 1000 -m 4g",
    ] {
        let raw = read(split(line)).unwrap_or_else(|why| panic!("{line}: {why}"));
        assert_eq!(raw.args, split(line));
    }
}

#[test]
fn arguments_that_break_a_promise_are_refused() {
    for line in [
        "-d",
        "-dit",
        "-qd",
        "-d=false",
        "--detach",
        "--detach=true",
        "--rm",
        "--rm=false",
        "--name x",
        "--name=x",
        "--cidfile /x",
        "--sig-proxy",
        "--sig-proxy=true",
        "--restart always",
        "--log-driver none",
        "--log-opt max-size=1k",
        "-a stdout",
        "-astdout",
        "--attach stdout",
        "-t",
        "--tty",
        "-i",
        "--interactive",
        "--detach-keys a",
        "--entrypoint sh",
        "-w /x",
        "-w/x",
        "--workdir=/x",
        "--label open-aaas.task=1",
        "-lopen-aaas.x",
        "--label-file /x",
        "-e TASK_ID=1",
        "-eTIMEOUT=1",
        "--env=TASK_ID",
        "--env-file more",
        "--volumes-from x",
        "--pull never",
        "--help",
        "--replace",
        "--security-opt seccomp=s.json",
        "--hostname x -d",
        "-h x --init --rm",
    ] {
        assert!(read(split(line)).is_err(), "{line}");
    }
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
            "-v @",
            "-v@",
            "-v=@",
            "-v a:@",
            "-v /a:@:ro",
            "-v=a:@",
            "--volume=/a:@",
            "--volume @",
            "-Pv @",
            "-Pv=@",
            "--mount type=bind,source=/a,target=@",
            "--mount=type=volume,dst=@",
            "--mount Destination=@,type=tmpfs",
            "--mount \"target=@\"",
            "--mount type=bind,src=/a,target=/b,target=@",
            "--tmpfs @",
            "--tmpfs=@:size=1m",
        ] {
            let line = spelling.replace('@', place);
            let wrong = read(split(&line)).expect_err(&line);
            assert!(wrong.contains("is the task's own"), "{line}: {wrong}");
        }
    }
    for line in ["-v /a:/workspace/sub", "-v /workspace/sub", "--mount type=bind,src=/a,dst=/workspace/output/x"] {
        assert!(read(split(line)).unwrap_err().contains("[[paths.mounts]]"), "{line}");
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
        ("-x", "is no flag"),
        ("-=x", "is no flag"),
        ("-iü", "is no flag"),
        ("--hostname", "value is missing"),
        ("--init -e", "value is missing"),
        ("--flag-of-another-day 1", "isn't known here"),
        ("--flag-of-another-day", "isn't known here"),
        ("--mount type=bind", "no target"),
        ("--mount \"target=/x", "CSV"),
        ("-v ./a:/x", "absolute"),
        ("-v a/b:/x", "absolute"),
        ("-v ~/a:/x", "absolute"),
        ("-v a:x", "absolute"),
        ("--mount type=bind,src=a,dst=/x", "absolute"),
    ] {
        let wrong = read(split(line)).expect_err(line);
        assert!(wrong.contains(part), "{line}: {wrong}");
    }
    assert!(read(vec![String::new()]).unwrap_err().contains("take for the image"));
    assert!(read(vec!["--hostname".to_owned(), "a\0b".to_owned()]).unwrap_err().contains("NUL"));
}

#[test]
fn mounts_and_platform_in_arguments_are_recorded() {
    let line =
        "-v /a:/x/../b:ro --mount type=bind,src=/c,dst=/d/ -v name:/e --tmpfs /tmp:size=1m --platform linux/arm64";
    let raw = read(split(line)).unwrap();
    assert_eq!(raw.sources, ["/a", "/c"].map(PathBuf::from));
    assert_eq!(raw.targets, ["/b", "/d", "/e", "/tmp"]);
    assert_eq!(raw.platform.as_deref(), Some("linux/arm64"));
}

#[test]
fn refusals_name_the_flag_without_its_value() {
    let wrong = read(split("-e TASK_ID=hunter2")).unwrap_err();
    assert_eq!(wrong, "must not hold `--env`: TASK_ID and TIMEOUT are the agent's own");
}
