//! Configuration files that are wrong, nearly right or missing.

use crate::support::agent::{Agent, Finished};
use crate::support::secs;
use crate::support::server::FakeServer;
use std::fs;

/// The complete example (README, "Configuration file reference").
const COMPLETE: &str = r#"[server]
base_url = "http://127.0.0.1:8080" # Server address
poll_interval_secs = 5 # Polling interval (seconds)
use_system_proxy = false # Whether to use system proxy
[agent]
service_id = "svc-xxx" # Auto-filled after registration
api_key = "ak_xxx" # Auto-filled after registration
name = "agent-core" # Agent name
[executor]
executor_type = "standard" # Executor type: standard / bash / python / custom
image = "open-aaas-executor:latest" # Docker image
capacity = 2 # Concurrent task count
timeout_minutes = 0 # Task timeout (minutes), 0 means unlimited
# memory_limit = "4g" # Memory limit (optional)
working_dir = "/workspace" # Working directory inside the container
# script_path = "/workspace/run.sh" # Script path (for bash/python type)
custom_entrypoint = ["/bin/sh"] # Custom ENTRYPOINT (custom type)
custom_args = ["-c", "echo hi"] # Custom arguments (custom type)
[paths]
data_dir = "./data" # Data directory
[[paths.mounts]]
host = "./share/kimi-config" # Host path (relative or absolute)
container = "/shared/kimi-config" # Container path
readonly = true # Read-only
"#;

fn with_config(text: &str) -> Agent {
    Agent::builder(&FakeServer::start()).without_engine().config_verbatim(text).build()
}

/// The lines of standard error without the file's folder and the program's name.
fn said(agent: &Agent, done: &Finished) -> Vec<String> {
    let folder = format!("{}/", agent.dir().display());
    let lines = done.stderr.lines().map(|line| line.trim_start_matches("agent-core: ").replace(&folder, ""));
    lines.collect()
}

#[test]
fn the_complete_example_loads_without_a_warning() {
    let agent = with_config(COMPLETE);
    let status = agent.run(&["status"]);
    status.expect_code(3).expect_stdout("Registration status: Registered\nService ID: svc-xxx\n");
    assert_eq!(status.stderr, "");
}

#[test]
fn all_wrong_values_are_reported_with_line_column_and_key() {
    let agent = with_config(
        "[server]\nbase_url = \"lab.example\"\npoll_interval_secs = 0\n\n[executor]\nexecutor_type = \"zsh\"\n\
         \x20 capacity = 100000\n[paths]\ndata_dir = \"\"\n",
    );
    let status = agent.run(&["status"]);
    status.expect_code(2);
    assert_eq!(status.stdout, "");
    assert_eq!(
        said(&agent, &status),
        [
            "config.toml:2:12: `server.base_url` must begin with http:// or https://: `lab.example`",
            "config.toml:3:22: `server.poll_interval_secs` must be a whole number from 1 to 3600, not 0",
            "config.toml:6:17: `executor.executor_type` must be \"standard\", \"bash\", \"python\" or \"custom\", not `zsh`",
            "config.toml:7:14: `executor.capacity` must be a whole number from 1 to 1000, not 100000",
            "config.toml:9:12: `paths.data_dir` must be a path of this machine",
        ]
    );
}

#[test]
fn all_wrong_types_are_reported_with_line_column_and_key() {
    let agent = with_config(
        "[server]\nbase_url = 8080\nuse_system_proxy = \"no\"\n[agent]\nname = 7\n[executor]\ncapacity = \"2\"\n\
         custom_args = \"-c\"\n[paths]\nmounts = \"./share\"\n",
    );
    let status = agent.run(&["status"]);
    status.expect_code(2);
    assert_eq!(
        said(&agent, &status),
        [
            "config.toml:2:12: `server.base_url` must be a text in quotes, not the number 8080",
            "config.toml:3:20: `server.use_system_proxy` must be true or false, not a text",
            "config.toml:5:8: `agent.name` must be a text in quotes, not the number 7",
            "config.toml:7:12: `executor.capacity` must be a whole number from 1 to 1000, not a text",
            "config.toml:8:15: `executor.custom_args` must be a list of texts, not a text",
            "config.toml:10:10: `paths.mounts` must be written as `[[paths.mounts]]`",
        ]
    );
}

#[test]
fn invalid_toml_is_reported_with_line_and_column() {
    let agent = with_config("[server]\nbase_url = http://127.0.0.1:8080\n");
    let status = agent.run(&["status"]);
    status.expect_code(2);
    let said = said(&agent, &status);
    assert!(said[0].starts_with("config.toml:2:12: "), "{said:#?}");
}

