//! `ledger` shows the selected lines as a table or as stored JSON, also with damaged or missing files.

use crate::folder::names_in;
use crate::support::agent::{Agent, Finished};
use crate::support::server::FakeServer;
use crate::support::terminal::Terminal;
use serde_json::{Value, json};

/// A zone in which a local day differs from a UTC day. POSIX writes a zone east of Greenwich with a minus.
const ZONE: &str = "<+0530>-5:30";

/// An agent with these lines in its ledger.
fn agent_with(lines: &[Value]) -> (FakeServer, Agent) {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().unregistered().env("TZ", ZONE).build();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    agent.write("data/ledger.jsonl", text);
    (server, agent)
}

fn sent(time: &str, task: &str, file: &str) -> Value {
    json!({"time": time, "task": task, "kind": "file", "direction": "out", "outcome": "sent", "file": file,
        "bytes": 12, "file_id": "f-1", "attempt": 1, "server": "http://h:1", "service_id": "svc"})
}

fn show(agent: &Agent, arguments: &[&str]) -> Finished {
    let shown = agent.run(&[&["ledger"], arguments].concat());
    shown.expect_code(0);
    shown
}

/// The lines that `--json` prints with these arguments.
fn lines(agent: &Agent, arguments: &[&str]) -> Vec<Value> {
    let shown = show(agent, &[&["--json"], arguments].concat());
    shown.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect()
}

#[test]
fn the_table_groups_lines_by_server() {
    let end = json!({"time": "2026-11-01T00:00:02.000Z", "task": "t-1", "kind": "task", "status": "failed",
        "exit_code": 3, "duration_secs": 1.5, "files_sent": 1, "files_left_out": 7, "stdout_bytes": 1,
        "stderr_bytes": 2, "error_bytes": 3, "server": "http://h:1", "service_id": "svc"});
    let report = json!({"time": "2026-11-01T00:00:01.500Z", "task": "t-1", "kind": "report", "direction": "out",
        "outcome": "unknown", "status": "failed", "bytes": 345, "stdout_bytes": 1, "stderr_bytes": 2,
        "error_bytes": 3, "reason": "no answer", "server": "http://h:1", "service_id": "svc"});
    let unnamed = json!({"time": "2026-11-01T00:00:03.000Z", "task": "t-2", "kind": "file", "direction": "out",
        "outcome": "left_out", "count": 9, "server": "https://other", "service_id": "svc"});
    let (_server, agent) = agent_with(&[sent("2026-11-01T00:00:00.999Z", "t-1", "output/a"), report, end, unnamed]);
    let expected = "\
Server http://h:1, service svc:
TIME                       TASK                           OUTCOME           BYTES  WHAT
2026-11-01T05:30:00+05:30  t-1                       out  sent                 12  `output/a`, id f-1
2026-11-01T05:30:01+05:30  t-1                       out  unknown             345  report: failed, with 1 bytes of standard \
output, 2 of standard error and 3 of the error message: no answer
2026-11-01T05:30:02+05:30  t-1                            failed                -  end of the task: exit status 3, 1.5 s, \
1 file(s) sent, 7 left out
Server https://other, service svc:
TIME                       TASK                           OUTCOME           BYTES  WHAT
2026-11-01T05:30:03+05:30  t-2                       out  left_out              -  9 more file(s)
";
    let shown = show(&agent, &[]);
    assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), (expected, ""));
}

#[test]
fn since_accepts_a_local_day_or_a_time() {
    // Midnight in the test's zone is 18:30 in UTC.
    let times = ["2026-10-31T18:29:59.999Z", "2026-10-31T18:30:00.000Z", "2026-11-01T12:00:00.000Z"];
    let (_server, agent) = agent_with(&times.map(|time| sent(time, "t", "f")));
    let from = |since: &str| lines(&agent, &["--since", since]).len();
    assert_eq!(from("2026-10-31"), 3);
    assert_eq!(from("2026-11-01"), 2);
    assert_eq!(from("2026-11-01T13:00:00+01:00"), 1);
    assert_eq!(from("2026-11-01T12:00:00.001Z"), 0);
    assert_eq!(from("2026-11"), 2);
    assert_eq!(from("2026-11-01 17:30"), 1);
    let until = |until: &str| lines(&agent, &["--until", until]).len();
    assert_eq!((until("2026-10-31"), until("2026-11-01 17:30"), until("2026-11")), (1, 2, 3));
    assert_eq!((from("1d"), until("1d"), from("today"), from("yesterday")), (0, 3, 0, 0));
    let nothing = show(&agent, &["--since", "2026-11-02"]);
    assert_eq!(
        (nothing.stdout.as_str(), nothing.stderr.as_str()),
        ("", "No line of the ledger matches the options.\n")
    );
}

