//! The keys of the program, of the manual's reference and of the template are the same.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::edit::TEMPLATE;
use crate::config::reader::{Findings, Reader};
use crate::config::sections::{read_agent, read_executor, read_outputs, read_paths, read_server};

const PAGE: &str = include_str!("../../manual/config.md");
/// Sections that are only read where they are written.
const WRITTEN: &str = "[executor.gpu]\n[[paths.mounts]]\n";

/// What the program asks a file for.
fn known_keys() -> BTreeSet<String> {
    let file = Path::new("/x/config.toml");
    let reader = Reader::parse(file, WRITTEN).unwrap();
    let (mut root, mut findings) = (reader.root(), Findings::default());
    read_server(root.section("server"), &mut findings);
    read_agent(root.section("agent"), &mut findings);
    read_executor(root.section("executor"), file, &mut findings);
    read_paths(root.section("paths"), file, &mut findings);
    read_outputs(root.section("outputs"), &mut findings);
    root.finish(&mut findings);
    let is_section = |key: &String| findings.known.iter().any(|other| other.starts_with(&format!("{key}.")));
    findings.known.iter().filter(|key| !is_section(key)).cloned().collect()
}

fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The first cells of the page's tables.
fn keys_of_tables() -> BTreeSet<String> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(key, _)| key.to_owned()).collect()
}

/// The keys that the page's lists explain.
fn explained_keys() -> BTreeSet<String> {
    let heads = PAGE.lines().filter(|line| line.starts_with("- `")).filter_map(|line| line.split_once(": "));
    let keys = heads.flat_map(|(head, _)| quoted(head).collect::<Vec<_>>());
    keys.filter(|key| key.contains('.') && key != "paths.mounts").collect()
}

/// The template's keys, also where they are commented out.
fn keys_of_template() -> BTreeSet<String> {
    let (mut section, mut keys) = (String::new(), BTreeSet::new());
    for line in TEMPLATE.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
        } else if section == "executor.env" {
            keys.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    // `register` writes these two.
    for key in ["service_id", "api_key"] {
        assert!(TEMPLATE.contains(key), "{key}");
        keys.insert(format!("agent.{key}"));
    }
    keys
}

#[test]
fn the_program_the_manual_and_the_template_know_the_same_keys() {
    let known = known_keys();
    assert!(known.len() > 35, "{known:?}");
    assert_eq!(keys_of_tables(), known, "src/manual/config.md's tables, and the program");
    assert_eq!(explained_keys(), known, "src/manual/config.md's lists, and the program");
    assert_eq!(keys_of_template(), known, "src/config/template.toml, and the program");
}