#[test]
fn every_subcommand_refuses_a_wrong_file() {
    let server = FakeServer::start();
    server.add_token("rt_kept");
    let agent = Agent::builder(&server).without_engine().config("[executor]\ncapacity = 0").build();
    for arguments in [&["run"][..], &["run-detached"], &["stop"], &["register", "--token", "rt_kept"]] {
        let done = agent.run(arguments);
        done.expect_code(2).expect_stderr("`executor.capacity`");
        assert_eq!(done.stdout, "", "{arguments:?}");
    }
    // What only shows the data_dir needs no more than its path.
    agent.run(&["status"]).expect_code(2).expect_stderr("`executor.capacity`").expect_stdout("Capacity: 2\n");
    agent.run(&["tasks"]).expect_code(0).expect_stderr("No task");
    agent.run(&["ledger"]).expect_code(0);
    assert_eq!(server.requests().len(), 0);
    assert!(!agent.data_dir().exists());
}

#[test]
fn a_missing_address_is_an_error_with_a_remedy() {
    let agent = with_config("[agent]\nname = \"x\"\n");
    let status = agent.run(&["status"]);
    status.expect_code(2).expect_stderr("`server.base_url` is missing; write the Server's address");
}

/// Without this error the default port would be used, and the token would be sent to the program that listens there.
#[test]
fn a_port_out_of_range_is_an_error() {
    let agent = with_config("[server]\nbase_url = \"http://127.0.0.1:80808\"\n");
    agent
        .run(&["register", "--token", "rt_kept"])
        .expect_code(2)
        .expect_stderr("config.toml:2:12: `server.base_url` must have a port from 1 to 65535");
}

#[test]
fn a_misspelt_section_is_reported_beside_the_missing_key() {
    let agent = with_config("[sevrer]\nbase_url = \"http://127.0.0.1:8080\"\n");
    let status = agent.run(&["status"]);
    status.expect_code(2).expect_stderr("`server.base_url` is missing");
    let said = said(&agent, &status);
    let hint = "config.toml:1:2: `sevrer` is not a known key; did you mean `server`?";
    assert!(said.iter().any(|line| line == hint), "{said:#?}");
}

#[test]
fn status_warns_about_unknown_keys() {
    let agent = with_config(&COMPLETE.replace("capacity =", "capasity =").replace("[paths]", "[paths]\ncolour = 1"));
    let status = agent.run(&["status"]);
    status.expect_code(3).expect_stdout("Capacity: 2\n");
    assert_eq!(
        said(&agent, &status),
        [
            "config.toml:12:1: `executor.capasity` is not a known key; did you mean `executor.capacity`?",
            "config.toml:20:1: `paths.colour` is not a known key; it has no effect",
        ]
    );
}

#[test]
fn run_warns_about_unknown_keys_and_starts() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config("[server]\npoll_intervall_secs = 9").build();
    let mut running = agent.start();
    running.wait_log("did you mean `server.poll_interval_secs`?", secs(20));
    running.wait_log("`server.poll_intervall_secs` is not a known key", secs(20));
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    let log = running.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("is not a known key")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains(" WARN "), "{warnings:#?}");
}

#[test]
fn a_missing_file_is_reported_with_the_init_command() {
    let agent = Agent::builder(&FakeServer::start()).without_engine().without_config().build();
    let remedy = format!("make one with `agent-core --config {} init`", agent.config_path().display());
    for arguments in [&["status"][..], &["run"], &["run-detached"], &["stop"], &["register", "--token", "rt_x"]] {
        agent.run(arguments).expect_code(2).expect_stderr(&remedy);
    }
    let other = agent.run(&["--config", "sub/other.toml", "status"]);
    other.expect_code(2).expect_stderr(&format!("--config {} init", agent.path("sub/other.toml").display()));
}

#[test]
fn an_incomplete_registration_is_an_error() {
    let agent = with_config(&COMPLETE.replace("api_key =", "# api_key ="));
    let run = agent.run(&["run"]);
    run.expect_code(2).expect_stderr("config.toml:6:14: `agent.service_id` stands without `agent.api_key`");
}

#[test]
fn a_file_from_a_windows_editor_loads() {
    let text = format!("\u{feff}{}", COMPLETE.replace('\n', "\r\n"));
    let agent = with_config(&text);
    let status = agent.run(&["status"]);
    status.expect_code(3).expect_stdout("Service ID: svc-xxx\n");
    assert_eq!(status.stderr, "");
}

#[test]
fn a_file_that_is_not_utf8_is_reported_with_the_place() {
    let agent = Agent::builder(&FakeServer::start()).without_engine().without_config().build();
    agent.write("config.toml", b"[server]\nbase_url = \"http://h\xff\"\n");
    for arguments in [&["status"][..], &["run"], &["check"]] {
        let done = agent.run(arguments);
        done.expect_code(2);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains("config.toml:2:21: the file isn't UTF-8 from here on"), "{said}");
    }
    fs::remove_file(agent.config_path()).unwrap();
    fs::create_dir(agent.config_path()).unwrap();
    agent.run(&["status"]).expect_code(2).expect_stderr("can't be read");
}

#[test]
fn stop_names_the_running_agent_when_the_file_is_wrong() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    agent.change_config("[executor]\ncapacity = 0");
    let done = agent.run(&["stop"]);
    done.expect_code(2)
        .expect_stderr("`executor.capacity`")
        .expect_stderr(&format!("stop the agent with `kill {}`", running.pid()));
}
