//! `try`: one task without a Server, with the steps of a real one.

use crate::support::agent::{Agent, Builder, Finished, Running};
use crate::support::docker::{containers_with_prefix, docker, wait_container_state, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use crate::support::terminal::Terminal;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// A script that waits until the test releases it.
const UNTIL_GO: &str = "echo begun; while [ ! -e go ]; do sleep 0.05; done";

/// An unregistered agent.
fn unregistered(server: &FakeServer) -> Builder {
    Agent::builder(server).with_engine().unregistered()
}

/// Runs `try` with this script.
fn try_script(agent: &Agent, script: &str, more: &[&str]) -> Finished {
    agent.invoke(&with_script(agent, script, more)).run()
}

fn with_script<'w>(agent: &Agent, script: &str, more: &[&'w str]) -> Vec<&'w str> {
    agent.write("run.sh", script);
    [&["try", "--prompt", "p", "--input", "run.sh"], more].concat()
}

/// A trial whose container runs and waits.
fn started(agent: &Agent, script: &str, more: &[&str]) -> Running {
    let mut running = agent.invoke(&with_script(agent, script, more)).own_group().start();
    wait_until("the container to have begun", secs(60), || {
        assert!(running.is_running(), "{}", running.log());
        running.stdout().contains("begun\n")
    });
    running
}

/// The folders of trials in the data_dir.
fn folders(agent: &Agent) -> Vec<PathBuf> {
    let entries = fs::read_dir(agent.data_dir().join("try")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The workspace of the only trial.
fn workspace(agent: &Agent) -> PathBuf {
    let [folder] = &folders(agent)[..] else { panic!("not exactly one trial: {:?}", folders(agent)) };
    let entry = fs::read_dir(folder.join("workspaces")).expect("read the folder").next();
    entry.expect("a workspace").expect("read the folder").path()
}

/// The containers of this agent's trials. Each is named after its folder.
fn containers(folders: &[PathBuf]) -> Vec<String> {
    let name = |folder: &PathBuf| folder.file_name().expect("a name").to_string_lossy().into_owned();
    folders.iter().flat_map(|folder| containers_with_prefix(&format!("open-aaas-try-{}", name(folder)))).collect()
}

/// Every file below a folder, with its content and modification time.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("read a folder").flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().expect("look at a file"));
            if metadata.is_dir() {
                open.push(path);
            } else {
                let content = fs::read(&path).expect("read a file");
                found.insert(path, (content, metadata.modified().expect("a time")));
            }
        }
    }
    found
}

#[test]
fn try_passes_on_output_streams_and_exit_status() {
    let server = FakeServer::start();
    let agent = unregistered(&server).build();
    agent.write("data.csv", "1,2\n");
    let script = "echo one; echo two >&2; cat input/data.csv; exit 7";
    let done = try_script(&agent, script, &["--input", "data.csv", "--output-prompt", "as a table"]);
    done.expect_code(7);
    assert_eq!(done.stdout, "one\n1,2\n");
    done.expect_stderr("\ntwo\n").expect_stderr("docker run --rm ").expect_stderr("failed with exit status 7");
    assert_eq!(server.requests().len(), 0);
    assert!(!agent.data_dir().exists(), "the temporary data_dir is removed");
}

#[test]
fn a_trial_container_follows_the_contract_without_labels() {
    let server = FakeServer::start();
    let config = "[executor.env]\nTOKEN = 'hunter2'\n[[paths.mounts]]\nhost = './share'\ncontainer = '/share'";
    let agent = unregistered(&server).config(config).build();
    let script = format!("{UNTIL_GO}; echo \"$TOKEN\" > output/token");
    let mut running = started(&agent, &script, &["--output-prompt", "as a table", "--keep"]);
    let task: Value = serde_json::from_slice(&fs::read(workspace(&agent).join("task.json")).unwrap()).unwrap();
    assert_eq!(
        (&task["task_prompt"], &task["prompt"], &task["output_prompt"]),
        (&"p".into(), &"p".into(), &"as a table".into())
    );
    assert_eq!(task["input_files"][0]["local_path"], "input/run.sh");
    let names = containers(&folders(&agent));
    let [name] = &names[..] else { panic!("not exactly one container: {names:?}") };
    let inspected: Value = serde_json::from_str(&docker(&["inspect", name])).unwrap();
    let labels = inspected[0]["Config"]["Labels"].as_object().unwrap();
    assert!(labels.keys().all(|key| !key.starts_with("open-aaas")), "{labels:?}");
    let targets: Vec<&Value> =
        inspected[0]["Mounts"].as_array().unwrap().iter().map(|mount| &mount["Destination"]).collect();
    assert!(targets.contains(&&"/workspace".into()) && targets.contains(&&"/share".into()), "{targets:?}");
    fs::write(workspace(&agent).join("go"), "").unwrap();
    assert_eq!(running.wait_exit(secs(60)).code(), Some(0));
    assert_eq!(fs::read_to_string(workspace(&agent).join("output/token")).unwrap(), "hunter2\n");
    assert!(!running.log().contains("hunter2"), "{}", running.log());
    assert_eq!(containers(&folders(&agent)), [""; 0]);
}

