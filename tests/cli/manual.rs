//! The manual's pages: `man` and `help`.

use crate::folder::names_in;
use crate::help::SUBCOMMANDS;
use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::FakeServer;
use crate::support::terminal::Terminal;
use std::fs;

/// The pages below src/manual.
const TOPICS: [&str; 9] =
    ["config", "operate", "check", "try", "ledger", "security", "troubleshooting", "protocol", "promises"];

fn agent() -> Agent {
    Agent::builder(&FakeServer::start()).without_config().without_engine().build()
}

fn markdown(topic: &str) -> String {
    let file = format!("{}/src/manual/{topic}.md", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn every_manual_page_is_a_topic_named_in_the_help() {
    let files = names_in(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual"));
    let mut expected: Vec<String> = TOPICS.iter().map(|topic| format!("{topic}.md")).collect();
    expected.sort();
    assert_eq!(files, expected);
    let agent = agent();
    let (help, page) = (agent.run(&["--help"]), agent.run(&["man"]));
    for topic in TOPICS {
        help.expect_stdout(topic);
        page.expect_stdout(&format!("\\fBagent\\-core man {topic}\\fR"));
    }
}

#[test]
fn help_prints_topics_as_markdown_and_commands_as_help() {
    let agent = agent();
    for topic in TOPICS {
        let done = agent.run(&["help", topic]);
        done.expect_code(0);
        assert_eq!(done.stderr, "");
        assert!(done.stdout.ends_with(&markdown(topic)), "{topic}");
    }
    for name in SUBCOMMANDS {
        let help = agent.run(&[name, "--help"]).stdout;
        let page = if TOPICS.contains(&name) { format!("\n{}", markdown(name)) } else { String::new() };
        assert_eq!(agent.run(&["help", name]).stdout, help + &page);
    }
    assert_eq!(agent.run(&["help"]).stdout, agent.run(&["--help"]).stdout);
}

#[test]
fn man_prints_roff_when_output_is_no_terminal() {
    let agent = agent();
    let page = agent.run(&["man"]);
    page.expect_code(0).expect_stdout(".TH \"AGENT\\-CORE\" 1 \"\"").expect_stdout(".SH \"EXIT STATUS\"");
    for name in SUBCOMMANDS {
        let in_roff = name.replace('-', "\\-");
        page.expect_stdout(&format!("agent\\-core\\-{in_roff}(1)"));
        agent.run(&["man", name]).expect_code(0).expect_stdout(&format!("\\fBagent\\-core {in_roff}\\fR"));
    }
    agent.run(&["man", "stop"]).expect_stdout("\\fB\\-\\-drain\\fR");
    agent.run(&["man", "config"]).expect_code(0).expect_stdout(".SH NAME\nagent\\-core\\-config \\- ");
    agent.run(&["man", "check"]).expect_stdout("\\fB\\-\\-json\\fR").expect_stdout(".SH \"What is tried\"");
}

#[test]
fn man_out_writes_a_page_for_each_command_and_topic() {
    let agent = agent();
    let pages = agent.path("man1");
    agent.run(&["man", "--out", &pages.to_string_lossy()]).expect_code(0);
    let mut names: Vec<&str> = SUBCOMMANDS.into_iter().chain(TOPICS).collect();
    names.sort();
    names.dedup();
    let mut expected: Vec<String> = names.iter().map(|name| format!("agent-core-{name}.1")).collect();
    expected.push("agent-core.1".to_owned());
    expected.sort();
    assert_eq!(names_in(&pages), expected);
    for name in ["stop", "config"] {
        let page = fs::read_to_string(pages.join(format!("agent-core-{name}.1"))).expect("read a page");
        assert_eq!(page, agent.run(&["man", name]).stdout);
    }
}

#[test]
fn an_unknown_topic_is_an_error_that_lists_all_topics() {
    let agent = agent();
    for command in ["man", "help"] {
        let done = agent.run(&[command, "nope"]);
        done.expect_code(2).expect_stderr("there is no page `nope`");
        assert_eq!(done.stdout, "");
        for name in TOPICS.into_iter().chain(SUBCOMMANDS) {
            done.expect_stderr(name);
        }
    }
}

/// Runs `man config` on a terminal, with these programs in PATH and this pager, and returns the terminal's text.
fn on_a_terminal(programs: &[(&str, &str)], pager: Option<&str>) -> String {
    let agent = agent();
    for (name, text) in programs {
        agent.write_script(&format!("bin/{name}"), text);
    }
    let (person, terminal) = Terminal::open();
    let bin = agent.path("bin").to_string_lossy().into_owned();
    let mut man = agent.invoke(&["man", "config"]).env("PATH", bin).terminal(terminal);
    if let Some(pager) = pager {
        man = man.env("PAGER", pager);
    }
    let mut running = man.start();
    assert_eq!(running.wait_exit(secs(20)).code(), Some(0));
    drop(running);
    person.whole_text().replace('\r', "")
}

const MAN: &str = "#!/bin/sh\nread -r line\necho \"man $*: $line\"\n";
const NO_MAN: &str = "#!/bin/sh\necho 'no such option' >&2\nexit 1\n";
const PAGER: &str = "#!/bin/sh\nread -r line\necho \"pager $*: $line\"\n";

#[test]
fn a_terminal_shows_pages_with_the_systems_man() {
    let shown = on_a_terminal(&[("man", MAN), ("less", PAGER)], Some("less"));
    let title = ".TH \"AGENT\\-CORE\\-CONFIG\" 1 \"\" \"agent-core ";
    assert!(shown.starts_with(&format!("man -l -: {title}")), "{shown}");
}

#[test]
fn the_pager_shows_plain_text_without_man() {
    assert_eq!(on_a_terminal(&[("less", PAGER)], None), "pager : # Configuration\n");
    let shown = on_a_terminal(&[("man", NO_MAN), ("my-pager", PAGER)], Some("my-pager -x 'a b'"));
    assert_eq!(shown, "pager -x a b: # Configuration\n");
}

#[test]
fn plain_text_is_printed_without_man_and_pager() {
    assert_eq!(on_a_terminal(&[], None), markdown("config"));
}
