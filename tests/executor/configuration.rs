//! Missing or wrong configuration is reported in one line before pi starts.

use crate::model::{KEY, Model, Style, bash, messages_of, say};
use crate::scene::{Setup, by_hand, reason};
use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, TaskSpec};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

/// Changes the agent's folder with `spoil`, runs a task, and returns the reason of its failure.
fn refused(spoil: impl FnOnce(&Agent)) -> String {
    let server = FakeServer::start();
    let (agent, model) = Setup::new(vec![say("Never.")]).build(&server);
    spoil(&agent);
    let id = server.submit(TaskSpec::new("Ask."));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Failed, secs(60));
    assert_eq!((&task.output["exit_code"], model.asked().len()), (&3.into(), 0));
    let reason = reason(&task).trim_end();
    reason.strip_prefix("this executor isn't configured: ").unwrap_or_else(|| panic!("{reason}")).to_owned()
}

#[test]
fn a_missing_file_is_reported() {
    let reason = refused(|agent| fs::remove_file(agent.path("pi-agent/models.json")).unwrap());
    assert_eq!(reason, "there is no /etc/pi-agent/models.json");
}

#[test]
fn a_missing_mount_is_reported() {
    let reason = refused(|agent| agent.change_config("[paths]\nmounts = []"));
    assert_eq!(reason, "there is no /etc/pi-agent; mount the folder with models.json and settings.json there");
}

#[test]
fn an_unreadable_file_is_reported() {
    let close = |agent: &Agent| {
        fs::set_permissions(agent.path("pi-agent/models.json"), Permissions::from_mode(0o000)).unwrap();
    };
    let reason = refused(close);
    assert!(reason.starts_with("/etc/pi-agent/models.json can't be read by user 52001; make it readable"), "{reason}");
}

#[test]
fn a_missing_variable_is_reported() {
    let reason = refused(|agent| agent.change_config("[executor.env]\nLLM_API_KEY = ''"));
    assert!(reason.starts_with("the variable LLM_API_KEY isn't set, which models.json wants"), "{reason}");
}

#[test]
fn invalid_json_is_reported_without_its_text() {
    let reason = refused(|agent| {
        agent.write("pi-agent/settings.json", "{\"defaultProvider\": secret}");
    });
    assert!(reason.starts_with("/etc/pi-agent/settings.json isn't JSON"), "{reason}");
    assert!(!reason.contains("secret"), "{reason}");
}

#[test]
fn an_unknown_model_is_reported() {
    let reason = refused(|agent| {
        agent.write("pi-agent/settings.json", r#"{"defaultProvider": "scripted", "defaultModel": "other"}"#);
    });
    assert!(reason.starts_with("/etc/pi-agent/models.json has no model 'other' of 'scripted'"), "{reason}");
}

#[test]
fn the_copied_configuration_is_private_and_removed() {
    let look =
        "stat -c '%a %n' /tmp/* | sed 's/executor-.*/executor-/'; cat /tmp/executor-*/pi-agent/models.json | wc -l";
    let model = Model::start(Style::OpenAi, vec![bash(look), say("Done.")], None);
    let container = by_hand(&model).file("workspace/input/nothing", "");
    let tmp = container.path("workspace/input");
    let mount = format!("type=bind,source={},target=/tmp", tmp.display());
    let container = container.with(&["--mount", &mount]);
    let output = container.run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let seen = messages_of(&model.asked()[1], "tool").concat();
    assert!(seen.contains("700 /tmp/executor-\n"), "{seen}");
    let left: Vec<_> = fs::read_dir(tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["nothing"], "no copy of the key is left");
    assert!(!String::from_utf8_lossy(&output.stdout).contains(KEY));
}

#[test]
fn an_unreadable_folder_is_reported() {
    let close = |agent: &Agent| {
        fs::set_permissions(agent.path("pi-agent"), Permissions::from_mode(0o744)).unwrap();
    };
    assert!(refused(close).starts_with("/etc/pi-agent can't be entered by user 52001"));
}

#[test]
fn an_unreadable_extra_file_is_left_out() {
    let model = Model::start(Style::OpenAi, vec![say("Yes.")], None);
    let container = by_hand(&model).file("pi-agent/notes.txt", "mine").file("pi-agent/.models.json.swp", "");
    for name in ["notes.txt", ".models.json.swp"] {
        fs::set_permissions(container.path("pi-agent").join(name), Permissions::from_mode(0o000)).unwrap();
    }
    let output = container.run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("/etc/pi-agent/notes.txt can't be read by user 52001 and is left out\n"), "{said}");
    assert!(!said.contains(".swp"), "{said}");
}
