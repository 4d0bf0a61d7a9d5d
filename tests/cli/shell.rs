//! Completions and manual pages.

use crate::folder::names_in;
use crate::help::SUBCOMMANDS;
use crate::support::agent::Agent;
use crate::support::server::FakeServer;
use std::fs;
use std::process::Command;

fn agent() -> Agent {
    Agent::builder(&FakeServer::start()).without_config().without_engine().build()
}

#[test]
fn bash_completes_commands_and_options() {
    let agent = agent();
    let script = agent.run(&["completions", "bash"]);
    script.expect_code(0);
    let file = agent.write("completions", &script.stdout);
    // What bash does when somebody presses Tab behind these words.
    let complete = |words: &[&str]| {
        let code = r#"
            source "$1"; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            handler=$(complete -p agent-core); handler=${handler#*-F }; handler=${handler%% *}
            $handler agent-core "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[@]}"
        "#;
        let shell = Command::new("bash").args(["-c", code, "bash"]).arg(&file).args(words).output().expect("run bash");
        assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
        String::from_utf8_lossy(&shell.stdout).trim().to_owned()
    };
    assert_eq!(complete(&["agent-core", "sto"]), "stop");
    assert_eq!(complete(&["agent-core", "stop", "--dr"]), "--drain");
    assert_eq!(complete(&["agent-core", "--log-format", "j"]), "json");
    let all = complete(&["agent-core", ""]);
    assert!(SUBCOMMANDS.iter().all(|name| all.split(' ').any(|word| word == *name)), "{all}");
}

#[test]
fn other_shells_get_completions_of_every_command() {
    let agent = agent();
    for (shell, sign) in [
        ("zsh", "#compdef agent-core"),
        ("fish", "complete -c agent-core"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = agent.run(&["completions", shell]);
        script.expect_code(0).expect_stdout(sign);
        for name in SUBCOMMANDS {
            script.expect_stdout(name);
        }
    }
    agent.run(&["completions", "tcsh"]).expect_code(2).expect_stderr("bash, zsh, fish, powershell");
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let agent = agent();
    let page = agent.run(&["man"]);
    page.expect_code(0).expect_stdout(".TH agent-core 1").expect_stdout(".SH \"EXIT STATUS\"");
    for name in SUBCOMMANDS {
        let in_roff = name.replace('-', "\\-");
        page.expect_stdout(&format!("agent\\-core\\-{in_roff}(1)"));
        agent.run(&["man", name]).expect_code(0).expect_stdout(&format!("\\fBagent\\-core {in_roff}\\fR"));
    }
    agent.run(&["man", "stop"]).expect_stdout("\\fB\\-\\-drain\\fR");
    let pages = agent.path("man1");
    agent.run(&["man", "--out", &pages.to_string_lossy()]).expect_code(0);
    let written = names_in(&pages);
    for name in SUBCOMMANDS {
        assert!(written.contains(&format!("agent-core-{name}.1")), "{written:?}");
    }
    assert_eq!(written.len(), SUBCOMMANDS.len() + 1);
    let page = fs::read_to_string(pages.join("agent-core-stop.1")).expect("read a page");
    assert_eq!(page, agent.run(&["man", "stop"]).stdout);
    agent.run(&["man", "nope"]).expect_code(2).expect_stderr("there is no command `nope`");
}
