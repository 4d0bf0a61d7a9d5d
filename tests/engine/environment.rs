//! `[executor.env]`: its values reach the container and no other place.

use crate::support::agent::Agent;
use crate::support::docker::{container_name, container_state, docker, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// A configuration fragment with these variables.
fn fragment(variables: &[(&str, &str)]) -> String {
    let mut table = toml_edit::Table::new();
    for (name, value) in variables {
        table[name] = toml_edit::value(*value);
    }
    let mut document = toml_edit::DocumentMut::new();
    document["executor"] = toml_edit::Item::Table(toml_edit::Table::new());
    document["executor"]["env"] = toml_edit::Item::Table(table);
    document.to_string()
}

#[test]
fn variable_values_arrive_unchanged() {
    // The longest line that docker reads.
    let long = "x".repeat(65_532);
    let variables = [
        ("A", long.as_str()),
        ("EMPTY", ""),
        ("QUOTES", "it's \"quoted\" `here`"),
        ("DOLLAR", "$HOME ${PATH} $(id) %s \\n \\"),
        ("BLANKS", "  two in front, a tab behind \t "),
        ("COMMENT", "# not one"),
        ("EQUALS", "=a=b="),
        ("UNICODE", "数 ü 🦀 \u{202e}back \u{feff}"),
        ("CONTROL", "\u{1b}[31m\u{1}\u{7f}"),
        ("dotted.name-1", "x"),
        ("Ümlaut", "x"),
        ("PATH", "/bin:/usr/bin"),
    ];
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config(&fragment(&variables)).build();
    let id = server.submit(TaskSpec::script("cat /proc/1/environ > /workspace/output/environ"));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    let environ = server.output(&id, "output/environ");
    let seen: Vec<&str> = environ.text().split('\0').collect();
    for (name, value) in variables {
        let of_name: Vec<_> = seen.iter().filter(|line| line.starts_with(&format!("{name}="))).collect();
        assert_eq!(of_name, [&format!("{name}={value}")]);
    }
    assert!(seen.contains(&format!("TASK_ID={id}").as_str()) && seen.contains(&"TIMEOUT=0"), "{}", seen.len());
}

/// The files below a folder that hold a text.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let files = WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    };
    let mut found: Vec<PathBuf> = files.map(|entry| entry.path().to_owned()).filter(holds).collect();
    found.sort();
    found
}

/// The command lines of all processes that hold a text.
fn command_lines_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("list the processes").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(text)).collect()
}

#[test]
fn a_variables_value_is_in_no_command_line_log_or_record() {
    const SECRET: &str = "hunter2-of-the-environment";
    let server = FakeServer::start();
    let config = fragment(&[("TOKEN", SECRET), ("VISIBLE_NAME", "x")]);
    let agent = Agent::builder(&server).with_engine().env("RUST_LOG", "trace").config(&config).build();
    let script = "until [ -e /workspace/go ]; do sleep 0.1; done; echo ${#TOKEN}; cat /no/such/file";
    let id = server.submit(TaskSpec::script(script));
    let mut running = agent.start();
    let mut in_command_lines = Vec::new();
    let name = container_name(&id);
    // This covers the time before and during `docker run`.
    wait_until("the container", secs(60), || {
        in_command_lines.extend(command_lines_with(SECRET));
        container_state(&name).as_deref() == Some("running")
    });
    in_command_lines.extend(command_lines_with(SECRET));
    assert!(!command_lines_with(&name).is_empty(), "the client's command line can be seen");
    let mut inspected: Value = serde_json::from_str(&docker(&["inspect", &name])).unwrap();
    let env = inspected[0]["Config"]["Env"].take();
    assert!(env.as_array().unwrap().contains(&json!(format!("TOKEN={SECRET}"))), "{env}");
    assert!(!inspected.to_string().contains(SECRET), "{inspected}");
    agent.run(&["status"]);
    fs::write(agent.workspace(&id).join("go"), "").unwrap();

    let task = server.wait_for(&id, Status::Failed, secs(60));
    assert_eq!(task.stdout(), format!("{}\n", SECRET.len()));
    running.wait_log("settled as failed", secs(20));
    assert!(running.terminate(secs(20)).success());
    assert_eq!(in_command_lines, Vec::<String>::new());
    let env_file = agent.task_file(&id, "env");
    // The output of the runs lies beside the agent's folder.
    let everything = agent.dir().parent().unwrap();
    assert!(files_with(everything, "VISIBLE_NAME").contains(&env_file), "the search works");
    assert_eq!(files_with(everything, SECRET), [agent.config_path(), env_file.clone()]);
    assert!(running.log().contains("--env-file") && running.log().contains(" DEBUG "), "{}", running.log());
    let mode = fs::metadata(&env_file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(server.requests().iter().all(|request| !request.body.to_string().contains(SECRET)));
}

#[test]
fn an_invalid_value_is_refused_without_being_shown() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config("[executor.env]\nTOKEN = \"hunter2\\nx\"").build();
    for command in ["run", "status"] {
        let done = agent.run(&[command]);
        done.expect_code(2).expect_stderr("`executor.env` can't hold this value of TOKEN: it has a line break");
        assert!(!done.stderr.contains("hunter2") && !done.stdout.contains("hunter2"), "{}", done.stderr);
    }
}
