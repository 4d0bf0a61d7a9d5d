use super::{Findings, Reader};
use std::path::Path;

#[test]
fn everything_wrong_is_said_at_once_with_its_place() {
    let text = "[a]\nnumber = \"two\"\nflag = 1\nlimt = 3\n  far = 99\n";
    let reader = Reader::parse(Path::new("c.toml"), text).unwrap();
    let mut findings = Findings::default();
    let mut root = reader.root();
    let mut section = root.section("a");
    assert!(section.integer("number", 1..=9).is_none());
    assert!(section.boolean("flag").is_none());
    assert!(section.integer("limit", 1..=9).is_none());
    assert!(section.integer("far", 1..=9).is_none());
    section.finish(&mut findings);
    root.finish(&mut findings);
    let errors: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "c.toml:2:10: `a.number` must be a whole number from 1 to 9, not a text",
            "c.toml:3:8: `a.flag` must be true or false, not the number 1",
            "c.toml:5:9: `a.far` must be a whole number from 1 to 9, not 99",
        ]
    );
    let warnings: Vec<String> = findings.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["c.toml:4:1: `a.limt` is not a known key; did you mean `a.limit`?"]);
}

#[test]
fn text_that_is_no_toml_names_the_place() {
    let problems = Reader::parse(Path::new("c.toml"), "[a]\nb = = 1\n").err().unwrap();
    assert_eq!(problems[0].place, Some((2, 5)), "{problems:?}");
}