#[test]
fn try_lists_sent_and_left_out_files_and_copies_results() {
    let server = FakeServer::start();
    let agent = unregistered(&server).config("[outputs]\nexclude = ['*.raw']\nmax_file_mb = 1").build();
    let script = "mkdir output/deep; echo report > output/deep/r.md; echo top > top; echo x > x.raw
        ln -s /etc/passwd output/link; dd if=/dev/zero of=output/huge bs=1M count=2 2>/dev/null; mkfifo fifo";
    let done = try_script(&agent, script, &["--out", "new/results"]);
    done.expect_code(0)
        .expect_stderr("Would be sent: 2 files, 11 bytes\n  top  4 bytes\n  output/deep/r.md  7 bytes\n");
    done.expect_stderr("Would be left out: 4 files\n  output/huge: 2097152 bytes are more than the 1 MB");
    for line in ["  fifo: not a regular file\n", "  output/link: a symbolic link\n", "  x.raw: excluded by `*.raw`"] {
        done.expect_stderr(line);
    }
    done.expect_stderr("The report would say: completed after ");
    let copied = snapshot(&agent.path("new/results"));
    let copied: Vec<_> = copied.iter().map(|(path, (content, _))| (path.as_path(), content.as_slice())).collect();
    let expected = [("new/results/output/deep/r.md", b"report\n".as_slice()), ("new/results/top", b"top\n")];
    assert_eq!(
        copied,
        expected.map(|(path, content)| (agent.path(path), content)).each_ref().map(|(p, c)| (p.as_path(), *c))
    );

    let again = try_script(&agent, script, &["--out", "new/results"]);
    again.expect_code(2).expect_stderr("isn't empty, and nothing is overwritten");
    assert_eq!(again.stdout, "");
}

#[test]
fn output_is_shown_while_the_container_runs() {
    let server = FakeServer::start();
    let agent = unregistered(&server).build();
    let mut running = started(&agent, &format!("echo early >&2; {UNTIL_GO}; echo late"), &[]);
    running.wait_log("\nearly\n", secs(20));
    assert!(!running.stdout().contains("late"));
    fs::write(workspace(&agent).join("go"), "").unwrap();
    assert!(running.wait_exit(secs(60)).success());
    assert_eq!(running.stdout(), "begun\nlate\n");
}

#[test]
fn a_terminal_shows_that_a_silent_container_runs() {
    let server = FakeServer::start();
    let agent = unregistered(&server).build();
    let arguments =
        with_script(&agent, &format!("printf 'begun\\n'; {UNTIL_GO}; printf half; sleep 4; echo ' line'"), &[]);
    let (person, terminal) = Terminal::open();
    let mut running = agent.invoke(&arguments).terminal(terminal).start();
    wait_until("a line that shows that it runs", secs(60), || person.text().contains("… running for "));
    fs::write(workspace(&agent).join("go"), "").unwrap();
    assert!(running.wait_exit(secs(60)).success(), "{}", person.text());
    let shown = person.whole_text();
    assert!(shown.contains("\r\u{1b}[Khalf line\r\n"), "{shown:?}");
    let after = shown.split("half line").nth(1).expect("what follows");
    assert!(!after.contains("running for"), "{shown:?}");
    assert!(after.contains("container exited with 0"), "{shown:?}");
}

