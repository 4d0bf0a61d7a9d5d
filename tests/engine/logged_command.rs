//! The logged command can be pasted into a shell repeatedly and at any time, and has the same result (P6).

use crate::support::agent::Agent;
use crate::support::docker::{docker, wait_container_state, wait_until};
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Status, TaskSpec};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The command that `command` prints for a task, in one line.
fn logged_command(agent: &Agent, id: &str) -> String {
    let printed = agent.run(&["command", id]);
    printed.expect_code(0);
    let commands: Vec<&str> = printed.stdout.lines().filter(|line| !line.starts_with('#')).collect();
    let [command] = commands[..] else { panic!("not exactly one command: {commands:?}") };
    command.to_owned()
}

/// Runs a shell with these arguments in `/` and returns its standard output.
fn shell(words: &[&str]) -> String {
    let output = Command::new("sh").args(words).current_dir("/").output().expect("run a shell");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`sh {}`: {}\n{stderr}", words.join(" "), output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// The files in a workspace's `output/`, by name.
fn outputs(workspace: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(workspace.join("output")).expect("read the outputs").flatten();
    let content = |entry: &fs::DirEntry| fs::read(entry.path()).expect("read an output");
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), content(&entry))).collect()
}

fn delivered(server: &Control, id: &str) -> BTreeMap<String, Vec<u8>> {
    let outputs = server.outputs(id).into_iter();
    outputs.map(|file| (file.filename.trim_start_matches("output/").to_owned(), file.bytes)).collect()
}

/// The containers, running or not, that mount this workspace. A pasted one has neither name nor label.
fn containers_of(workspace: &Path) -> String {
    docker(&["ps", "--all", "--quiet", "--filter", &format!("volume={}", workspace.display())])
}

/// Runs the logged line twice and `command.sh` once, each time with an empty `output/`.
fn assert_pasting_repeats(server: &FakeServer, agent: &Agent, id: &str) {
    let task = server.task(id);
    let expected = delivered(server, id);
    assert!(!expected.is_empty());
    let line = logged_command(agent, id);
    let file = agent.task_file(id, "command.sh");
    let workspace = agent.workspace(id);
    for words in [["-c", &line].as_slice(), &["-c", &line], &[&file.to_string_lossy()]] {
        for name in outputs(&workspace).keys() {
            fs::remove_file(workspace.join("output").join(name)).expect("remove an output");
        }
        assert_eq!(shell(words), task.stdout());
        assert_eq!(outputs(&workspace), expected);
        // The agent removes its own a moment after the report.
        wait_until(&format!("no container of {line}"), secs(20), || containers_of(&workspace).is_empty());
    }
    // The pasted runs cause no calls to the Server.
    assert_eq!((server.task(id).completed_count, server.requests_to("complete").len()), (1, 1));
}

#[test]
fn the_logged_command_can_be_pasted_repeatedly() {
    let server = FakeServer::start();
    let mounts = "[[paths.mounts]]\nhost = './it is \"shared\", $5'\ncontainer = '/shared'\nreadonly = true";
    let config = format!("[executor]\nmemory_limit = '64m'\ntimeout_minutes = 5\n{mounts}");
    let agent =
        Agent::builder(&server).with_engine().folder_name("an agent's, 数 \u{200f}right").config(&config).build();
    agent.write("it is \"shared\", $5/data", "shared");
    let script = "cd output; cat /shared/data ../input/data.csv ../task.json > all; env | sort > env; echo done";
    // The host name differs between containers.
    let script = format!("unset HOSTNAME; {script}");
    let id = server.submit(TaskSpec::script(script).input("data.csv", "1,2"));
    let running = agent.invoke(&["run"]).env("RUST_LOG", "debug").start();
    server.wait_for(&id, Status::Completed, secs(60));
    assert!(server.output(&id, "output/env").text().contains("TIMEOUT=300\n"));
    let line = format!("task {id}: {}\n", logged_command(&agent, &id));
    assert!(running.log().contains(&line), "{line} isn't in {}", running.log());
    assert_pasting_repeats(&server, &agent, &id);
}

#[test]
fn a_custom_command_with_special_characters_can_be_pasted() {
    let words = [
        "",
        "it's \"quoted\"",
        "$HOME `id` $(id) \\n %s %%",
        "two\nlines\n",
        "tab\tand \u{1b}[31mcolour",
        "*",
        "!x",
        "-n",
        "ü 数 🦀",
        "right-to-left \u{200f}mark \u{202e}override \u{2067}isolate",
    ];
    let program = "cd /workspace/output && printf '%s\\0' \"$@\" > words\necho \"$# words\"";
    let config = format!(
        "[executor]\nexecutor_type = 'custom'\ncustom_entrypoint = {}\ncustom_args = {}",
        json!(["/bin/sh", "-c", program, "name"]),
        json!(words)
    );
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config(&config).build();
    let id = server.submit(TaskSpec::new("x"));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    let arrived = server.output(&id, "output/words");
    assert_eq!(arrived.text(), words.map(|word| format!("{word}\0")).concat());
    assert_pasting_repeats(&server, &agent, &id);
}

#[test]
fn the_logged_command_can_be_pasted_while_its_task_runs() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    // The first run waits for the second.
    let script = "cd output
        if mkdir first 2>/dev/null; then until [ -e second ]; do sleep 0.1; done; else echo me > second; fi";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    wait_container_state(&id, "running", secs(60));
    let first = agent.workspace(&id).join("output/first");
    wait_until("the first run", secs(20), || first.exists());
    assert_ne!(containers_of(&agent.workspace(&id)), "");
    shell(&["-c", &logged_command(&agent, &id)]);
    server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(server.output(&id, "output/second").text(), "me\n");
    wait_until("no container", secs(20), || containers_of(&agent.workspace(&id)).is_empty());
}

#[test]
fn a_strict_container_with_an_environment_can_be_pasted() {
    let config = "[executor]
        isolation = 'strict'
        user = '1000'
        network = 'none'
        docker_args = ['--hostname=a-lab', '--ulimit=nofile=512']
        [executor.env]
        TOKEN = \"  it's \\\"quoted\\\" $HOME #  \"
        EMPTY = ''";
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().folder_name("an agent's, $HOME").config(config).build();
    let script = "cd /workspace/output; env | sort > env; id -u > id; hostname > hostname; ulimit -n > files
        grep -E 'Cap|NoNew' /proc/self/status > rights; touch /new 2> readonly || echo done";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.stdout(), "done\n");
    assert!(server.output(&id, "output/env").text().contains("TOKEN=  it's \"quoted\" $HOME #  \n"));
    let line = logged_command(&agent, &id);
    assert!(line.contains("--env-file") && !line.contains("quoted"), "{line}");
    assert_pasting_repeats(&server, &agent, &id);
}
