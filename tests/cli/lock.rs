//! Only one agent runs on a data_dir, and stale pidfiles are recognised.

use crate::support::agent::{Agent, Running};
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::FakeServer;
use crate::support::terminal::Terminal;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn started(agent: &Agent, server: &FakeServer) -> Running {
    let before = server.heartbeats().len();
    let running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > before);
    running
}

#[test]
fn a_second_run_ends_and_names_the_first_ones_pid() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut first = started(&agent, &server);
    let second = agent.run(&["run"]);
    second.expect_code(1).expect_stderr(&format!("an agent with pid {} is running on this data_dir", first.pid()));
    assert_eq!(second.stderr.lines().count(), 1, "{}", second.stderr);
    assert!(first.is_running());
    let polls = server.requests_to("poll").len();
    server.wait_until("the first agent to go on polling", secs(20), |server| server.requests_to("poll").len() > polls);
    agent.run(&["status"]).expect_code(0).expect_stdout(&format!("Running: yes, pid {}", first.pid()));
}

#[test]
fn a_copied_data_dir_is_refused_and_a_moved_one_is_used() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    assert!(started(&agent, &server).terminate(secs(20)).success());
    let id = || fs::read_to_string(agent.data_dir().join("instance_id")).unwrap();
    let first = id();
    let copy = |from: &str, to: &str| {
        let copied = Command::new("cp").arg("-a").args([agent.path(from), agent.path(to)]).status();
        assert!(copied.unwrap().success());
    };
    copy("data", "backup");
    agent.write("other.toml", agent.config_text().replace("./data", "./backup"));
    let refused = agent.run(&["--config", "other.toml", "run"]);
    refused.expect_code(1).expect_stderr("is a copy of").expect_stderr(&agent.data_dir().display().to_string());
    // The original goes on, also as one that was restored from its copy, and one that was moved.
    assert!(started(&agent, &server).terminate(secs(20)).success());
    fs::remove_dir_all(agent.data_dir()).unwrap();
    copy("backup", "data");
    assert!(started(&agent, &server).terminate(secs(20)).success());
    fs::rename(agent.data_dir(), agent.path("moved")).unwrap();
    agent.change_config("[paths]\ndata_dir = './moved'");
    let mut running = started(&agent, &server);
    assert_eq!(fs::read_to_string(agent.path("moved/instance_id")).unwrap(), first);
    assert!(!running.log().contains("copy of") && running.terminate(secs(20)).success());
    // The command of the message makes a copy an agent of its own.
    agent.write("other.toml", agent.config_text().replace("./moved", "./backup"));
    fs::remove_dir_all(agent.path("backup")).unwrap();
    copy("moved", "backup");
    fs::create_dir(agent.path("backup/tasks/t1")).unwrap();
    let refused = agent.run(&["--config", "other.toml", "run"]);
    refused.expect_code(1).expect_stderr("let `paths.data_dir` be a new folder");
    assert!(!refused.stderr.contains("rm "), "the command would remove results: {}", refused.stderr);
    fs::remove_dir(agent.path("backup/tasks/t1")).unwrap();
    let said = agent.run(&["--config", "other.toml", "run"]).stderr;
    let (_, command) = said.split_once("an id of its own, with `").expect("a command");
    let (command, _) = command.split_once('`').expect("the command's end");
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    let before = server.heartbeats().len();
    let _other = agent.invoke(&["--config", "other.toml", "run"]).start();
    server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > before);
    assert_ne!(fs::read_to_string(agent.path("backup/instance_id")).unwrap(), first);
}

#[test]
fn a_copy_goes_on_when_the_original_was_renamed() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    assert!(started(&agent, &server).terminate(secs(20)).success());
    let copied = Command::new("cp").arg("-a").args([agent.data_dir(), agent.path("moved")]).status();
    assert!(copied.unwrap().success());
    fs::create_dir(agent.path("moved/tasks/t1")).unwrap();
    agent.change_config("[paths]\ndata_dir = './moved'");
    let said = agent.run(&["run"]).stderr;
    let (_, command) = said.split_once("another name, with `").expect("a command");
    let (command, _) = command.split_once('`').expect("the command's end");
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    assert!(agent.path("data.old/instance_id").exists());
    assert!(started(&agent, &server).terminate(secs(20)).success());
}

