//! The configuration reference in README is true.

use crate::support::agent::Agent;
use crate::support::server::FakeServer;

const README: &str = include_str!("../../README.md");

/// The rows of the reference, as cells: key, default, example, meaning.
fn rows() -> Vec<[&'static str; 4]> {
    let (_, table) = README.split_once("| Key | Default | Example | Meaning |\n").expect("the reference");
    let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').splitn(4, '|').map(str::trim).collect();
        cells.try_into().unwrap_or_else(|_| panic!("four cells in {line}"))
    };
    lines.map(cells).collect()
}

/// What stands between backquotes.
fn quoted(cell: &'static str) -> Vec<&'static str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_example_of_the_reference_is_accepted() {
    let rows = rows();
    assert!(rows.len() > 30, "{}", rows.len());
    let server = FakeServer::start();
    for [keys, _, examples, _] in rows {
        let (keys, examples) = (quoted(keys), quoted(examples));
        assert_eq!(keys.len(), examples.len(), "an example for each of {keys:?}");
        let mut text = String::new();
        for (key, example) in keys.iter().zip(&examples) {
            text += &match *key {
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
                    format!("[executor]\nexecutor_type = \"custom\"\n{} = {example}\n", leaf(key))
                }
                "executor.custom_args" | "executor.gpu.devices" => format!("{} = {example}\n", leaf(key)),
                key => {
                    let (section, leaf) = key.rsplit_once('.').expect("section and key");
                    format!("[{section}]\n{leaf} = {example}\n")
                }
            };
        }
        let agent = Agent::builder(&server).without_engine().config(&text).build();
        let status = agent.run(&["status"]);
        status.expect_code(3);
        assert_eq!(status.stderr, "", "{text}");
    }
}

fn leaf(key: &str) -> &str {
    key.rsplit_once('.').expect("section and key").1
}
