use super::Reader;
use crate::config::problem::Findings;
use std::path::Path;

#[test]
fn a_wrong_value_is_reported_with_its_place() {
    let text = "[server]\npoll_interval_secs = \"two\"\nuse_system_proxy = 1\npoll_intervall_secs = 3\n  \
                max_requests_per_minute = 100001\nbase_url = 5\n";
    let reader = Reader::parse(Path::new("c.toml"), text).unwrap();
    let mut findings = Findings::default();
    let mut root = reader.root();
    let mut section = root.section("server");
    assert_eq!((section.integer("poll_interval_secs"), section.boolean("use_system_proxy")), (5, false));
    assert_eq!(section.integer("max_requests_per_minute"), 140);
    assert_eq!(section.required_text("base_url", "write it"), None);
    section.finish(&mut findings);
    root.finish(&mut findings);
    let errors: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "c.toml:2:22: `server.poll_interval_secs` must be a whole number from 1 to 3600, not a text",
            "c.toml:3:20: `server.use_system_proxy` must be true or false, not the number 1",
            "c.toml:5:29: `server.max_requests_per_minute` must be a whole number from 0 to 100000, not 100001",
            "c.toml:6:12: `server.base_url` must be a text in quotes, not the number 5",
        ]
    );
    let warnings: Vec<String> = findings.warnings.iter().map(ToString::to_string).collect();
    let expected =
        "c.toml:4:1: `server.poll_intervall_secs` is not a known key; did you mean `server.poll_interval_secs`?";
    assert_eq!(warnings, [expected]);
}

#[test]
fn invalid_toml_is_reported_with_its_place() {
    let problems = Reader::parse(Path::new("c.toml"), "[a]\nb = = 1\n").err().unwrap();
    assert_eq!(problems[0].place, Some((2, 5)), "{problems:?}");
}