#[test]
fn an_invalid_date_is_wrong_usage() {
    let (_server, agent) = agent_with(&[]);
    for wrong in ["", "soon", "2026-02-30", "2026-13", "7x", "01.11.2026"] {
        for option in ["--since", "--until"] {
            let done = agent.run(&["ledger", option, wrong]);
            done.expect_code(2).expect_stderr(option).expect_stderr("a day (2026-11-01, today, yesterday), a month");
            assert_eq!(done.stdout, "");
        }
    }
}

#[test]
fn tasks_are_selected_by_their_id_or_its_begin() {
    let time = "2026-11-01T00:00:00.000Z";
    let ids = ["t", "t-1", "t-10", "T-1", "../ t\n", "-t"];
    let (_server, agent) = agent_with(&ids.map(|id| sent(time, id, "f")));
    for id in ids {
        assert_eq!(lines(&agent, &["--task", id]), [sent(time, id, "f")]);
    }
    agent
        .run(&["ledger", "--task", "t-"])
        .expect_code(1)
        .expect_stderr("2 tasks begin with 't-': t-1, t-10; give more");
    assert_eq!(lines(&agent, &["--task", "T"]), [sent(time, "T-1", "f")]);
    assert!(lines(&agent, &["--task", "u"]).is_empty());
    assert_eq!(lines(&agent, &["--task", "t-1", "--since", "2026-11-02"]), [] as [Value; 0]);
}

#[test]
fn what_left_is_shown_alone_and_added_up() {
    let time = "2026-11-01T00:00:00.000Z";
    let file = |outcome: &str, direction: &str, name: &str| {
        let mut line = sent(time, "t-1", name);
        (line["outcome"], line["direction"], line["file_id"]) = (json!(outcome), json!(direction), json!(name));
        line
    };
    let (left, failed) = (file("sent", "out", "b"), file("failed", "out", "d"));
    let all = [file("received", "in", "a"), left.clone(), file("left_out", "out", "c"), failed.clone()];
    let (_server, agent) = agent_with(&all);
    assert_eq!(lines(&agent, &["--out"]), [left, failed]);
    let sum = show(&agent, &["--out", "--sum"]);
    sum.expect_stdout("DAY         TASK  RECEIVED").expect_stdout("2026-11-01  t-1").expect_stdout("\n1 task(s):\n");
    sum.expect_stdout(
        "to http://h:1: 1 file(s), 12 B, and 0 report(s), 0 B; at most 12 B more in 1 attempt(s) that failed",
    );
    show(&agent, &["--sum"]).expect_stdout("from http://h:1: 1 file(s), 12 B\n");
    agent.run(&["ledger", "--sum", "--json"]).expect_code(2);
}

#[test]
fn lines_are_cut_to_the_width_of_a_terminal() {
    let (_server, agent) = agent_with(&[sent("2026-11-01T00:00:00.000Z", "3ff20e1c-aaaa", &"long ".repeat(40))]);
    let at_terminal = |arguments: &[&str]| {
        let (terminal, program) = Terminal::open_with_width(80);
        agent.invoke(arguments).env("NO_COLOR", "1").terminal(program).run();
        terminal.whole_text().replace('\r', "")
    };
    let shown = at_terminal(&["ledger"]);
    let row = shown.lines().last().expect("a row");
    assert!(
        row.starts_with("2026-11-01 05:30:00  3ff20e1c  out  sent          12 B  `long ") && row.ends_with('…'),
        "{shown}"
    );
    assert_eq!(row.chars().count(), 80, "{row}");
    assert!(at_terminal(&["ledger", "--no-trunc"]).contains("  3ff20e1c-aaaa             out  sent"));
}