#[test]
fn a_data_dir_of_another_machine_is_used_with_a_warning() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    assert!(started(&agent, &server).terminate(secs(20)).success());
    let place = agent.data_dir().join("instance_id.place");
    fs::write(&place, "0123456789abcdef0123456789abcdef\n/var/lib/agent-core\n").unwrap();
    let mut running = started(&agent, &server);
    assert!(running.log().contains("was used on another machine, as `/var/lib/agent-core`"), "{}", running.log());
    assert!(running.terminate(secs(20)).success());
    assert!(!started(&agent, &server).log().contains("another machine"), "it is logged once");
}

#[test]
fn an_agent_ends_when_its_data_dir_was_replaced() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = started(&agent, &server);
    fs::rename(agent.data_dir(), agent.path("moved")).unwrap();
    // Another folder in which the path of the lock leads to the old lock.
    fs::create_dir(agent.data_dir()).unwrap();
    std::os::unix::fs::symlink("../moved/agent.lock", agent.data_dir().join("agent.lock")).unwrap();
    running.wait_log("was removed or replaced", secs(20));
    assert_eq!(running.wait_exit(secs(20)).code(), Some(1));
    assert_eq!(fs::read_dir(agent.data_dir()).unwrap().count(), 1, "nothing was written into the other folder");
}

#[test]
fn a_second_configuration_with_the_same_data_dir_is_refused() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let first = started(&agent, &server);
    agent.write("other.toml", agent.config_text().replace("test-agent", "another"));
    let second = agent.run(&["--config", "other.toml", "run"]);
    second.expect_code(1).expect_stderr(&format!("pid {}", first.pid()));
}

#[test]
fn agents_with_different_data_dirs_run_side_by_side() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut first = started(&agent, &server);
    agent.write("other.toml", agent.config_text().replace("./data", "./more"));
    let before = server.heartbeats().len();
    let mut second = agent.invoke(&["--config", "other.toml", "run"]).start();
    server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > before);
    second.wait_log("data in", secs(20));
    assert!(first.is_running() && second.is_running());
    let pid = fs::read_to_string(agent.path("more/agent.pid")).unwrap();
    assert_eq!(pid.trim(), second.pid().to_string());
}

#[test]
fn a_killed_agent_counts_as_stopped_and_a_new_one_starts() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut first = started(&agent, &server);
    first.kill9();
    assert!(agent.data_dir().join("agent.pid").exists());
    agent.run(&["status"]).expect_code(3).expect_stdout("Running: no\n");
    let second = started(&agent, &server);
    agent.run(&["status"]).expect_code(0).expect_stdout(&format!("Running: yes, pid {}", second.pid()));
}

#[cfg(unix)]
#[test]
fn an_agent_removes_its_pidfile_when_it_ends() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = started(&agent, &server);
    let pid = fs::read_to_string(agent.data_dir().join("agent.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", running.pid()));
    assert_eq!(running.terminate(secs(20)).code(), Some(0));
    assert!(!agent.data_dir().join("agent.pid").exists());
}

/// A process that is no agent. It is killed when the value is dropped.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        // It waits for its input, which ends at the latest with the test process.
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let bystander = Self(child.expect("start `cat`"));
        // Start times have a resolution of 10 ms, and the bystander must differ from the agent. In practice the system
        // reuses a pid much later.
        let since = Instant::now();
        wait_until("the clock to go on", secs(20), || since.elapsed() > Duration::from_millis(30));
        bystander
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().expect("ask for its end").is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A killed agent whose pidfile holds the pid of another process.
fn with_stale_pid(server: &FakeServer, bystander: &Bystander) -> Agent {
    let agent = Agent::builder(server).without_engine().build();
    started(&agent, server).kill9();
    let own = fs::read_to_string(agent.data_dir().join("agent.pid")).expect("the agent's pid");
    for name in ["agent.pid", "agent.lock"] {
        let path = agent.data_dir().join(name);
        let text = fs::read_to_string(&path).expect("the file of the killed agent");
        assert!(text.starts_with(own.trim()), "{text:?}");
        fs::write(path, text.replacen(own.trim(), &bystander.0.id().to_string(), 1)).expect("write a stale pid");
    }
    agent
}