#[test]
fn try_cleans_up_when_its_output_is_closed() {
    let server = FakeServer::start();
    let agent = unregistered(&server).build();
    agent.write("run.sh", "echo begun; echo more; echo more >&2; sleep 1; echo more; echo result > output/r");
    let program = env!("CARGO_BIN_EXE_agent-core");
    let pipe =
        format!("{{ '{program}' try --prompt p --input run.sh --out results 2>&1; echo $? > status; }} | head -c 1");
    let invocation = agent.invoke(&[]).through(&["sh", "-c", &pipe]);
    assert!(invocation.start().wait_exit(secs(60)).success());
    assert_eq!(fs::read_to_string(agent.path("status")).unwrap(), "0\n");
    assert_eq!(fs::read_to_string(agent.path("results/output/r")).unwrap(), "result\n");
    assert!(!agent.data_dir().exists(), "{:?}", folders(&agent));
}

#[test]
fn a_missing_image_is_exit_status_125() {
    let server = FakeServer::start();
    let agent = unregistered(&server).config("[executor]\nimage = 'agent-core-no-such:1'\npull = 'never'").build();
    let done = agent.run(&["try", "--prompt", "p"]);
    done.expect_code(125).expect_stderr("isn't on this machine; build it");
    assert!(folders(&agent).is_empty(), "{:?}", folders(&agent));
}

#[test]
fn ctrl_c_stops_and_removes_the_container() {
    let server = FakeServer::start();
    let agent = unregistered(&server).build();
    let mut running = started(&agent, &format!("trap 'echo asked; exit 0' TERM; {UNTIL_GO}"), &["--out", "results"]);
    let trials = folders(&agent);
    assert_eq!(containers(&trials).len(), 1);
    running.signal_group(Signal::SIGINT);
    assert_eq!(running.wait_exit(secs(60)).code(), Some(130));
    assert_eq!(running.stdout(), "begun\nasked\n");
    assert_eq!((containers(&trials), folders(&agent)), (vec![], vec![]));
    wait_until("no process to be left", secs(20), || agent.processes().is_empty());
}

#[test]
fn the_next_trial_removes_leftovers_of_a_killed_one() {
    let server = FakeServer::start();
    let agent = unregistered(&server).build();
    let mut living = started(&agent, UNTIL_GO, &[]);
    let of_living = folders(&agent);
    let mut killed = started(&agent, UNTIL_GO, &[]);
    let of_killed: Vec<PathBuf> = folders(&agent).into_iter().filter(|folder| !of_living.contains(folder)).collect();
    killed.kill9();
    assert_eq!((containers(&of_killed).len(), containers(&of_living).len()), (1, 1));
    try_script(&agent, "true", &[]).expect_code(0).expect_stderr("removing what a killed trial has left");
    assert_eq!((containers(&of_killed).len(), folders(&agent)), (0, of_living.clone()));
    assert!(living.is_running());
    fs::write(workspace(&agent).join("go"), "").unwrap();
    assert!(living.wait_exit(secs(60)).success());
    assert_eq!((containers(&of_living), folders(&agent)), (vec![], vec![]));
    wait_until("no process to be left", secs(20), || agent.processes().is_empty());
}

#[test]
fn a_trial_and_an_agent_on_one_data_dir_do_not_interfere() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let mut running = started(&agent, UNTIL_GO, &[]);
    // At its start the agent looks for leftover containers.
    let id = server.submit(TaskSpec::script("while [ ! -e go ]; do sleep 0.05; done; echo done"));
    let mut serving = agent.start();
    wait_container_state(&id, "running", secs(60));
    try_script(&agent, "echo second", &[]).expect_code(0);
    fs::write(agent.workspace(&id).join("go"), "").unwrap();
    assert_eq!(server.wait_for(&id, Status::Completed, secs(60)).stdout(), "done\n");
    serving.wait_log(&format!("task {id}: settled as completed"), secs(20));
    assert!(serving.terminate(secs(20)).success());
    let _again = agent.start();
    let next = server.submit(TaskSpec::script("echo next"));
    server.wait_for(&next, Status::Completed, secs(60));
    assert_eq!(containers(&folders(&agent)).len(), 1);
    fs::write(workspace(&agent).join("go"), "").unwrap();
    assert!(running.wait_exit(secs(60)).success(), "{}", running.log());
    assert_eq!(server.tasks().len(), 2, "the trial made no task on the Server");
    let ledger = fs::read_to_string(agent.data_dir().join("ledger.jsonl")).unwrap();
    assert!(!ledger.contains("try-"), "{ledger}");
}

