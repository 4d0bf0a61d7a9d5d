//! `register` makes one call and writes the credentials to the file. Failures are in [`crate::register_fails`].

use crate::folder::names_in;
use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Options};
use serde_json::json;

/// A configuration file edited by hand: comments, blank lines, another order, single quotes.
fn kept_by_hand(base_url: &str, agent: &str) -> String {
    format!(
        "# The lab's agent, see wiki/42\n\n[executor]   # first, since it changes most\nimage   =  'lab/x:1'\n\
         capacity = 3\n\n{agent}\n[server]\nbase_url = \"{base_url}\"  # 内网\n\n# the end\n"
    )
}

fn agent_with(server: &FakeServer, text: &str) -> Agent {
    server.add_token("rt_good");
    Agent::builder(server).without_engine().config_verbatim(text).build()
}

/// The service that the registration made.
fn registered(server: &FakeServer) -> (String, String) {
    let service = server.services().pop().expect("a service");
    assert_ne!(service.id, server.service().0, "no service was registered");
    (service.id, service.api_key)
}

#[test]
fn register_writes_the_credentials_and_nothing_else() {
    let server = FakeServer::start();
    let before = kept_by_hand(&server.url(), "[agent] # who we are\nname = 'old'   # as on the door\n# more\n");
    let agent = agent_with(&server, &before);
    let done = agent.run(&["register", "--token", "rt_good", "--name", "lab-7"]);
    done.expect_code(0);
    let (service_id, api_key) = registered(&server);
    let written =
        format!("name = \"lab-7\"   # as on the door\nservice_id = \"{service_id}\"\napi_key = \"{api_key}\"\n");
    assert_eq!(agent.config_text(), before.replace("name = 'old'   # as on the door\n", &written));
    agent.run(&["status"]).expect_stdout(&format!("Service ID: {service_id}\nAgent name: lab-7\n"));
}

#[test]
fn register_replaces_older_credentials_in_place() {
    let server = FakeServer::start();
    let old = "[agent]\nservice_id='svc-old'# was 6\napi_key   =   'ak_old'\nname = \"x\"\n";
    let agent = agent_with(&server, &kept_by_hand(&server.url(), old));
    agent.run(&["register", "--replace", "--token", "rt_good"]).expect_code(0);
    let (service_id, api_key) = registered(&server);
    let new = format!("[agent]\nservice_id=\"{service_id}\"# was 6\napi_key   =   \"{api_key}\"\nname = \"x\"\n");
    assert_eq!(agent.config_text(), kept_by_hand(&server.url(), &new));
}

/// A mistake beside it made the old registration invisible, and its key was lost.
#[test]
fn a_registration_beside_a_mistake_is_not_replaced_unasked() {
    let server = FakeServer::start();
    let text = |agent: &str| kept_by_hand(&server.url(), &format!("[agent]\n{agent}\n"));
    for old in ["service_id = 'svc-old'\napi_key = 'ak_old-key'\nname = 5", "api_key = 'ak_old-key'"] {
        let agent = agent_with(&server, &text(old));
        agent.run(&["register", "--token", "rt_good"]).expect_code(1).expect_stderr("registered already, as service ");
        assert_eq!(agent.config_text(), text(old));
        assert_eq!(names_in(agent.dir()), ["config.toml"]);
    }
}

#[test]
fn a_missing_agent_section_is_added_at_the_end() {
    let server = FakeServer::start();
    let before = kept_by_hand(&server.url(), "");
    let agent = agent_with(&server, &before);
    agent.run(&["register", "--token", "rt_good"]).expect_code(0);
    let (service_id, api_key) = registered(&server);
    let section = format!("[agent]\nservice_id = \"{service_id}\"\napi_key = \"{api_key}\"\nname = \"agent-core\"\n");
    let after = agent.config_text();
    assert_eq!(after.replace(&format!("\n{section}"), ""), before, "{after}");
    agent.run(&["status"]).expect_stdout("Registration status: Registered\n");
}

