//! Completions.

use crate::help::SUBCOMMANDS;
use crate::support::agent::Agent;
use crate::support::server::FakeServer;
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
    // The code that bash runs for Tab behind these words.
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
    assert_eq!(complete(&["agent-core", "man", "conf"]), "config");
    assert!(!complete(&["agent-core", "man", ""]).contains('['));
    assert_eq!(complete(&["agent-core", "help", "run-"]), "run-detached");
    let all = complete(&["agent-core", ""]);
    assert!(SUBCOMMANDS.iter().all(|name| all.split(' ').any(|word| word == *name)), "{all}");
}

#[test]
fn bash_completes_the_names_of_tasks() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    for name in ["3ff20e1c-1", "3ff20e1c-2", "9d3a"] {
        agent.write(&format!("data/tasks/{name}/record.json"), "{}");
    }
    let script = agent.run(&["completions", "bash"]);
    let file = agent.write("completions", &script.stdout);
    let program = agent.write_script("agent-core", &format!("exec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_agent-core")));
    let complete = |words: &[&str]| {
        let code = r#"
            source "$1"; PATH="$2:$PATH"; shift 2
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _agent-core_with_ids agent-core "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "${COMPREPLY[@]}"
        "#;
        let mut bash = Command::new("bash");
        bash.args(["-c", code, "bash"]).arg(&file).arg(program.parent().expect("a folder")).args(words);
        let shell = bash.current_dir(agent.dir()).output().expect("run bash");
        assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
        String::from_utf8_lossy(&shell.stdout).trim().to_owned()
    };
    let config = agent.config_path();
    let config = config.to_str().expect("UTF-8");
    for before in [&["show"][..], &["logs", "-f"], &["discard"], &["try", "--replay"], &["ledger", "--task"]] {
        let words = |word: &'static str| [&["agent-core"], before, &[word]].concat();
        assert_eq!(complete(&words("3f")), "3ff20e1c-1 3ff20e1c-2", "{before:?}");
        assert_eq!(complete(&[&["agent-core", "--config", config], before, &["9"]].concat()), "9d3a", "{before:?}");
    }
    assert_eq!(complete(&["agent-core", "logs", "--fo"]), "--follow");
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
        for name in SUBCOMMANDS.into_iter().chain(["troubleshooting"]) {
            script.expect_stdout(name);
        }
    }
    agent
        .run(&["completions", "zsh"])
        .expect_stdout(":TASK_ID:_agent-core_ids' ")
        .expect_stdout(":ID:_agent-core_ids' ");
    agent.run(&["completions", "fish"]).expect_stdout("-l task -r -f -a \"(agent-core tasks --ids 2>/dev/null)\"");
    agent.run(&["completions", "tcsh"]).expect_code(2).expect_stderr("bash, zsh, fish, powershell");
}
