use super::{Bind, RunSpec};
use crate::config::container_options::{ContainerOptions, DockerArgs};

fn spec() -> RunSpec {
    RunSpec {
        name: "open-aaas-task-t1".to_owned(),
        cidfile: "/d/tasks/t1/cid".into(),
        labels: vec![("open-aaas.task", "t1".to_owned()), ("open-aaas.instance", "abc".to_owned())],
        binds: vec![
            Bind { source: "/d/workspaces/t1".into(), target: "/workspace".to_owned(), readonly: false },
            Bind { source: "/data, old \"x\"".into(), target: "/shared".to_owned(), readonly: true },
        ],
        working_dir: "/workspace".to_owned(),
        env: vec![("TASK_ID", "t1".to_owned()), ("TIMEOUT", "60".to_owned())],
        env_file: None,
        options: ContainerOptions::default(),
        memory_limit: None,
        entrypoint: None,
        image: "img:1".to_owned(),
        args: Vec::new(),
    }
}

/// A container with everything that can be left out.
fn full_spec() -> RunSpec {
    let docker_args = DockerArgs { args: vec!["--hostname=a b".to_owned()], ..DockerArgs::default() };
    RunSpec {
        env_file: Some("/d/tasks/t1/env".into()),
        options: ContainerOptions { network: Some("none".to_owned()), docker_args, ..ContainerOptions::default() },
        memory_limit: Some("4g".to_owned()),
        entrypoint: Some("/bin/sh".to_owned()),
        args: vec!["-c".to_owned(), "echo 'hi'\necho \"$HOME\"\n".to_owned()],
        ..spec()
    }
}

const TASK: &str = "--name open-aaas-task-t1 --cidfile /d/tasks/t1/cid --label open-aaas.task=t1 \
                    --label open-aaas.instance=abc";
const COMMON: &str = "--sig-proxy=false --log-driver json-file --log-opt max-size=5m --log-opt max-file=2 \
                      --mount type=bind,source=/d/workspaces/t1,target=/workspace \
                      --mount 'type=bind,\"source=/data, old \"\"x\"\"\",target=/shared,readonly' \
                      -w /workspace -e TASK_ID=t1 -e TIMEOUT=60";
const LEVEL: &str = "--security-opt no-new-privileges --cap-drop NET_RAW --cap-drop MKNOD --pids-limit 4096";
const FULL_COMMAND: &str = "-m 4g --entrypoint /bin/sh '--hostname=a b' img:1 -c 'echo '\\''hi'\\''\necho \"$HOME\"\n'";

#[test]
fn executed_arguments_are_complete_and_in_order() {
    assert_eq!(spec().executed(), shlex::split(&format!("run {TASK} {COMMON} {LEVEL} img:1")).unwrap());
    let full = format!("run {TASK} {COMMON} --env-file /d/tasks/t1/env {LEVEL} --network none {FULL_COMMAND}");
    assert_eq!(full_spec().executed(), shlex::split(&full).unwrap());
}

#[test]
fn pasteable_arguments_omit_name_labels_and_cidfile() {
    assert_eq!(spec().pasteable(), shlex::split(&format!("run --rm {COMMON} {LEVEL} img:1")).unwrap());
    let full = format!("run --rm {COMMON} --env-file /d/tasks/t1/env {LEVEL} --network none {FULL_COMMAND}");
    assert_eq!(full_spec().pasteable(), shlex::split(&full).unwrap());
}
