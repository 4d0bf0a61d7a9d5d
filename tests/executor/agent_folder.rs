//! The agent folder `executor-example/agent`: its files define the instructions and skills of the image's agent.

use crate::image::{image_of, last_error, repository};
use crate::model::{Model, Say, Style, bash, messages_of, say, system_of};
use crate::scene::{Setup, by_hand};
use crate::support::server::TaskSpec;
use serde_json::json;
use std::fs;
use std::path::Path;

const SKILL: &str = "/opt/agent/skills/table-summary";

#[test]
fn a_skill_is_offered_read_and_used() {
    let turns = vec![
        Say::Tool("read", json!({"path": format!("{SKILL}/SKILL.md")})),
        bash(format!("python3 {SKILL}/scripts/summarise.py input/t.csv > output/summary.md")),
        say("It is in `output/summary.md`."),
    ];
    let scene = Setup::new(turns).start();
    let task = scene.completed(TaskSpec::new("Summarise.").input("t.csv", "name;n\na;1\nb;\nc;4\n"));
    let asked = scene.model.asked();
    let system = system_of(&asked[0]);
    for part in ["<name>table-summary</name>", "Summarise a CSV or TSV table", &format!("{SKILL}/SKILL.md")] {
        assert!(system.contains(part), "{part} isn't in {system}");
    }
    let read = messages_of(&asked[1], "tool").concat();
    assert!(read.contains("# Table summary"), "{read}");
    let expected = "3 rows, 2 columns, 0 rows with more or fewer cells than the header\n\n\
        | column | type | missing | distinct | min | max | mean | median | examples |\n\
        |---|---|---|---|---|---|---|---|---|\n\
        | name | text | 0 | 3 |  |  |  |  | a, b, c |\n\
        | n | number | 1 | 2 | 1 | 4 | 2.5 | 2.5 | 1, 4 |\n";
    assert_eq!(scene.output(&task, "output/summary.md"), expected);
}

/// A folder like `executor-example` whose agent is made of these files.
fn folder_with(agent: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("make a folder");
    let copy = |path: &str| {
        let target = folder.path().join(path);
        fs::create_dir_all(target.parent().expect("a folder")).expect("make a folder");
        fs::copy(repository("executor-example").join(path), target).expect("copy a file");
    };
    ["Dockerfile", ".dockerignore"].iter().for_each(|path| copy(path));
    for entry in fs::read_dir(repository("executor-example/executor")).expect("read a folder").flatten() {
        if entry.path().is_file() {
            copy(&Path::new("executor").join(entry.file_name()).to_string_lossy());
        }
    }
    for (path, text) in agent {
        let target = folder.path().join("agent").join(path);
        fs::create_dir_all(target.parent().expect("a folder")).expect("make a folder");
        fs::write(target, text).expect("write a file");
    }
    folder
}

#[test]
fn another_agent_needs_only_another_folder() {
    let folder = folder_with(&[
        ("AGENT.md", "You are a mathematician."),
        ("skills/primes/SKILL.md", "---\nname: primes\ndescription: Factors numbers.\n---\nUse `factor`."),
        ("apt.txt", "# a calculator\nbc # small\n\n"),
        ("requirements.txt", "tabulate==0.9.0\n"),
    ]);
    let image = image_of(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let command =
        "echo 6*7 | bc > output/bc; python3 -c 'import tabulate; print(tabulate.__version__)' > output/version";
    let scene = Setup::new(vec![bash(command), say("Done.")]).config(&format!("[executor]\nimage = '{image}'")).start();
    let task = scene.completed(TaskSpec::new("Compute."));
    assert_eq!(
        (scene.output(&task, "output/bc"), scene.output(&task, "output/version")),
        ("42\n".into(), "0.9.0\n".into())
    );
    let system = system_of(&scene.model.asked()[0]);
    assert!(system.starts_with("You are a mathematician.") && system.contains("<name>primes</name>"), "{system}");
}

#[test]
fn an_agent_may_be_one_file() {
    let folder = folder_with(&[("AGENT.md", "You are short.")]);
    let image = image_of(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let scene = Setup::new(vec![say("Yes.")]).config(&format!("[executor]\nimage = '{image}'")).start();
    let task = scene.completed(TaskSpec::new("Answer."));
    assert_eq!(scene.output(&task, "output/response.md"), "Yes.\n");
    assert!(system_of(&scene.model.asked()[0]).starts_with("You are short."));
}

#[test]
fn a_mounted_folder_replaces_the_agent_without_a_build() {
    let model = Model::start(Style::OpenAi, vec![say("Yes.")], None);
    let container = by_hand(&model).file("agent/AGENT.md", "You are new.");
    let mount = format!("type=bind,source={},target=/opt/agent,readonly", container.path("agent").display());
    let container = container.with(&["--mount", &mount]);
    let output = container.run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(system_of(&model.asked()[0]).starts_with("You are new."));

    for (text, said) in [(Some(" \n"), "is empty"), (None, "can't be read: No such file or directory")] {
        let path = container.path("agent/AGENT.md");
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let output = container.run();
        let expected = format!("this executor isn't configured: /opt/agent/AGENT.md {said}");
        assert_eq!((output.status.code(), last_error(&output)), (Some(3), expected));
    }
    assert_eq!(model.asked().len(), 1);
}
