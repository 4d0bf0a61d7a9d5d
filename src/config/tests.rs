use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, ConfigError, Program};

/// The complete example (README, "Configuration file reference"), as it stands there.
const COMPLETE: &str = r#"
[server]
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

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/agent/config.toml"), text)
}

fn errors(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Wrong(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn the_complete_example_loads_without_a_warning() {
    let config = parse(COMPLETE).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.server.base_url, "http://127.0.0.1:8080");
    assert_eq!(config.executor.program, Program::Standard);
    assert_eq!(config.agent.credentials.unwrap().service_id, "svc-xxx");
    assert_eq!(*config.paths.data_dir, *Path::new("/etc/agent/data"));
    assert_eq!(config.paths.mounts[0].host, PathBuf::from("/etc/agent/share/kimi-config"));
    assert!(config.paths.mounts[0].relative && config.paths.mounts[0].readonly);
}

#[test]
fn defaults_apply_when_only_the_address_is_set() {
    let config = parse("[server]\nbase_url = \"https://lab.example/aaas//\"\n").unwrap();
    assert_eq!(config.server.base_url, "https://lab.example/aaas");
    assert_eq!(config.server.poll_interval, Duration::from_secs(5));
    assert!(!config.server.use_system_proxy);
    assert_eq!((config.agent.name.as_str(), config.agent.credentials), ("agent-core", None));
    let executor = config.executor;
    assert_eq!(executor.image, "open-aaas-executor:latest");
    assert_eq!((executor.capacity, executor.timeout(), executor.memory_limit), (2, None, None));
    assert_eq!((executor.program, executor.working_dir.as_str()), (Program::Standard, "/workspace"));
}

#[test]
fn custom_commands_join_entrypoint_and_arguments() {
    let text = COMPLETE.replace("\"standard\"", "\"custom\"");
    let words = ["/bin/sh", "-c", "echo hi"].map(str::to_owned).to_vec();
    assert_eq!(parse(&text).unwrap().executor.program, Program::Custom(words));
}

#[test]
fn default_script_paths_are_in_the_working_dir() {
    let text = COMPLETE.replace("\"standard\"", "\"python\"").replace("\"/workspace\"", "\"/opt/agent/\"");
    assert_eq!(parse(&text).unwrap().executor.program, Program::Python("/opt/agent/run.py".to_owned()));
    let text = text.replace("custom_args", "script_path = \"/opt/x.py\"\ncustom_args");
    assert_eq!(parse(&text).unwrap().executor.program, Program::Python("/opt/x.py".to_owned()));
}

#[test]
fn wrong_values_are_reported_with_place_and_remedy() {
    let text = "[server]\nbase_url = \"lab.example\"\npoll_interval_secs = 0\n[executor]\nexecutor_type = \"zsh\"\n\
                memory_limit = \"lots\"\nimage = \"-v\"\nworking_dir = \"work\"\n[[paths.mounts]]\nhost = \"x\"\n\
                container = \"/workspace\"\n";
    let problems = errors(text);
    for expected in [
        "/etc/agent/config.toml:2:12: `server.base_url` must begin with http:// or https://: `lab.example`",
        "/etc/agent/config.toml:3:22: `server.poll_interval_secs` must be a whole number from 1 to 3600, not 0",
        "/etc/agent/config.toml:5:17: `executor.executor_type` must be",
        "/etc/agent/config.toml:6:16: `executor.memory_limit` must be a number and a unit",
        "/etc/agent/config.toml:7:9: `executor.image` must be the name of an image, not `-v`",
        "/etc/agent/config.toml:8:15: `executor.working_dir` must be an absolute path inside the container",
        "/etc/agent/config.toml:11:13: `paths.mounts.container` must leave `/workspace` to the task",
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{expected}\nnot in {problems:#?}");
    }
    assert_eq!(problems.len(), 7, "{problems:#?}");
}

#[test]
fn warnings_for_unknown_keys_suggest_the_right_key() {
    let config = parse(&COMPLETE.replace("capacity", "capasity")).unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].message.contains("did you mean `executor.capacity`?"), "{:?}", config.warnings);
}

#[test]
fn an_incomplete_registration_is_an_error() {
    assert!(errors(&COMPLETE.replace("api_key", "# api_key"))[0].contains("register again"));
}

#[test]
fn an_empty_registration_counts_as_unregistered() {
    let text = COMPLETE.replace("\"svc-xxx\"", "\"\"").replace("\"ak_xxx\"", "\"\"");
    assert_eq!(parse(&text).unwrap().agent.credentials, None);
}

#[test]
fn two_mounts_at_one_place_are_an_error() {
    let text = format!("{COMPLETE}[[paths.mounts]]\nhost = \"/a\"\ncontainer = \"/shared/.//kimi-config/\"\n");
    assert!(errors(&text)[0].contains("another mount"));
}

#[test]
fn a_missing_address_is_reported() {
    assert!(errors("[server]\n")[0].contains("`server.base_url` is missing"));
    assert!(errors("")[0].contains("`server.base_url` is missing"));
}

#[test]
fn debug_output_hides_the_api_key() {
    let shown = format!("{:?}", parse(COMPLETE).unwrap());
    assert!(!shown.contains("ak_xxx"), "{shown}");
}