#[test]
fn windows_line_ends_and_byte_order_mark_are_kept() {
    let server = FakeServer::start();
    let before = format!("\u{feff}{}", kept_by_hand(&server.url(), "[agent]\nname = 'x'\n").replace('\n', "\r\n"));
    let agent = agent_with(&server, &before);
    agent.run(&["register", "--token", "rt_good", "--name", "y"]).expect_code(0);
    let after = agent.config_text();
    let lost: Vec<&str> = before.split_inclusive('\n').filter(|line| !after.contains(line)).collect();
    assert_eq!(lost, ["name = 'x'\r\n"], "{after:?}");
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count(), "{after:?}");
}

#[test]
fn the_token_is_sent_once_with_the_capacity_only() {
    let server = FakeServer::start();
    let agent = agent_with(&server, &kept_by_hand(&server.url(), ""));
    agent.run(&["register", "--token", "rt_good", "--name", "lab-7"]).expect_code(0);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api/v1/agent/register"));
    assert_eq!(request.body, json!({"registration_token": "rt_good", "capacity": 3}));
    assert_eq!(request.headers.get("authorization").or(request.headers.get("x-api-key")), None);
}

#[test]
fn statuses_200_and_201_both_mean_success() {
    let server = FakeServer::start_with(Options { register_status: 200, ..Options::default() });
    let agent = agent_with(&server, &kept_by_hand(&server.url(), ""));
    agent.run(&["register", "--token", "rt_good"]).expect_code(0);
    let (service_id, _) = registered(&server);
    agent.run(&["status"]).expect_stdout(&service_id);
}

#[test]
fn register_prints_the_files_path_and_not_the_key() {
    let server = FakeServer::start();
    let agent = agent_with(&server, &kept_by_hand(&server.url(), ""));
    let done = agent.invoke(&["register", "--token", "rt_good"]).env("RUST_LOG", "trace,ureq=trace").run();
    let (service_id, api_key) = registered(&server);
    done.expect_code(0).expect_stdout(&service_id).expect_stdout(&agent.config_path().display().to_string());
    assert!(!done.stdout.contains(&api_key) && !done.stderr.contains(&api_key), "{done:?}");
    assert_eq!(done.stderr, "");
}

#[cfg(unix)]
#[test]
fn the_file_becomes_private_and_no_temporary_file_stays() {
    use crate::folder::{mode, set_mode};
    let server = FakeServer::start();
    let agent = agent_with(&server, &kept_by_hand(&server.url(), ""));
    set_mode(&agent.config_path(), 0o664);
    agent.run(&["register", "--token", "rt_good"]).expect_code(0);
    assert_eq!(mode(&agent.config_path()), 0o600);
    assert_eq!(names_in(agent.dir()), ["config.toml"]);
}

/// The new text is in a new file that replaces the old one, so an open handle still reads the old text.
#[cfg(unix)]
#[test]
fn the_file_is_replaced_in_one_step() {
    use std::io::Read as _;
    let server = FakeServer::start();
    let before = kept_by_hand(&server.url(), "");
    let agent = agent_with(&server, &before);
    let mut reader = std::fs::File::open(agent.config_path()).unwrap();
    agent.run(&["register", "--token", "rt_good"]).expect_code(0);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, before);
    assert_ne!(agent.config_text(), before);
}

#[cfg(unix)]
#[test]
fn a_link_is_kept_and_its_target_gets_the_key() {
    use crate::folder::mode;
    use std::fs;
    let server = FakeServer::start();
    server.add_token("rt_good");
    let agent = Agent::builder(&server).without_engine().without_config().build();
    let real = agent.write("etc/lab.toml", kept_by_hand(&server.url(), ""));
    std::os::unix::fs::symlink("etc/lab.toml", agent.config_path()).unwrap();
    agent.run(&["register", "--token", "rt_good"]).expect_code(0);
    let (service_id, api_key) = registered(&server);
    assert_eq!(fs::read_link(agent.config_path()).unwrap().to_str(), Some("etc/lab.toml"));
    let text = fs::read_to_string(&real).unwrap();
    assert!(text.contains(&service_id) && text.contains(&api_key), "{text}");
    assert_eq!(mode(&real), 0o600);
    assert_eq!(
        (names_in(agent.dir()), names_in(&agent.path("etc"))),
        (vec!["config.toml".to_owned(), "etc".to_owned()], vec!["lab.toml".to_owned()])
    );
}

