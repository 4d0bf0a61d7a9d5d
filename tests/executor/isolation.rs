//! The image at each level of `executor.isolation`, and with users that it doesn't know.

use crate::model::{bash, messages_of, say};
use crate::scene::Setup;
use crate::support::server::TaskSpec;
use serde_json::json;

/// Runs a task that uses all tools of the image with these keys of `[executor]`, and returns the shell's output.
fn done(config: &str) -> String {
    let command =
        "set -e; id -u; id -g; grep -E 'CapEff|NoNewPrivs' /proc/self/status; cat input/data.csv > output/copy
        python3 /opt/agent/skills/table-summary/scripts/summarise.py input/data.csv > output/summary.md
        git init -q \"$TMPDIR/g\"; touch \"$HOME/x\"; echo '{}' | jq . > /dev/null; rg -q a input/data.csv; sqlite3 :memory: 'select 1'
        if touch /usr/x 2> /dev/null; then echo writable; else echo closed; fi";
    let scene = Setup::new(vec![bash(command), say("Done.")]).config(&format!("[executor]\n{config}")).start();
    let task = scene.completed(TaskSpec::new("Work.").input("data.csv", "a,b\n1,2\n"));
    assert_eq!(task.output["files"], json!(["output/copy", "output/summary.md", "output/response.md"]), "{config}");
    assert_eq!(scene.output(&task, "output/response.md"), "Done.\n");
    let said = messages_of(&scene.model.asked()[1], "tool").concat();
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_image_works_under_standard() {
    let said = done("isolation = 'standard'");
    assert_eq!(said, "52001 52001 CapEff: 0000000000000000 NoNewPrivs: 1 1 closed");
}

#[test]
fn the_image_works_under_strict() {
    let said = done("isolation = 'strict'");
    assert_eq!(said, "52001 52001 CapEff: 0000000000000000 NoNewPrivs: 1 1 closed");
}

#[test]
fn the_image_works_under_none() {
    let said = done("isolation = 'none'");
    assert_eq!(said, "52001 52001 CapEff: 0000000000000000 NoNewPrivs: 0 1 closed");
}

#[test]
fn the_image_works_as_a_user_without_a_name() {
    let said = done("isolation = 'strict'\nuser = '12345:54321'");
    assert_eq!(said, "12345 54321 CapEff: 0000000000000000 NoNewPrivs: 1 1 closed");
}

#[test]
fn the_image_works_as_root_without_capabilities() {
    let said = done("isolation = 'strict'\nuser = '0:0'");
    assert_eq!(said, "0 0 CapEff: 0000000000000000 NoNewPrivs: 1 1 closed");
}
