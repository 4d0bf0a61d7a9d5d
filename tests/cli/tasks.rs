//! `tasks` and `show`: which tasks, in which order, and how much of them a terminal has room for.

use crate::support::agent::Agent;
use crate::support::server::FakeServer;
use crate::support::terminal::Terminal;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The time so many hours ago.
fn ago(hours: i64) -> String {
    (Timestamp::now() - SignedDuration::from_hours(hours)).to_string()
}

/// An agent that keeps three settled tasks: the oldest has failed, the youngest was cancelled.
fn keeping(server: &FakeServer) -> Agent {
    let agent = Agent::builder(server).without_engine().build();
    let traceback = "Traceback (most recent call last):\nKeyError: temperature";
    for (name, hours, status, message) in [
        ("3ff20e1c-0000", 30, "failed", Some(traceback)),
        ("9d3a2f00-0000", 3, "completed", None),
        ("aa3a2f00-0000", 1, "cancelled", None),
    ] {
        let record = json!({
            "task": {"id": name}, "service_id": "svc", "base_url": server.url(), "phase": "settled",
            "offered_at": ago(hours), "settled_at": ago(hours),
            "ending": {"status": status, "exit_code": 1, "error_message": message, "duration_secs": 1.5, "at": ago(hours)},
        });
        agent.write(&format!("data/tasks/{name}/record.json"), record.to_string());
        let input = json!({"id": "f", "filename": "in\u{1b}.csv", "size_bytes": 12});
        let offer = json!({"id": name, "task_prompt": "Count the\ncells", "input_files": [input]});
        agent.write(&format!("data/tasks/{name}/offer.json"), offer.to_string());
        let uploads = "{\"event\":\"done\",\"file\":\"output/a\",\"size\":3,\"file_id\":\"f-1\"}\n\
                       {\"event\":\"left_out\",\"file\":\"raw\",\"reason\":\"a link\"}\n";
        agent.write(&format!("data/tasks/{name}/uploads.jsonl"), uploads);
    }
    agent
}

/// The first words of the rows.
fn names(agent: &Agent, arguments: &[&str]) -> Vec<String> {
    let shown = agent.run(&[&["tasks"], arguments].concat());
    shown.expect_code(0);
    shown.stdout.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_youngest_task_comes_first_and_options_select() {
    let server = FakeServer::start();
    let agent = keeping(&server);
    let all = ["aa3a2f00-0000", "9d3a2f00-0000", "3ff20e1c-0000"];
    assert_eq!(names(&agent, &[]), all);
    assert_eq!(names(&agent, &["-n", "2"]), all[..2]);
    assert_eq!(names(&agent, &["--failed"]), all[2..]);
    assert_eq!(names(&agent, &["--since", "2h"]), all[..1]);
    let json = agent.run(&["tasks", "--json", "-n", "1"]).stdout;
    assert_eq!(serde_json::from_str::<Value>(&json).expect("one line")["id"], all[0]);
    let shown = agent.run(&["tasks"]).stdout;
    let rows: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows[0], "ID STATE AGE TOOK FILES REASON/PROMPT");
    assert!(rows[1].contains("cancelled ") && rows[1].ends_with(" 0.0 s 1/2 Count the cells"), "{shown}");
    assert!(rows[3].contains("failed ") && rows[3].ends_with(" 1/2 KeyError: temperature"), "{shown}");
}

#[test]
fn empty_lists_say_what_is_missing() {
    let server = FakeServer::start();
    let agent = keeping(&server);
    let none = "None of the 3 task(s) that are kept in";
    agent.run(&["tasks", "--since", "1min"]).expect_code(0).expect_stderr(none);
    agent.run(&["tasks", "--undelivered"]).expect_code(0).expect_stderr("No undelivered result is kept in");
    let empty = Agent::builder(&server).without_engine().build();
    empty.run(&["tasks"]).expect_code(0).expect_stderr("No task is kept in");
    agent.run(&["tasks", "--since", "soon"]).expect_code(2).expect_stderr("`soon` is no value for `--since`");
}

#[test]
fn a_terminal_gets_short_names_and_rows_of_its_width() {
    let server = FakeServer::start();
    let agent = keeping(&server);
    let at_terminal = |arguments: &[&str], colour: &str| {
        let (terminal, program) = Terminal::open_with_width(60);
        agent.invoke(arguments).env("NO_COLOR", colour).env("TERM", "xterm").terminal(program).run();
        terminal.whole_text().replace('\r', "")
    };
    let shown = at_terminal(&["tasks"], "1");
    assert!(shown.lines().all(|line| line.chars().count() <= 60) && shown.contains("\n3ff20e1c  failed "), "{shown}");
    assert!(shown.contains("KeyError: te") && shown.contains('…') && !shown.contains('\u{1b}'), "{shown}");
    assert!(at_terminal(&["tasks", "--no-trunc"], "1").contains("\n3ff20e1c-0000  failed "));
    assert!(at_terminal(&["tasks"], "").contains("\u{1b}[31mfailed\u{1b}[0m"), "red is for failures");
    let status = at_terminal(&["status"], "1");
    let first: Vec<&str> = status.lines().take(3).collect();
    assert_eq!(first[0], "✗ not running");
    assert!(first[1].starts_with("○ Server http://") && first[2] == "○ 0 of 2 slots taken, 0 undelivered", "{status}");
    assert!(status.contains("\n\nOpenAaaS Agent Status\n====================\nConfig file: "), "{status}");
}

#[test]
fn show_has_everything_of_one_task() {
    let server = FakeServer::start();
    let agent = keeping(&server);
    let shown = agent.run(&["show", "3ff2"]);
    shown.expect_code(0).expect_stdout("Task 3ff20e1c-0000\nState:       failed, since 20");
    for part in [
        "\nExit status: 1\n",
        "\nReason:\n  Traceback (most recent call last):\n  KeyError: temperature\n",
        "\nPrompt:\n  Count the\n  cells\n",
        "\nInput: 1 file(s)\n  in\\u{1b}.csv, 12 B\n",
        "\nResults: 1 sent, 1 left out\n  output/a\n  raw stays here: a link\n",
        "\nTimes:\n  accepting it  ",
        "  in its container             1.5 s  █",
    ] {
        shown.expect_stdout(part);
    }
    let json: Value = serde_json::from_str(&agent.run(&["show", "--json", "3ff2"]).stdout).expect("one object");
    assert_eq!((&json["key"], &json["offer"]["task_prompt"]), (&json!("3ff20e1c-0000"), &json!("Count the\ncells")));
    assert_eq!((&json["sent"], &json["left_out"][0]["file"]), (&json!(["output/a"]), &json!("raw")));
    agent.run(&["show", "x"]).expect_code(1).expect_stderr("no task 'x' is kept");
}