#[test]
fn status_ignores_a_pid_that_another_process_has() {
    let (server, bystander) = (FakeServer::start(), Bystander::start());
    let agent = with_stale_pid(&server, &bystander);
    let status = agent.run(&["status"]);
    status.expect_code(3).expect_stdout("Running: no\n");
}

#[test]
fn stop_removes_a_stale_pidfile_and_signals_no_process() {
    let (server, mut bystander) = (FakeServer::start(), Bystander::start());
    let agent = with_stale_pid(&server, &bystander);
    agent.run(&["stop"]).expect_code(0).expect_stdout("The agent is not running.\n");
    assert!(bystander.is_alive());
    assert!(!agent.data_dir().join("agent.pid").exists());
}

/// For a moment after an agent has taken the lock, the lock file still holds the text of the previous agent.
#[cfg(unix)]
#[test]
fn stop_does_not_signal_a_stale_pid_while_the_lock_is_held() {
    use nix::fcntl::{Flock, FlockArg};
    let (server, mut bystander) = (FakeServer::start(), Bystander::start());
    let agent = with_stale_pid(&server, &bystander);
    let file = fs::File::open(agent.data_dir().join("agent.lock")).unwrap();
    let _lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error).unwrap();
    let stop = agent.run(&["stop"]);
    stop.expect_code(1).expect_stderr("its pid can't be read");
    agent.run(&["status"]).expect_code(0).expect_stdout("Running: yes\n");
    assert!(bystander.is_alive());
}

#[test]
fn an_agent_starts_despite_a_stale_pidfile() {
    let (server, mut bystander) = (FakeServer::start(), Bystander::start());
    let agent = with_stale_pid(&server, &bystander);
    let running = started(&agent, &server);
    agent.run(&["status"]).expect_code(0).expect_stdout(&format!("Running: yes, pid {}", running.pid()));
    assert!(bystander.is_alive());
}

#[test]
fn an_agent_ends_when_its_lock_file_was_removed() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let mut first = started(&agent, &server);
    fs::remove_file(agent.data_dir().join("agent.lock")).unwrap();
    let second = started(&agent, &server);
    assert_eq!(first.wait_exit(secs(20)).code(), Some(1));
    assert!(first.log().contains("`agent.lock` was removed or replaced"), "{}", first.log());
    agent.run(&["status"]).expect_code(0).expect_stdout(&format!("Running: yes, pid {}", second.pid()));
    let pid = fs::read_to_string(agent.data_dir().join("agent.pid")).unwrap();
    assert_eq!(pid.trim(), second.pid().to_string(), "the second agent's pidfile stays");
}

#[test]
fn a_second_run_detached_of_cron_sends_no_mail() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let first = started(&agent, &server);
    let again = agent.run(&["run-detached"]);
    again.expect_code(0);
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
    let (person, terminal) = Terminal::open();
    agent.invoke(&["run-detached"]).terminal(terminal).run().expect_code(0);
    let said = person.whole_text();
    assert!(said.contains(&format!("The agent is running already (pid {}).", first.pid())), "{said}");
    // An error is worth a mail.
    fs::write(agent.path("config.toml"), "[server]\n").unwrap();
    agent.run(&["run-detached"]).expect_code(2).expect_stderr("base_url");
}

#[test]
fn a_detached_agent_does_not_hold_its_starters_lock() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let lock = agent.write("job.lock", "").to_string_lossy().into_owned();
    agent.invoke(&["run-detached"]).through(&["flock", "--nonblock", &lock]).run().expect_code(0);
    let next = Command::new("flock").args(["--nonblock", &lock, "true"]).status();
    assert!(next.expect("run flock").success(), "the next job finds the lock held");
    agent.run(&["stop"]).expect_code(0).expect_stdout("Stopped");
}
