//! Mounts beside the workspace, existing and missing ones.

use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Moment, Status, TaskSpec};
use std::fs;
use std::time::Instant;

#[test]
fn a_readonly_mount_can_be_read_and_not_written() {
    let server = FakeServer::start();
    let mounts = "[[paths.mounts]]\nhost = './fixed'\ncontainer = '/fixed'\nreadonly = true\n\
        [[paths.mounts]]\nhost = './open'\ncontainer = '/open'";
    let agent = Agent::builder(&server).with_engine().config(mounts).build();
    agent.write("fixed/data", "kept");
    agent.write("open/data", "1");
    let script = "cat /fixed/data
        echo changed > /fixed/data; echo \"$?\"
        echo new > /fixed/new; echo \"$?\"
        echo changed > /open/data; echo \"$?\"";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.stdout(), "kept1\n1\n0\n");
    assert!(task.output["stderr"].as_str().unwrap().contains("Read-only file system"), "{}", task.output);
    assert_eq!(fs::read_to_string(agent.path("fixed/data")).unwrap(), "kept");
    assert!(!agent.path("fixed/new").exists());
    assert_eq!(fs::read_to_string(agent.path("open/data")).unwrap(), "changed\n");
}

#[test]
fn files_of_a_mount_in_the_workspace_are_no_results() {
    let server = FakeServer::start();
    let mounts = "[[paths.mounts]]\nhost = './share'\ncontainer = '/workspace/share/data'";
    let agent = Agent::builder(&server).with_engine().config(mounts).build();
    agent.write("share/secret", "x");
    let id = server.submit(TaskSpec::script("cat /workspace/share/data/secret; echo 1 > /workspace/share/mine"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!((task.stdout(), task.output.get("left_out")), ("x", None));
    let names: Vec<_> = server.outputs(&id).into_iter().map(|file| file.filename).collect();
    assert_eq!(names, ["share/mine"]);
}

#[test]
fn a_relative_mount_host_is_created_beside_the_configuration() {
    let server = FakeServer::start();
    let mounts = "[[paths.mounts]]\nhost = './share/new folder'\ncontainer = '/shared'";
    let agent = Agent::builder(&server).with_engine().config(mounts).build();
    let id = server.submit(TaskSpec::script("echo 1 > /shared/written"));
    // The agent is started from another folder, as cron does.
    let config = agent.config_path();
    let run = ["--config", config.to_str().unwrap(), "run"];
    let elsewhere = agent.home();
    let _running = agent.invoke(&run).cwd(&elsewhere).start();
    server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(fs::read_to_string(agent.path("share/new folder/written")).unwrap(), "1\n");
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0, "no file is made in the working directory");
}

#[test]
fn a_mount_that_leads_into_a_writable_one_by_now_is_not_shown() {
    let server = FakeServer::start();
    let mounts = "[[paths.mounts]]\nhost = './share'\ncontainer = '/share'\n\
        [[paths.mounts]]\nhost = './safe/ref'\ncontainer = '/ref'\nreadonly = true";
    let agent = Agent::builder(&server).with_engine().config(mounts).build();
    agent.write("secret/key", "PRIVATE");
    agent.write("safe/ref/data", "1");
    fs::create_dir(agent.path("share")).unwrap();
    std::os::unix::fs::symlink("../secret", agent.path("share/ref")).unwrap();
    // The folder is replaced after the task was accepted and before its container starts.
    let (safe, moved) = (agent.path("safe"), agent.path("moved"));
    let replace = Fault::call(Moment::Effected, move |_| {
        fs::rename(&safe, &moved).expect("move the folder");
        std::os::unix::fs::symlink("share", &safe).expect("make a link");
    });
    server.fault(Match::path("accept").times(1), replace);
    let id = server.submit(TaskSpec::script("cat /ref/*"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    let message = task.error_message.unwrap();
    assert!(message.contains("which tasks may write to") && !message.contains("PRIVATE"), "{message}");
}

#[test]
fn a_missing_mount_host_fails_one_task_and_stops_accepting() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine();
    let nas = tempfile::tempdir().unwrap();
    let host = nas.path().join("drive");
    let mount = format!("[[paths.mounts]]\nhost = '{}'\ncontainer = '/nas'", host.display());
    let agent = agent.config(&mount).build();
    fs::create_dir(&host).unwrap();
    // The drive is unmounted after the task was accepted and before its container starts.
    let drive = host.clone();
    let unmount = Fault::call(Moment::Effected, move |_| fs::remove_dir(&drive).expect("unmount the drive"));
    server.fault(Match::path("accept").times(1), unmount);
    let first = server.submit(TaskSpec::script("ls /nas"));
    let _running = agent.start();
    let task = server.wait_for(&first, Status::Failed, secs(60));
    let message = task.error_message.unwrap();
    assert!(message.contains(&format!("`{}`", host.display())) && message.contains("doesn't exist"), "{message}");
    assert!(!host.exists(), "the agent doesn't create a folder in place of the drive");
    let (service, _) = server.service();
    let shown = || server.service_state(&service).status;
    wait_until("the Server to show that no task is taken", secs(30), || shown() == "busy");

    let second = server.submit(TaskSpec::script("cat /nas/data"));
    let submitted = Instant::now();
    let room_in_polls = || {
        let polls = server.requests_to("poll").into_iter();
        let answered = polls.filter(|poll| poll.at > submitted && poll.status.is_some());
        answered.map(|poll| poll.body["available_capacity"].clone()).collect::<Vec<_>>()
    };
    // The Server offers the task in every poll.
    wait_until("polls without the drive", secs(30), || room_in_polls().len() >= 4);
    assert_eq!(server.task(&second).accepted_count, 0);
    assert!(room_in_polls().iter().all(|room| *room == 0), "{:?}", room_in_polls());
    assert_eq!(shown(), "busy");

    // The drive is mounted again with its files.
    let drive = nas.path().join("unmounted");
    fs::create_dir(&drive).unwrap();
    fs::write(drive.join("data"), "back").unwrap();
    fs::rename(&drive, &host).unwrap();
    assert_eq!(server.wait_for(&second, Status::Completed, secs(60)).stdout(), "back");
    wait_until("the Server to show that tasks are taken", secs(30), || shown() == "online");
}
