//! The first run: which questions `run` asks, and when it asks none.

use crate::folder::names_in;
use crate::support::agent::{Agent, Finished};
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Options};

const TEMPLATE: &str = include_str!("../../src/config/template.toml");

/// The questions in their order.
const QUESTIONS: [&str; 6] =
    ["Server address", "Data directory", "Executor image", "Tasks at once", "Registration token", "Agent name"];

fn empty_folder(server: &FakeServer) -> Agent {
    server.add_token("rt_good");
    Agent::builder(server).without_engine().without_config().build()
}

fn wait_for_a_heartbeat(server: &Control) {
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
}

#[test]
fn run_without_a_terminal_names_the_register_command() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().unregistered().build();
    let before = agent.config_text();
    let remedy = format!("run `agent-core --config {} register --token rt_…`", agent.config_path().display());
    for done in [agent.run(&["run"]), agent.invoke(&["run"]).stdin("rt_x\nname\n").run()] {
        done.expect_code(1).expect_stderr("not registered").expect_stderr(&remedy);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
    assert_eq!(agent.config_text(), before);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn run_without_a_terminal_reports_the_missing_file() {
    let agent = empty_folder(&FakeServer::start());
    let done = agent.invoke(&["run"]).stdin("http://127.0.0.1:1\n\n\n\n").run();
    done.expect_code(2).expect_stderr("there is no configuration file");
    assert_eq!(names_in(agent.dir()), [""; 0]);
}

#[test]
fn interactive_asks_for_everything_registers_and_starts() {
    let server = FakeServer::start();
    let agent = empty_folder(&server);
    let answers = format!("{}\n./elsewhere\nlab/x:3\n5\nrt_good\nlab-7\n", server.url());
    let mut running = agent.invoke(&["run", "--interactive"]).stdin(&answers).start();
    wait_for_a_heartbeat(&server);
    running.wait_log("capacity 5, image lab/x:3", secs(20));
    let asked = running.log();
    let places = QUESTIONS.map(|question| asked.find(question).unwrap_or_else(|| panic!("{question:?} in\n{asked}")));
    assert!(places.is_sorted(), "{asked}");
    let service = server.services().pop().expect("a service");
    let expected = TEMPLATE
        .replace("http://127.0.0.1:8080", &server.url())
        .replace("./data\"", "./elsewhere\"")
        .replace("open-aaas-executor:latest", "lab/x:3")
        .replace("capacity = 2 ", "capacity = 5 ")
        .replace("name = \"agent-core\"", "name = \"lab-7\"");
    let written = agent.config_text();
    let credentials = format!("service_id = \"{}\"\napi_key = \"{}\"\n", service.id, service.api_key);
    assert!(written.contains(&credentials), "{written}");
    assert_eq!(written.replace(&credentials, ""), expected);
    assert!(agent.path("elsewhere/agent.pid").exists());
    assert!(!running.log().contains(&service.api_key) && !running.stdout().contains(&service.api_key));
    #[cfg(unix)]
    assert_eq!(crate::folder::mode(&agent.config_path()), 0o600);
}

#[test]
fn an_address_without_a_scheme_is_asked_again() {
    let server = FakeServer::start_with(Options { https: true, ..Options::default() });
    let agent = empty_folder(&server);
    let bare = server.url().replace("https://", "");
    let answers = format!("{bare}\n{}\n\n\n\nrt_good\n\n", server.url());
    let ca = server.ca_pem().to_string_lossy().into_owned();
    let running = agent.invoke(&["run", "--interactive"]).env("SSL_CERT_FILE", ca).stdin(&answers).start();
    wait_for_a_heartbeat(&server);
    assert!(running.log().contains(&format!("http://{bare} or https://{bare}?")), "{}", running.log());
    assert!(agent.config_text().contains(&format!("base_url = \"{}\"", server.url())), "{}", agent.config_text());
}

#[test]
fn invalid_answers_are_asked_again() {
    let server = FakeServer::start();
    let agent = empty_folder(&server);
    agent.write("file", "");
    let answers = format!("ftp://x\nhttp://\n{}\nfile\n\nBad Image\n\nmany\n0\n3\n\nrt_good\n\n", server.url());
    let running = agent.invoke(&["run", "--interactive"]).stdin(&answers).start();
    wait_for_a_heartbeat(&server);
    let asked = running.log();
    let count = |text: &str| asked.matches(text).count();
    assert_eq!(
        (count("Server address ["), count("Tasks at once ["), count("Registration token")),
        (3, 3, 2),
        "{asked}"
    );
    assert_eq!((count("Data directory ["), count("Executor image [")), (2, 2), "{asked}");
    for why in [
        "It must begin with http:// or https://.",
        "It must name a host",
        "must be a folder",
        "must be the name of an image",
        "It must be a number.",
        "must be a whole number from 1 to 1000, not 0",
    ] {
        assert!(asked.contains(why), "{why}\n{asked}");
    }
    assert_eq!(server.heartbeats()[0].body["capacity"], 3);
}

#[test]
fn only_the_registration_is_asked_when_a_file_exists() {
    let server = FakeServer::start();
    server.add_token("rt_good");
    let agent = Agent::builder(&server).without_engine().unregistered().build();
    let running = agent.invoke(&["run", "--interactive"]).stdin("rt_good\n\n").start();
    wait_for_a_heartbeat(&server);
    let asked = running.log();
    assert!(!asked.contains("Server address") && asked.contains("Agent name [test-agent]: "), "{asked}");
    agent.run(&["status"]).expect_code(0).expect_stdout("Agent name: test-agent\n");
}

/// Runs with input that ends after these answers. The program must end, and must ask no question twice.
fn run_dry(agent: &Agent, answers: &str) -> Finished {
    let done = agent.invoke(&["run", "--interactive"]).stdin(answers).run();
    done.expect_code(1).expect_stderr("the input ended before this was answered");
    for question in QUESTIONS {
        assert!(done.stderr.matches(question).count() <= 1, "{}", done.stderr);
    }
    done
}

#[test]
fn no_file_is_made_when_the_input_ends_early() {
    let server = FakeServer::start();
    for answers in ["", "http://127.0.0.1:1\n", "\n\n", "\n\n\n"] {
        let agent = empty_folder(&server);
        run_dry(&agent, answers).expect_stderr("no configuration was made");
        assert_eq!(names_in(agent.dir()), [""; 0], "{answers:?}");
    }
}

#[test]
fn no_token_is_used_when_the_input_ends_early() {
    let server = FakeServer::start();
    let agent = empty_folder(&server);
    run_dry(&agent, "\n\n\n\n").expect_stderr("not registered");
    assert_eq!(agent.config_text(), TEMPLATE);
    assert_eq!(server.requests().len(), 0);
}

/// The input's end was taken for no answer at all.
#[test]
fn a_token_alone_registers() {
    let server = FakeServer::start();
    server.add_token("rt_good");
    let agent = Agent::builder(&server).without_engine().unregistered().build();
    let _running = agent.invoke(&["run", "--interactive"]).stdin("rt_good\n").start();
    wait_for_a_heartbeat(&server);
    agent.run(&["status"]).expect_code(0).expect_stdout("Agent name: test-agent\n");
}

#[test]
fn a_failed_registration_ends_the_run_and_keeps_the_file() {
    let server = FakeServer::start();
    let agent = empty_folder(&server);
    let answers = format!("{}\n\n\n\nrt_wrong\n\n", server.url());
    let done = agent.invoke(&["run", "--interactive"]).stdin(&answers).run();
    done.expect_code(1).expect_stderr("answered 404");
    assert_eq!(agent.config_text(), TEMPLATE.replace("http://127.0.0.1:8080", &server.url()));
    assert_eq!(server.requests().len(), 1);
}

#[cfg(unix)]
mod on_a_terminal {
    use super::{TEMPLATE, empty_folder, wait_for_a_heartbeat};
    use crate::support::agent::Agent;
    use crate::support::secs;
    use crate::support::server::FakeServer;
    use crate::support::terminal::Terminal;

    const ENTER: &str = "\n";
    /// Ctrl+D: the end of the input.
    const END: &str = "\u{4}";

    #[test]
    fn questions_show_defaults_that_enter_accepts() {
        let server = FakeServer::start();
        let agent = empty_folder(&server);
        let (mut person, terminal) = Terminal::open();
        let mut running = agent.invoke(&["run"]).terminal(terminal).start();
        person.answer("Server address [http://127.0.0.1:8080]: ", "http://127.0.0.1:1\n");
        person.answer("Server address [http://127.0.0.1:1]: ", ENTER);
        assert!(person.text().contains("http://127.0.0.1:1 can't be reached: "), "{}", person.text());
        person.answer("Data directory [./data]: ", ENTER);
        person.answer("Executor image [open-aaas-executor:latest]: ", ENTER);
        person.answer("Tasks at once [2]: ", ENTER);
        person.answer("Registration token (rt_…): ", END);
        assert_eq!(running.wait_exit(secs(20)).code(), Some(1));
        assert_eq!(agent.config_text(), TEMPLATE.replace("http://127.0.0.1:8080", "http://127.0.0.1:1"));
    }

    #[test]
    fn an_unknown_token_is_asked_again() {
        let server = FakeServer::start();
        server.add_token("rt_good");
        let agent = Agent::builder(&server).without_engine().unregistered().build();
        let (mut person, terminal) = Terminal::open();
        let _running = agent.invoke(&["run"]).terminal(terminal).start();
        for token in ["rt_wrong\n", "rt_good\n"] {
            person.answer("Registration token (rt_…): ", token);
            person.answer("Agent name [test-agent]: ", ENTER);
        }
        wait_for_a_heartbeat(&server);
    }

    #[test]
    fn an_unregistered_agent_asks_on_a_terminal() {
        let server = FakeServer::start();
        server.add_token("rt_good");
        let agent = Agent::builder(&server).without_engine().unregistered().build();
        let (mut person, terminal) = Terminal::open();
        let _running = agent.invoke(&["run"]).terminal(terminal).start();
        person.answer("Registration token (rt_…): ", "rt_good\n");
        person.answer("Agent name [test-agent]: ", ENTER);
        wait_for_a_heartbeat(&server);
        agent.run(&["status"]).expect_code(0).expect_stdout("Agent name: test-agent\n");
    }

    #[test]
    fn a_registered_agent_starts_without_a_question() {
        let server = FakeServer::start();
        for arguments in [&["run"][..], &["run", "--interactive"]] {
            let agent = Agent::builder(&server).without_engine().build();
            let before = server.requests_to("poll").len();
            let (person, terminal) = Terminal::open();
            let mut running = agent.invoke(arguments).terminal(terminal).start();
            server.wait_until("a poll", secs(20), |server| server.requests_to("poll").len() > before);
            assert_eq!(running.terminate(secs(20)).code(), Some(0));
            let shown = person.whole_text();
            assert!(shown.contains("for service") && !shown.contains("]: "), "{shown}");
        }
    }
}