#[test]
fn a_dash_reads_the_token_from_standard_input() {
    let server = FakeServer::start();
    let agent = agent_with(&server, &kept_by_hand(&server.url(), ""));
    agent.invoke(&["register", "--token", "-"]).stdin("rt_good\n").run().expect_code(0);
    assert_eq!(server.requests()[0].body["registration_token"], "rt_good");
    let (service_id, _) = registered(&server);
    agent.run(&["status"]).expect_stdout(&service_id);
}

#[test]
fn register_mentions_a_running_agent_with_the_old_key() {
    let server = FakeServer::start();
    server.add_token("rt_good");
    let agent = Agent::builder(&server).without_engine().build();
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    agent
        .run(&["register", "--replace", "--token", "rt_good"])
        .expect_code(0)
        .expect_stdout("Stop it and start it again");
    assert!(running.is_running());
}

#[test]
fn incomplete_and_invalid_credentials_are_replaced() {
    // A key beside an invalid id may be a good one: it is replaced on request only.
    let cases: [(&str, &[&str]); 2] =
        [("[agent]\nservice_id = 'svc-old'\n", &[]), ("[agent]\nservice_id = 'a/b'\napi_key = 'ak'\n", &["--replace"])];
    for (old, words) in cases {
        let server = FakeServer::start();
        let agent = agent_with(&server, &kept_by_hand(&server.url(), old));
        agent.run(&["status"]).expect_code(2).expect_stderr("register again");
        agent.run(&[&["register", "--token", "rt_good"], words].concat()).expect_code(0);
        let (service_id, _) = registered(&server);
        agent.run(&["status"]).expect_code(3).expect_stdout(&format!("Service ID: {service_id}\n"));
    }
}

/// It replaced the key without a word, and the Server shows a key only once.
#[test]
fn a_registration_is_replaced_only_on_request() {
    let server = FakeServer::start();
    let old = "[agent]\nservice_id = 'svc-old'\napi_key = 'ak_old_key'\n";
    let before = kept_by_hand(&server.url(), old);
    let agent = agent_with(&server, &before);
    let done = agent.run(&["register", "--token", "rt_good"]);
    let replace = format!("agent-core --config {} register --replace --token rt_…`", agent.config_path().display());
    done.expect_code(1).expect_stderr("registered already, as service svc-old with ").expect_stderr(&replace);
    assert_eq!((agent.config_text(), server.requests().len()), (before.clone(), 0));

    let done = agent.run(&["register", "--replace", "--token", "rt_good"]);
    done.expect_code(0).expect_stdout("config.toml.bak").expect_stdout(" check`, then `agent-core --config ");
    assert_eq!(std::fs::read_to_string(agent.path("config.toml.bak")).unwrap(), before);
    assert_eq!(crate::folder::mode(&agent.path("config.toml.bak")), 0o600);
    registered(&server);
}

#[test]
fn unregister_removes_the_key_and_nothing_else() {
    let server = FakeServer::start();
    let old = "[agent] # ours\nname = 'x' # as on the door\nservice_id = 'svc-old'\napi_key = 'ak_old_key'\n";
    let agent = agent_with(&server, &kept_by_hand(&server.url(), old));
    agent.run(&["unregister"]).expect_code(0).expect_stdout("Unregistered: service svc-old");
    assert_eq!(agent.config_text(), kept_by_hand(&server.url(), "[agent] # ours\nname = 'x' # as on the door\n"));
    agent.run(&["unregister"]).expect_code(0).expect_stdout("not registered");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_running_agent_is_not_unregistered() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let _running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    let before = agent.config_text();
    agent.run(&["unregister", "--force"]).expect_code(1).expect_stderr("running").expect_stderr(" stop`");
    assert_eq!(agent.config_text(), before);
}
