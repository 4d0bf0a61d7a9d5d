//! Help, version and wrong usage.

use crate::support::agent::{Agent, Finished};
use crate::support::server::FakeServer;

/// Every subcommand.
pub const SUBCOMMANDS: [&str; 22] = [
    "init",
    "register",
    "unregister",
    "run",
    "run-detached",
    "stop",
    "pause",
    "resume",
    "reload",
    "status",
    "check",
    "try",
    "tasks",
    "show",
    "logs",
    "command",
    "discard",
    "ledger",
    "service",
    "completions",
    "man",
    "help",
];

fn run(arguments: &[&str]) -> Finished {
    let agent = Agent::builder(&FakeServer::start()).without_config().without_engine().build();
    // The lines stay within 80 columns on a wide terminal, too.
    agent.invoke(arguments).env("COLUMNS", "200").run()
}

fn assert_fits_80_columns(done: &Finished) {
    let long: Vec<&str> = done.stdout.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(long.is_empty(), "`{}` has lines of more than 80 columns: {long:#?}", done.command);
    assert!(done.stdout.lines().count() > 3, "`{}` says nothing:\n{}", done.command, done.stdout);
}

#[test]
fn version_option_prints_the_version() {
    let done = run(&["--version"]);
    done.expect_code(0);
    assert_eq!(done.stdout, format!("agent-core {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(done.stderr, "");
}

#[test]
fn help_names_the_subcommands_and_the_options() {
    let done = run(&["--help"]);
    done.expect_code(0);
    assert_eq!(done.stderr, "");
    assert_fits_80_columns(&done);
    for name in SUBCOMMANDS.iter().chain(&["--config <FILE>", "--version"]) {
        done.expect_stdout(name);
    }
}

#[test]
fn help_shows_the_first_steps_in_their_order() {
    let help = run(&["--help"]).stdout;
    let steps = ["agent-core init", "agent-core register --token", "agent-core run"];
    let places = steps.map(|step| help.find(step).unwrap_or_else(|| panic!("{step:?} is not in\n{help}")));
    assert!(places.is_sorted(), "{places:?} in\n{help}");
    // The steps form a column, so none of their lines may wrap.
    let (_, steps) = help.split_once("First steps:\n").expect("a heading for the steps");
    let first: Vec<&str> = steps.lines().take(3).map(str::trim_start).collect();
    assert!(first.iter().zip(["1.", "2.", "3."]).all(|(line, number)| line.starts_with(number)), "{first:#?}");
}

#[test]
fn every_subcommand_has_a_help_text() {
    for name in SUBCOMMANDS {
        let done = run(&[name, "--help"]);
        done.expect_code(0).expect_stdout(&format!("Usage: agent-core {name}")).expect_stdout("--config <FILE>");
        assert_eq!(done.stderr, "");
        assert_fits_80_columns(&done);
    }
    run(&["register", "--help"]).expect_stdout("--token <TOKEN>").expect_stdout("--name <NAME>");
    run(&["run", "--help"]).expect_stdout("--interactive");
    run(&["init", "--help"]).expect_stdout("--force");
    run(&["check", "--help"]).expect_stdout("--json");
    let trial = run(&["try", "--help"]);
    for option in ["--prompt <TEXT>", "--output-prompt <TEXT>", "--input <FILE>", "--replay <TASK_ID>", "--out <DIR>"] {
        trial.expect_stdout(option);
    }
    run(&["ledger", "--help"]).expect_stdout("--task <ID>").expect_stdout("--since <DATE>").expect_stdout("--json");
}

#[test]
fn wrong_usage_exits_with_2_and_a_hint() {
    for arguments in [
        &[][..],
        &["strat"],
        &["status", "--verbose"],
        &["register"],
        &["register", "--token"],
        &["status", "more"],
        &["--config"],
    ] {
        let done = run(arguments);
        done.expect_code(2).expect_stderr("--help");
        assert_eq!(done.stdout, "", "{arguments:?}");
    }
    run(&["register"]).expect_stderr("--token <TOKEN>");
    run(&["stauts"]).expect_stderr("'status'");
}
