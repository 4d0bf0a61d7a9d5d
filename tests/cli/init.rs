//! `init` writes the template and never overwrites a file.

use crate::folder::names_in;
use crate::support::agent::Agent;
use crate::support::server::FakeServer;
use std::fs;

/// The file that the program writes.
const TEMPLATE: &str = include_str!("../../src/config/template.toml");

fn empty_folder() -> Agent {
    Agent::builder(&FakeServer::start()).without_config().without_engine().build()
}

#[test]
fn init_writes_the_template() {
    let agent = empty_folder();
    let done = agent.run(&["init"]);
    done.expect_code(0).expect_stdout(&agent.config_path().display().to_string()).expect_stdout("register --token");
    assert_eq!(done.stderr, "");
    assert_eq!(agent.config_text(), TEMPLATE);
    assert_eq!(names_in(agent.dir()), ["config.toml"]);
}

#[cfg(unix)]
#[test]
fn init_creates_a_private_file() {
    let agent = empty_folder();
    agent.run(&["init"]).expect_code(0);
    assert_eq!(crate::folder::mode(&agent.config_path()), 0o600);
}

#[test]
fn init_writes_to_the_path_given_by_config() {
    let agent = empty_folder();
    fs::create_dir(agent.path("etc")).unwrap();
    agent.run(&["--config", "etc/before.toml", "init"]).expect_code(0).expect_stdout("etc/before.toml");
    agent.run(&["init", "--config", "etc/after.toml"]).expect_code(0);
    assert_eq!(names_in(agent.dir()), ["etc"]);
    assert_eq!(names_in(&agent.path("etc")), ["after.toml", "before.toml"]);
    assert_eq!(fs::read_to_string(agent.path("etc/before.toml")).unwrap(), TEMPLATE);
}

#[test]
fn init_leaves_an_existing_file_unchanged() {
    let agent = empty_folder();
    agent.write("config.toml", "# mine\n");
    let done = agent.run(&["init"]);
    done.expect_code(1).expect_stderr("exists already and was not changed").expect_stderr("--force");
    assert_eq!(done.stdout, "");
    assert_eq!(agent.config_text(), "# mine\n");
    assert_eq!(names_in(agent.dir()), ["config.toml"]);
}

#[cfg(unix)]
#[test]
fn init_does_not_write_through_a_dangling_link() {
    let agent = empty_folder();
    std::os::unix::fs::symlink("elsewhere.toml", agent.config_path()).unwrap();
    agent.run(&["init"]).expect_code(1);
    assert_eq!(names_in(agent.dir()), ["config.toml"]);
}

#[cfg(unix)]
#[test]
fn force_replaces_the_file_and_makes_it_private() {
    let agent = empty_folder();
    let file = agent.write("config.toml", "# mine\n");
    crate::folder::set_mode(&file, 0o644);
    agent.run(&["init", "--force"]).expect_code(0);
    assert_eq!(agent.config_text(), TEMPLATE);
    assert_eq!(crate::folder::mode(&file), 0o600);
    assert_eq!(names_in(agent.dir()), ["config.toml", "config.toml.bak"]);
    let copy = agent.path("config.toml.bak");
    assert_eq!((fs::read_to_string(&copy).unwrap(), crate::folder::mode(&copy)), ("# mine\n".to_owned(), 0o600));
}

/// The key was lost without a question, and the Server shows it only once.
#[test]
fn force_keeps_the_registration_and_every_old_file() {
    let agent = empty_folder();
    let kept = ["service_id = \"svc-1\"", "api_key = \"ak_1234567\"", "name = \"lab\"", "base_url = \"http://lab:1\""];
    let old = format!(
        "[server]\n{}\n[agent]\n{}\n[executor]\ncapacity = 9\n[paths]\ndata_dir = \"/srv/lab\"\n",
        kept[3],
        kept[..3].join("\n")
    );
    agent.write("config.toml", &old);
    for _ in 0..3 {
        let done = agent.run(&["init", "--force"]);
        done.expect_code(0).expect_stdout("registration was kept").expect_stdout(".bak");
        let text = agent.config_text();
        for line in kept.iter().chain(&["data_dir = \"/srv/lab\"", "capacity = 2 "]) {
            assert!(text.lines().any(|written| written.starts_with(line)), "{line}\n{text}");
        }
    }
    assert_eq!(names_in(agent.dir()), ["config.toml", "config.toml.bak", "config.toml.bak.2"]);
    assert_eq!(fs::read_to_string(agent.path("config.toml.bak")).unwrap(), old);
}

/// A file with a slip was taken for one without a registration.
#[test]
fn force_refuses_a_file_whose_registration_can_not_be_kept() {
    let agent = empty_folder();
    let pair = "service_id = \"svc-1\"\napi_key = \"ak_1234567\"\n";
    for (old, why) in
        [(format!("[agent]\n{pair}[executor\n"), "it isn't TOML"), (format!("[agent]\n{pair}"), "no `server.base_url`")]
    {
        agent.write("config.toml", &old);
        agent.run(&["init", "--force"]).expect_code(1).expect_stderr(why);
        assert_eq!(agent.config_text(), old);
        assert_eq!(names_in(agent.dir()), ["config.toml"]);
    }
}

#[test]
fn the_file_of_the_variable_is_used_where_none_is_here() {
    let agent = empty_folder();
    fs::create_dir(agent.path("etc")).unwrap();
    let run = |words: &[&str]| agent.invoke(words).env("AGENT_CORE_CONFIG", "etc/lab.toml").run();
    run(&["status"]).expect_code(2).expect_stderr("/etc/lab.toml init`");
    run(&["init"]).expect_code(0).expect_stdout("/etc/lab.toml register --token");
    run(&["status"]).expect_code(3).expect_stdout("/etc/lab.toml\n");
    agent.run(&["-c", "etc/lab.toml", "status"]).expect_code(3);
    agent.run(&["init"]).expect_code(0);
    run(&["status"]).expect_code(3).expect_stdout(&format!("Config file: {}\n", agent.config_path().display()));
}

#[test]
fn a_missing_folder_is_reported() {
    let agent = empty_folder();
    let done = agent.run(&["init", "--config", "nowhere/config.toml"]);
    done.expect_code(1).expect_stderr(&format!(
        "`{}` can't be made, since its folder isn't there",
        agent.path("nowhere/config.toml").display()
    ));
    assert!(names_in(agent.dir()).is_empty());
}

#[test]
fn the_template_loads_unchanged() {
    let agent = empty_folder();
    agent.run(&["init"]).expect_code(0);
    let status = agent.run(&["status"]);
    status.expect_code(3).expect_stdout("Registration status: Not registered");
    assert_eq!(status.stderr, "");
}

#[test]
fn force_makes_a_file_of_the_working_directory() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    for _ in 0..2 {
        agent.run(&["--config", "new.toml", "init", "--force"]).expect_code(0).expect_stdout("Created");
        assert!(agent.path("new.toml").is_file());
        fs::remove_file(agent.path("new.toml")).unwrap();
    }
}
