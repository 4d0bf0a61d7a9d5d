//! The model's answer: which answers are accepted, where they are written, and their format.

use crate::model::{Model, Say, Style, bash, messages_of, say};
use crate::scene::{Setup, by_hand, reason};
use crate::support::server::{Fault, Match, TaskSpec};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;

#[test]
fn a_response_that_the_model_wrote_itself_is_kept() {
    let turns = vec![bash("echo '# Mine' > output/response.md"), say("I wrote it.")];
    let scene = Setup::new(turns).start();
    let task = scene.completed(TaskSpec::new("Write.").output_prompt("as a poem"));
    assert_eq!(scene.output(&task, "output/response.md"), "# Mine\n");
    assert_eq!(scene.model.asked().len(), 2, "a response that the model wrote isn't formatted again");
}

#[test]
fn a_truncated_answer_fails_the_task() {
    for style in [Style::OpenAi, Style::Anthropic] {
        let turns = vec![bash("echo partial > output/partial"), Say::CutOff("The total is")];
        let scene = Setup::with_model(Model::start(style, turns, None)).start();
        let task = scene.failed(TaskSpec::new("Add."));
        assert!(reason(&task).contains("cut off at its limit of output tokens"), "{}", reason(&task));
        assert_eq!(task.output["files"], json!(["output/partial"]), "written files are delivered");
    }
}

#[test]
fn an_empty_answer_fails_the_task() {
    let scene = Setup::new(vec![Say::Empty]).start();
    let task = scene.failed(TaskSpec::new("Add."));
    assert!(reason(&task).contains("the model's answer is empty"), "{}", reason(&task));
    assert_eq!(task.output["files"], json!([]));
}

#[test]
fn an_undeliverable_response_fails_the_task() {
    let turns = vec![bash("ln -s /etc/hostname output/response.md"), say("Done.")];
    let scene = Setup::new(turns).start();
    let task = scene.failed(TaskSpec::new("Link."));
    assert!(reason(&task).contains("output/response.md isn't a regular file"), "{}", reason(&task));

    let turns = vec![bash("rmdir output && ln -s /tmp output"), say("Done.")];
    let scene = Setup::new(turns).start();
    let task = scene.failed(TaskSpec::new("Link."));
    assert!(reason(&task).contains("/workspace/output isn't a folder to write to"), "{}", reason(&task));
}

#[test]
fn a_response_of_white_space_is_replaced_by_the_answer() {
    let scene = Setup::new(vec![bash("printf '\\n \\n' > output/response.md"), say("The answer.")]).start();
    let task = scene.completed(TaskSpec::new("Write."));
    assert_eq!(scene.output(&task, "output/response.md"), "The answer.\n");
}

#[test]
fn a_background_process_can_not_change_the_answer() {
    let waits = "setsid sh -c 'until [ -s output/response.md ]; do :; done; echo forged > output/response.md' \
                 > /dev/null 2>&1 & echo begun";
    let scene = Setup::new(vec![bash(waits), say("The answer.")]).start();
    let task = scene.completed(TaskSpec::new("Write."));
    assert_eq!(scene.output(&task, "output/response.md"), "The answer.\n");
}

#[test]
fn a_second_turn_formats_the_answer_as_requested() {
    let model = Model::start(Style::OpenAi, vec![say("I found a total of 42.")], Some(say("42")));
    let scene = Setup::with_model(model).start();
    let task = scene.completed(TaskSpec::new("Add.").output_prompt("a number and nothing else"));
    assert_eq!(scene.output(&task, "output/response.md"), "42\n");
    assert_eq!(scene.output(&task, "output/response.original.md"), "I found a total of 42.\n");
    let asked = scene.model.asked();
    assert_eq!(asked.len(), 2);
    assert!(messages_of(&asked[0], "user").concat().contains("a number and nothing else"));
    let second = messages_of(&asked[1], "user").concat();
    assert!(second.contains("I found a total of 42.") && second.contains("a number and nothing else"), "{second}");
}