#[test]
fn names_are_escaped_in_the_table_and_unchanged_in_json() {
    let hostile = sent("2026-11-01T00:00:00.000Z", "t\u{1b}[2J", "a\n2026-01-01 forged\u{202e}\r");
    let (_server, agent) = agent_with(std::slice::from_ref(&hostile));
    let shown = show(&agent, &[]);
    assert_eq!(shown.stdout.lines().count(), 3, "{}", shown.stdout);
    shown.expect_stdout("_t_1b_5b2J").expect_stdout("`a\\n2026-01-01 forged\\u{202e}\\r`, id f-1");
    assert_eq!(lines(&agent, &[]), [hostile]);
}

#[test]
fn a_missing_ledger_is_reported() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    for arguments in [&["ledger"][..], &["ledger", "--json"]] {
        let done = agent.run(arguments);
        done.expect_code(0).expect_stderr("There is no ledger in");
        assert_eq!(done.stdout, "");
    }
    assert_eq!(names_in(agent.dir()), ["config.toml"], "reading creates no file");
}

#[test]
fn damaged_lines_are_skipped_and_counted() {
    let (first, last) = (sent("2026-11-01T00:00:00.000Z", "t", "a"), sent("2026-11-01T00:00:01.000Z", "t", "b"));
    let (_server, agent) = agent_with(&[]);
    agent.write("data/ledger.jsonl", format!("{first}\n{{\"time\":\"20\n\n\0\0\n{last}\n{{\"tim"));
    let shown = show(&agent, &["--json"]);
    assert_eq!(shown.stdout, format!("{first}\n{last}\n"));
    assert_eq!(shown.stderr, "3 damaged line(s) were skipped.\n");
}

#[test]
fn numbered_files_come_first_even_with_missing_numbers() {
    let line = |second: u32| sent(&format!("2026-11-01T00:00:{second:02}.000Z"), "t", &second.to_string());
    let (_server, agent) = agent_with(&[line(4)]);
    for (number, second) in [(20, 1), (3, 2), (1, 3)] {
        agent.write(&format!("data/ledger.jsonl.{number}"), format!("{}\n", line(second)));
    }
    assert_eq!(lines(&agent, &[]), [1, 2, 3, 4].map(line));
}

#[test]
fn a_closed_output_pipe_is_no_error() {
    let many: Vec<Value> = (0..5000).map(|_| sent("2026-11-01T00:00:00.000Z", "t", "f")).collect();
    let (_server, agent) = agent_with(&many);
    let through = ["sh", "-c", "{ \"$@\"; echo \"status $?\" >&2; } | head -n 1", "sh"];
    for arguments in [&["ledger"][..], &["ledger", "--json"]] {
        let done = agent.invoke(arguments).through(&through).run();
        assert_eq!((done.stdout.lines().count(), done.stderr.as_str()), (1, "status 0\n"), "{done:?}");
    }
}

#[test]
fn no_output_has_a_character_that_a_terminal_obeys() {
    let name = "a\u{9b}31m\u{7f}\u{61c}\u{202e}\u{2028}\u{feff}\u{e0041}\u{a0}\u{3164}\u{2800}\u{fe00}\u{ad} 世界 👩\u{200d}👧";
    let (_server, agent) = agent_with(&[sent("2026-11-01T00:00:00.000Z", "t-1", name)]);
    let obeyed = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{feff}' | '\u{a0}'
                | '\u{ad}' | '\u{2800}' | '\u{3164}' | '\u{fe00}' | '\u{e0000}'..='\u{e007f}')
    };
    let table = show(&agent, &[]).stdout;
    assert!(!table.contains(obeyed) && table.contains("世界 👩\u{200d}👧"), "{table:?}");
    let json = show(&agent, &["--json"]).stdout;
    assert!(!json.contains(obeyed) && !json.contains('\u{200d}'), "{json:?}");
    assert_eq!(lines(&agent, &[])[0]["file"], name);
}