#[test]
fn keep_allows_running_the_logged_command_again() {
    let server = FakeServer::start();
    let agent = unregistered(&server).folder_name("a lab's").build();
    let done = try_script(&agent, "echo again >> output/lines", &["--keep"]);
    done.expect_code(0);
    let line = done.stderr.lines().find_map(|line| line.find("docker run ").map(|at| &line[at..])).expect("a command");
    assert!(Command::new("sh").args(["-c", line]).current_dir("/").status().expect("run a shell").success());
    assert_eq!(fs::read_to_string(workspace(&agent).join("output/lines")).unwrap(), "again\nagain\n");
    try_script(&agent, "true", &[]).expect_code(0);
    assert_eq!(folders(&agent).len(), 1, "the next trial doesn't remove the kept folder");
}

#[test]
fn a_replay_repeats_a_kept_task_and_leaves_it_unchanged() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "cat input/data.csv > output/copy; echo \"$TASK_ID\"; echo worked >> output/lines; exit 3";
    let id = server.submit(TaskSpec::script(script).input("data.csv", "1,2\n"));
    let _running = agent.start();
    server.wait_for(&id, Status::Failed, secs(60));
    // The agent's last step with the task.
    wait_until("the record to be settled", secs(60), || agent.record(&id)["phase"] == "settled");
    let kept = || (snapshot(&agent.data_dir().join("tasks")), snapshot(&agent.data_dir().join("workspaces")));
    let before = kept();
    let asked = server.requests_to("accept").len();
    let done = agent.run(&["try", "--replay", &id, "--out", "results"]);
    done.expect_code(3).expect_stderr("  output/copy  4 bytes\n");
    assert_eq!(done.stdout, format!("{id}\n"));
    assert_eq!(
        fs::read_to_string(agent.path("results/output/lines")).unwrap(),
        "worked\n",
        "the replay uses a fresh workspace"
    );
    assert!(kept() == before, "the kept task was changed");
    assert_eq!(server.requests_to("accept").len(), asked);

    // A replay refuses inputs that were changed.
    let input = agent.workspace(&id).join("input/data.csv");
    fs::write(&input, "1,2,3\n").unwrap();
    agent
        .run(&["try", "--replay", &id])
        .expect_code(1)
        .expect_stderr("has 6 bytes now and not the 4 that were received");
    fs::remove_file(&input).unwrap();
    let outside = agent.write("outside", "1,2\n");
    std::os::unix::fs::symlink(outside, &input).unwrap();
    agent.run(&["try", "--replay", &id]).expect_code(1).expect_stderr("input/data.csv` can't be copied");
    agent.run(&["try", "--replay", "no-such"]).expect_code(1).expect_stderr("no task 'no-such' is kept");
    assert!(folders(&agent).is_empty(), "{:?}", folders(&agent));
}

/// The container writes to the folder around `--out` by a mount.
#[test]
fn results_are_not_copied_to_where_a_task_makes_the_folder_lead() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().unregistered().build();
    for folder in ["share/results", "share/inner", "victim"] {
        fs::create_dir_all(agent.path(folder)).unwrap();
    }
    let mount = format!("[[paths.mounts]]\nhost = '{}'\ncontainer = '/share'", agent.path("share").display());
    agent.change_config(&mount);
    let make = "echo 1 > output/one; cd /share";
    let cases = [
        ("results", "rmdir results; ln -s ../victim results", "was replaced while the container ran"),
        ("new", "ln -s ../victim new", "can't be made"),
        ("inner", "ln -s ../../victim inner/output", "can't be written"),
    ];
    for (name, script, words) in cases {
        let done = try_script(&agent, &format!("{make}; {script}"), &["--out", &format!("share/{name}")]);
        assert_ne!(done.status.code(), Some(0), "{}", done.stderr);
        done.expect_stderr(words);
        assert_eq!(fs::read_dir(agent.path("victim")).unwrap().count(), 0, "{script}: {}", done.stderr);
        // The results are still where the task left them.
        done.expect_stderr("Kept: ");
    }
}
