use super::{KEYS, default_of};
use crate::config::edit::TEMPLATE;
use crate::config::{Config, ConfigError};
use std::collections::BTreeSet;
use std::path::Path;

const MANUAL: &str = include_str!("../../manual/config.md");

fn all_keys() -> BTreeSet<String> {
    KEYS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// A date is of none of the kinds, so a key that is read is one that complains.
#[test]
fn every_key_of_the_list_is_read() {
    for (name, _) in KEYS {
        let (section, key) = name.rsplit_once('.').expect("section and key");
        let head = if section == "paths.mounts" { format!("[[{section}]]") } else { format!("[{section}]") };
        let text = format!("{head}\n{key} = 2026-01-02\n");
        let Err(ConfigError::Wrong(problems)) = Config::parse(Path::new("/c.toml"), &text) else {
            panic!("{text} is taken")
        };
        let expected = format!("/c.toml:2:{}: `{name}` must ", key.len() + 4);
        assert!(problems.iter().any(|problem| problem.to_string().starts_with(&expected)), "{expected}: {problems:?}");
        assert!(!problems.iter().any(|problem| problem.message.contains("not a known key")), "{problems:?}");
    }
}

#[test]
fn the_template_has_every_key() {
    let mut section = "";
    // `register` writes these two.
    let mut found = BTreeSet::from(["agent.service_id", "agent.api_key"].map(str::to_owned));
    for line in TEMPLATE.lines() {
        let line = line.trim_start_matches("# ");
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            let is_variable = section == "executor.env";
            found.insert(if is_variable { section.to_owned() } else { format!("{section}.{key}") });
        }
    }
    assert_eq!(found, all_keys());
}

#[test]
fn the_template_shows_the_defaults() {
    let config = Config::parse(Path::new("/x/config.toml"), TEMPLATE).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let plain = Config::parse(Path::new("/x/config.toml"), "[server]\nbase_url='http://127.0.0.1:8080'").unwrap();
    assert_eq!(format!("{config:?}"), format!("{plain:?}"));
}

#[test]
fn the_manual_lists_every_key_with_its_default() {
    let rows = MANUAL.lines().filter(|line| line.starts_with("| `"));
    let mut found = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let (name, default) = (cells[1], cells[2]);
        found.insert(name.to_owned());
        if let Some(expected) = default_of(name) {
            assert_eq!(default, expected, "{name}");
        }
    }
    assert_eq!(found, all_keys());
}

#[test]
fn the_manual_explains_every_key() {
    let heads = MANUAL.lines().filter(|line| line.starts_with("- `")).filter_map(|line| line.split_once(": "));
    let quoted = heads.flat_map(|(head, _)| head.split('`').skip(1).step_by(2));
    let explained: BTreeSet<String> = quoted.filter(|key| key.contains('.')).map(str::to_owned).collect();
    let with_section = all_keys().into_iter().chain(["paths.mounts".to_owned()]).collect();
    assert_eq!(explained, with_section);
}