#[test]
fn a_failed_second_turn_keeps_the_first_answer() {
    let first = "I found a total of 42.";
    let formatted = [None, Some(Say::CutOff("4")), Some(Say::Empty), Some(say(first))];
    for formatted in formatted {
        let scene = Setup::with_model(Model::start(Style::OpenAi, vec![say(first)], formatted)).start();
        let task = scene.completed(TaskSpec::new("Add.").output_prompt("a number"));
        assert_eq!(task.output["files"], json!(["output/response.md"]));
        assert_eq!(scene.output(&task, "output/response.md"), format!("{first}\n"));
    }
}

#[test]
fn a_second_turn_can_be_turned_off() {
    let model = Model::start(Style::OpenAi, vec![say("42")], Some(say("never")));
    let scene = Setup::with_model(model).config("[executor.env]\nFORMAT_TURN = 'off'").start();
    let task = scene.completed(TaskSpec::new("Add.").output_prompt("a number"));
    assert_eq!(scene.output(&task, "output/response.md"), "42\n");
    assert_eq!(scene.model.asked().len(), 1);
}

#[test]
fn the_models_key_is_never_printed() {
    let scene =
        Setup::new(vec![bash("echo \"key $LLM_API_KEY\"; exit 1"), say(format!("It is {}.", crate::model::KEY))]);
    let scene = scene.start();
    let task = scene.completed(TaskSpec::new("Tell."));
    assert_eq!(scene.output(&task, "output/response.md"), "It is ***.\n");
    assert!(task.stdout().contains("It is ***."), "{}", task.stdout());
    assert!(!task.output.to_string().contains(crate::model::KEY), "{}", task.output);

    // The endpoint repeats the key in its error message.
    let scene = Setup::new(vec![]).start();
    let message = json!({"error": {"message": format!("no such key: {}", crate::model::KEY)}});
    scene.model.fault(Match::any(), Fault::Answer(crate::support::server::Response::json(403, &message)));
    let task = scene.failed(TaskSpec::new("Tell."));
    assert!(reason(&task).contains("no such key: ***"), "{}", reason(&task));
}

#[test]
fn files_named_like_the_first_answer_are_kept() {
    let own = "mkdir output/response.original.md; echo mine > output/response.original-2.md";
    let model = Model::start(Style::OpenAi, vec![bash(own), say("I found 42.")], Some(say("42")));
    let scene = Setup::with_model(model).start();
    let task = scene.completed(TaskSpec::new("Add.").output_prompt("a number"));
    let files = ["output/response.original-3.md", "output/response.original-2.md", "output/response.md"];
    assert_eq!(task.output["files"], json!(files), "the existing files are kept");
    assert_eq!(scene.output(&task, "output/response.md"), "42\n");
    assert_eq!(scene.output(&task, "output/response.original-2.md"), "mine\n");
    assert_eq!(scene.output(&task, "output/response.original-3.md"), "I found 42.\n");
}

#[test]
fn a_background_process_also_ends_under_dockers_init() {
    let waits = "setsid sh -c 'until [ -s output/response.md ]; do :; done; echo forged > output/response.md' \
                 > /dev/null 2>&1 & echo begun";
    let setup = Setup::new(vec![bash(waits), say("The answer.")]);
    let scene = setup.config("[executor]\ndocker_args = ['--init']").start();
    let task = scene.completed(TaskSpec::new("Write."));
    assert_eq!(scene.output(&task, "output/response.md"), "The answer.\n");
}

#[test]
fn a_crashing_tool_leaves_no_core_dump() {
    let crash = "python3 -c 'import os; os.abort()'; echo crashed with $?";
    let model = Model::start(Style::OpenAi, vec![bash(crash), say("Done.")], None);
    let container = by_hand(&model).with(&["--ulimit", "core=-1"]);
    let output = container.run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(messages_of(&model.asked()[1], "tool").concat().contains("crashed with 134"));
    let left = fs::read_dir(container.path("workspace")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<BTreeSet<_>>(), ["input", "output", "task.json"].map(Into::into).into());
}
