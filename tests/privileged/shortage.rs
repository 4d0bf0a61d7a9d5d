//! A machine without a thread, a process or a descriptor to spare for a while.

use crate::support::agent::{Agent, Running};
use crate::support::docker::wait_until;
use crate::support::ordinary_user::OrdinaryUser;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::Command;

/// Limits the running agent to so many of a resource, or to as many as it may have at most.
fn limit(running: &Running, resource: &str, most: Option<usize>) {
    let pid = running.pid().to_string();
    let prlimit = |word: &str| {
        // Root in a container may not limit the processes of others.
        let [user, group] = ["Uid", "Gid"].map(|key| running_id(&pid, key));
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &group, "--clear-groups", "prlimit", "--pid", &pid]);
        let done = command.args([word, "--output", "HARD", "--noheadings"]).output().expect("start prlimit");
        assert!(done.status.success(), "{word}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    let soft = most.map_or_else(|| prlimit(&format!("--{resource}")), |most| most.to_string());
    prlimit(&format!("--{resource}={soft}:"));
}

/// An id of a process, by its name in proc_pid_status(5).
fn running_id(pid: &str, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("look at the process");
    let line = status.lines().find(|line| line.starts_with(key)).expect("its ids");
    line.split_whitespace().nth(1).expect("its real id").to_owned()
}

#[test]
fn an_agent_without_a_thread_for_a_while_lives_on() {
    crate::require_root();
    for host in ["127.0.0.1", "localhost"] {
        let server = FakeServer::start();
        let url = server.url().replace("127.0.0.1", host);
        let agent = Agent::builder(&server).with_engine().config(&format!("[server]\nbase_url = '{url}'"));
        let user = OrdinaryUser::new(agent);
        let running = user.start();
        server.wait_until("a poll", secs(20), |server| !server.requests_to("poll").is_empty());
        limit(&running, "nproc", Some(1));
        // What the limit leaves must be enough for all calls of the scheduler.
        let before = server.heartbeats().len();
        wait_until("the engine to be out of reach", secs(60), || running.log().contains("no new task is accepted"));
        server.wait_until("another heartbeat", secs(60), |server| server.heartbeats().len() > before);
        let id = server.submit(TaskSpec::new("later"));
        server.wait_until("more polls", secs(60), |server| server.requests_to("poll").len() > 3);
        limit(&running, "nproc", None);
        server.wait_for(&id, Status::Completed, secs(120));
        assert!(!running.log().contains("panicked"), "{}", running.log());
    }
}

#[test]
fn an_agent_that_can_open_no_file_for_a_while_lives_on() {
    crate::require_root();
    let server = FakeServer::start();
    let user = OrdinaryUser::new(Agent::builder(&server).with_engine());
    let running = user.start();
    let id = server.submit(TaskSpec::script("sleep 4; echo done > output/result.txt"));
    wait_until("the container to run", secs(60), || user.agent.task_file(&id, "cid").exists());
    limit(&running, "nofile", Some(3));
    wait_until("a call to fail", secs(60), || running.log().contains("Too many open files"));
    std::thread::sleep(secs(6));
    limit(&running, "nofile", None);
    server.wait_for(&id, Status::Completed, secs(120));
    assert_eq!(server.output(&id, "output/result.txt").text(), "done\n");
    assert_eq!(server.task(&id).output.get("left_out"), None);
}

#[test]
fn results_for_which_there_is_no_descriptor_are_sent_later() {
    crate::require_root();
    let server = FakeServer::start();
    let user = OrdinaryUser::new(Agent::builder(&server).with_engine());
    let running = user.start();
    let id = server.submit(TaskSpec::script(
        "d=output; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do d=$d/$i; done; mkdir -p $d; echo deep > $d/result.txt; sleep 3",
    ));
    wait_until("the container to run", secs(60), || user.agent.task_file(&id, "cid").exists());
    // Enough for a call of docker, and too few for as many folders.
    let open = fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("list the descriptors").count();
    limit(&running, "nofile", Some(open + 8));
    wait_until("the look for results to fail", secs(60), || running.log().contains("can't be looked at now"));
    limit(&running, "nofile", None);
    server.wait_for(&id, Status::Completed, secs(120));
    let result = "output/1/2/3/4/5/6/7/8/9/10/11/12/result.txt";
    assert_eq!(server.output(&id, result).text(), "deep\n");
    assert_eq!(server.task(&id).output.get("left_out"), None);
}

#[test]
fn a_listener_on_the_other_localhost_never_gets_the_key() {
    crate::require_root();
    let server = FakeServer::start();
    let url = server.url().replace("127.0.0.1", "localhost");
    let port: u16 = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the port of the server");
    let listener = TcpListener::bind(("::1", port)).expect("listen on the other address of localhost");
    listener.set_nonblocking(true).expect("look without waiting");
    let agent = Agent::builder(&server).without_engine().config(&format!("[server]\nbase_url = '{url}'")).build();
    // As Debian has it.
    let hosts = agent.write("hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    let script = r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#;
    let hosts = hosts.to_string_lossy().into_owned();
    let running = agent.invoke(&["run"]).through(&["unshare", "-m", "sh", "-c", script, "sh", &hosts]).start();
    let mut heard = String::new();
    let mut hears = || {
        if let Ok((mut caller, _)) = listener.accept() {
            let _ = caller.set_read_timeout(Some(secs(2)));
            let _ = caller.read_to_string(&mut heard);
            heard.push('!');
        }
        !heard.is_empty()
    };
    wait_until("a heartbeat", secs(20), || hears() || server.heartbeats().len() >= 2);
    drop(running);
    assert!(!hears(), "the key went to another program: {heard}");
}
