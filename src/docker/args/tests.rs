use super::{REMOVE, RemovalSpec, RunSpec};
use crate::config::container_options::{ContainerOptions, DockerArgs};
use crate::config::{ExecutorConfig, Mount, Program};
use std::path::Path;

fn executor() -> ExecutorConfig {
    ExecutorConfig {
        program: Program::Standard,
        image: "img:1".to_owned(),
        capacity: 1,
        timeout_minutes: 1,
        memory_limit: None,
        working_dir: "/workspace".to_owned(),
        docker: "docker".to_owned(),
        docker_host: None,
        idle_timeout_minutes: 0,
        options: ContainerOptions::default(),
        env: Vec::new(),
    }
}

fn mount(host: &str, container: &str, readonly: bool) -> Mount {
    Mount { host: host.into(), relative: false, container: container.to_owned(), readonly }
}

fn spec(executor: &ExecutorConfig) -> RunSpec<'_> {
    RunSpec {
        executor,
        name: "open-aaas-task-t1".to_owned(),
        cidfile: Some("/d/tasks/t1/cid".into()),
        labels: vec![("open-aaas.task", "t1".to_owned()), ("open-aaas.instance", "abc".to_owned())],
        mounts: vec![mount("/d/workspaces/t1", "/workspace", false), mount("/data, old \"x\"", "/shared", true)],
        env: vec![("TASK_ID", "t1".to_owned()), ("TIMEOUT", "60".to_owned())],
        env_file: None,
    }
}

/// An executor with everything that can be left out.
fn full_executor() -> ExecutorConfig {
    let docker_args = DockerArgs { args: vec!["--hostname=a b".to_owned()], ..DockerArgs::default() };
    let words = ["/bin/sh", "-c", "echo 'hi'\necho \"$HOME\"\n"].map(str::to_owned);
    ExecutorConfig {
        program: Program::Custom(words.into()),
        options: ContainerOptions { network: Some("none".to_owned()), docker_args, ..ContainerOptions::default() },
        memory_limit: Some("4g".to_owned()),
        ..executor()
    }
}

fn full_spec(executor: &ExecutorConfig) -> RunSpec<'_> {
    RunSpec { env_file: Some("/d/tasks/t1/env".into()), ..spec(executor) }
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
    assert_eq!(spec(&executor()).executed(), shlex::split(&format!("run {TASK} {COMMON} {LEVEL} img:1")).unwrap());
    let full = format!("run {TASK} {COMMON} --env-file /d/tasks/t1/env {LEVEL} --network none {FULL_COMMAND}");
    assert_eq!(full_spec(&full_executor()).executed(), shlex::split(&full).unwrap());
}

#[test]
fn pasteable_arguments_omit_name_labels_and_cidfile() {
    assert_eq!(spec(&executor()).pasteable(), shlex::split(&format!("run --rm {COMMON} {LEVEL} img:1")).unwrap());
    let full = format!("run --rm {COMMON} --env-file /d/tasks/t1/env {LEVEL} --network none {FULL_COMMAND}");
    assert_eq!(full_spec(&full_executor()).pasteable(), shlex::split(&full).unwrap());
}

#[test]
fn a_script_is_the_argument_of_its_interpreter() {
    for (program, expected) in [
        (Program::Bash("/s.sh".to_owned()), "--entrypoint bash img:1 /s.sh"),
        (Program::Python("/s.py".to_owned()), "--entrypoint python img:1 /s.py"),
        (Program::Custom(vec!["/bin/sh".to_owned()]), "--entrypoint /bin/sh img:1"),
    ] {
        let executor = ExecutorConfig { program, ..executor() };
        assert!(spec(&executor).executed().join(" ").ends_with(expected), "{expected}");
    }
}

#[test]
fn a_removal_has_one_folder_and_little_else() {
    let mut executor = executor();
    let labels = vec![("open-aaas.instance", "abc".to_owned())];
    let expected = "run --rm --name r --label open-aaas.instance=abc --pull never --network none --user 0 --read-only \
                    --security-opt no-new-privileges --cap-drop ALL --cap-add DAC_OVERRIDE --cap-add FOWNER \
                    --pids-limit 64 --memory 512m --log-driver none \
                    --mount type=bind,source=/d/workspaces/t1,target=/agent-core-remove --entrypoint sh img:1 -c";
    let dir = Path::new("/d/workspaces/t1");
    let mut words: Vec<String> = expected.split_whitespace().map(str::to_owned).collect();
    words.extend([REMOVE, "/agent-core-remove"].map(str::to_owned));
    assert_eq!(RemovalSpec { name: "r", labels: labels.clone(), executor: &executor, dir }.args(), words);
    executor.options.docker_args.platform = Some("linux/arm64".to_owned());
    assert!(
        RemovalSpec { name: "r", labels: labels.clone(), executor: &executor, dir }
            .args()
            .join(" ")
            .contains("--platform linux/arm64 --pull never")
    );
}
