//! The program accepts the configuration examples in README and the manual.

use crate::support::agent::Agent;
use crate::support::server::FakeServer;

const PAGE: &str = include_str!("../../src/manual/config.md");

/// The rows of the reference's tables: key and example.
fn rows() -> Vec<[&'static str; 2]> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [key, _, example] = cells.try_into().unwrap_or_else(|_| panic!("three cells in {line}"));
        [key.trim_matches('`'), example.trim_matches('`')]
    };
    rows.map(cells).collect()
}

#[test]
fn every_example_of_the_reference_is_accepted() {
    let rows = rows();
    assert!(rows.len() > 35, "{}", rows.len());
    let server = FakeServer::start();
    for [key, example] in rows {
        let (section, leaf) = key.rsplit_once('.').expect("section and key");
        let text = match key {
            "server.base_url" | "agent.service_id" | "agent.api_key" => continue,
            "paths.mounts.host" => format!("[[paths.mounts]]\nhost = {example}\ncontainer = \"/data\"\n"),
            "paths.mounts.container" => format!("[[paths.mounts]]\nhost = \"./d\"\ncontainer = {example}\n"),
            "paths.mounts.readonly" => {
                format!("[[paths.mounts]]\nhost = \"./d\"\ncontainer = \"/d\"\nreadonly = {example}\n")
            }
            "executor.executor_type" => {
                format!("[executor]\nexecutor_type = {example}\ncustom_entrypoint = [\"/bin/sh\"]\n")
            }
            "executor.script_path" => format!("[executor]\nexecutor_type = \"bash\"\nscript_path = {example}\n"),
            "executor.custom_entrypoint" => {
                format!("[executor]\nexecutor_type = \"custom\"\n{leaf} = {example}\n")
            }
            "executor.custom_args" => {
                format!(
                    "[executor]\nexecutor_type = \"custom\"\ncustom_entrypoint = [\"/bin/sh\"]\n{leaf} = {example}\n"
                )
            }
            "executor.gpu.devices" => format!("[executor.gpu]\nvendor = \"nvidia\"\n{leaf} = {example}\n"),
            _ => format!("[{section}]\n{leaf} = {example}\n"),
        };
        let agent = Agent::builder(&server).without_engine().config(&text).build();
        let status = agent.run(&["status"]);
        status.expect_code(3);
        assert_eq!(status.stderr, "", "{text}");
    }
}
