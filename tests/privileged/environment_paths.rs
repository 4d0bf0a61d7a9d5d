//! Places of other users that the environment, or `executor.docker_args`, leads to: what docker, `man` and the TLS library
//! read or execute there.

use crate::support::agent::{Agent, Finished};
use crate::support::ordinary_user::USER;
use crate::support::secs;
use crate::support::server::FakeServer;
use crate::support::terminal::Terminal;
use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::Path;
use std::process::Command;

/// The user who runs the agent in a user namespace.
const MAPPED: u32 = 52_777;

/// An agent of root, with a docker client that writes down its PATH and calls itself version 28.
fn agent(server: &FakeServer, config: &str) -> Agent {
    crate::require_root();
    let config = format!("[executor]\ndocker = './docker'\n{config}");
    let agent = Agent::builder(server).without_engine().config(&config).folder_in(&env::temp_dir()).build();
    for folder in agent.dir().ancestors().take(2) {
        set_mode(folder, 0o755);
    }
    set_mode(&agent.config_path(), 0o600);
    let marker = agent.path("docker-ran");
    agent.write_script("docker", &format!("#!/bin/sh\necho \"$PATH\" >> {}\necho 28\n", marker.display()));
    agent
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("change the mode");
}

fn give_away(path: &Path) {
    lchown(path, Some(USER), Some(USER)).expect("give the file to another user");
}

/// A folder of the agent's, with this mode.
fn folder(agent: &Agent, name: &str, mode: u32) -> String {
    let path = agent.path(name);
    fs::create_dir_all(&path).expect("make a folder");
    set_mode(&path, mode);
    path.to_string_lossy().into_owned()
}

fn said(finished: &Finished) -> String {
    format!("{}{}", finished.stderr, finished.stdout)
}

#[test]
fn docker_finds_no_helper_in_another_users_path_folder() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let [own, theirs, open, sticky] = [("own", 0o755), ("theirs", 0o755), ("open", 0o777), ("sticky", 0o1777)]
        .map(|(name, mode)| folder(&agent, name, mode));
    give_away(&agent.path("theirs"));
    let missing = format!("{sticky}/missing");
    let path = ["/usr/bin", &theirs, &own, &open, &sticky, &missing, "/bin"].join(":");
    let expected = format!("/usr/bin:{own}:/bin");
    let named = [&theirs, &open, &sticky, &missing].map(|folder| format!("`{folder}`")).join(", ");

    let checked = agent.invoke(&["check"]).env("PATH", &path).run();
    let words = format!("so docker isn't given them and finds none of its helpers there: {named}");
    checked.expect_stdout("! docker ").expect_stdout(&words);
    let mut running = agent.invoke(&["run"]).env("PATH", &path).start();
    running.wait_log(&format!("docker doesn't look for its helpers there: {named}"), secs(20));
    running.wait_log("tasks are accepted", secs(20));
    drop(running);
    let seen = fs::read_to_string(agent.path("docker-ran")).expect("read what docker saw");
    assert!(seen.lines().count() > 1 && seen.lines().all(|line| line == expected), "{seen}");
    // A PATH of usual folders is left as it is, and not spoken of.
    fs::remove_file(agent.path("docker-ran")).expect("remove the file");
    agent.invoke(&["check"]).env("PATH", "/usr/bin:/bin").run().expect_stdout("✓ docker ");
    let seen = fs::read_to_string(agent.path("docker-ran")).expect("read what docker saw");
    assert!(seen.lines().all(|line| line == "/usr/bin:/bin"), "{seen}");
}

#[test]
fn man_runs_no_program_of_another_users_path_folder() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let theirs = folder(&agent, "theirs", 0o755);
    let marker = agent.path("man-ran");
    for program in ["man", "less"] {
        agent.write_script(&format!("theirs/{program}"), &format!("#!/bin/sh\nid -u > {}\n", marker.display()));
    }
    give_away(&agent.path("theirs"));
    let (_person, terminal) = Terminal::open();
    let mut man = agent.invoke(&["man", "config"]).env("PATH", format!("{theirs}:/bin")).terminal(terminal).start();
    man.wait_exit(secs(20));
    assert!(!marker.exists(), "a program of another user was run");
}

#[test]
fn a_docker_configuration_of_another_user_is_not_used() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let home = folder(&agent, "sticky-home", 0o1777);
    let refused = |what: &str, variable: &str, value: &str| {
        for command in [&["run"][..], &["try", "--prompt", "p"], &["stop", "--abort"], &["logs", "t"]] {
            let refused = agent.invoke(command).env(variable, value).run();
            refused.expect_code(1).expect_stderr("the docker client's configuration").expect_stderr(what);
        }
        let refused = agent.invoke(&["check"]).env(variable, value).run();
        refused.expect_code(1).expect_stdout("✗ docker ").expect_stdout(what);
        assert!(!agent.path("docker-ran").exists(), "docker was run: {what}");
        assert!(server.requests_to("heartbeat").is_empty(), "{}", server.report());
    };
    refused("`/", "HOME", &home);
    fs::create_dir(agent.path("sticky-home/.docker")).expect("make a folder");
    give_away(&agent.path("sticky-home/.docker"));
    refused(&format!("belongs to user {USER}"), "HOME", &home);

    let own = folder(&agent, "own/contexts/meta/x", 0o755);
    let own = own.strip_suffix("/contexts/meta/x").expect("the folder above");
    agent.write("own/contexts/meta/x/meta.json", "{}");
    give_away(&agent.path("own/contexts/meta/x/meta.json"));
    refused("meta.json", "DOCKER_CONFIG", own);
    fs::remove_file(agent.path("own/contexts/meta/x/meta.json")).expect("remove the file");
    symlink(agent.path("sticky-home/.docker/config.json"), agent.path("own/config.json")).expect("make a link");
    refused(&format!("belongs to user {USER}"), "DOCKER_CONFIG", own);

    // Usual homes.
    fs::remove_file(agent.path("own/config.json")).expect("remove the link");
    agent.write("own/config.json", "{}");
    for (variable, value) in
        [("DOCKER_CONFIG", own), ("HOME", "/nonexistent"), ("HOME", "/root"), ("HOME", "/dev/null")]
    {
        let checked = agent.invoke(&["check"]).env(variable, value).run();
        assert!(said(&checked).contains("✓ docker "), "{variable}={value}: {}", said(&checked));
    }
}

#[test]
fn files_of_docker_args_that_others_can_change_are_refused() {
    let server = FakeServer::start();
    for option in ["--env-file=", "--security-opt=seccomp="] {
        let agent = agent(&server, "");
        let open = folder(&agent, "open", 0o1777);
        let secret = agent.write("secret", "KEY=1\n");
        symlink(&secret, agent.path("open/theirs")).expect("make a link");
        give_away(&agent.path("open/theirs"));
        for (file, words) in [
            ("theirs", format!("`{open}/theirs` is a link of user {USER}")),
            ("missing", format!("`{open}/missing` doesn't exist, and another user could make it")),
        ] {
            agent.change_config(&format!("[executor]\ndocker_args = ['{option}{open}/{file}']"));
            agent.run(&["run"]).expect_code(1).expect_stderr("`executor.docker_args` names").expect_stderr(&words);
            agent.run(&["check"]).expect_code(1).expect_stdout("✗ mounts ").expect_stdout(&words);
        }
        agent.change_config(&format!("[executor]\ndocker_args = ['{option}{}']", secret.display()));
        agent.run(&["check"]).expect_stdout("✓ mounts ");
    }
}

#[test]
fn authorities_that_others_can_change_are_refused() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let open = folder(&agent, "open", 0o1777);
    let file = agent.write("open/ca.pem", "");
    give_away(&file);
    let own = folder(&agent, "certificates", 0o755);
    symlink(&file, agent.path("certificates/ca.pem")).expect("make a link");
    for (variable, value, words) in [
        ("SSL_CERT_FILE", format!("{open}/ca.pem"), format!("belongs to user {USER}")),
        ("SSL_CERT_FILE", format!("{open}/missing.pem"), "another user could make it".to_owned()),
        ("SSL_CERT_DIR", format!("/etc/ssl/certs:{own}"), format!("belongs to user {USER}")),
        ("SSL_CERT_DIR", open, "another user could make it".to_owned()),
    ] {
        for command in [&["run"][..], &["register", "--token", "rt_x"], &["status"]] {
            let refused = agent.invoke(command).env(variable, &value).run();
            refused.expect_code(2).expect_stderr(&format!("what {variable} names isn't safe")).expect_stderr(&words);
        }
        assert!(server.requests().is_empty(), "{}", server.report());
    }
    agent.invoke(&["status"]).env("SSL_CERT_DIR", "/etc/ssl/certs").run().expect_code(3);
}

#[test]
fn in_a_user_namespace_unknown_users_are_not_trusted() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let program = agent.path("agent-core");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_agent-core")).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy the program");
    set_mode(&agent.config_path(), 0o644);
    set_mode(&agent.path("docker"), 0o755);
    for path in [agent.dir().to_owned(), agent.config_path(), agent.path("docker")] {
        give_away(&path);
    }
    let (user, program) = (MAPPED.to_string(), program.to_string_lossy().into_owned());
    let other = r#"own=$1; shift 2; exec "$own" "$@""#;
    let become_user = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "unshare", "-U", "-r"];
    let words = [&become_user[..], &["sh", "-c", other, "sh", &program]].concat();
    for command in [&["check"][..], &["run"], &["status"]] {
        let refused = agent.invoke(command).through(&words).run();
        assert!(
            !refused.status.success() && said(&refused).contains("user namespace"),
            "{command:?}: {}",
            said(&refused)
        );
    }
    assert!(!agent.path("docker-ran").exists(), "a program of another user was run");
}

#[test]
fn a_uid_in_the_range_of_an_account_is_a_warning() {
    crate::require_root();
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let ranges = agent.write("ranges", "daemon:100000:65536\n").to_string_lossy().into_owned();
    let script = r#"mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && shift && exec "$@""#;
    for (user, words) in [
        ("100000:52001", "100000:52001, `executor.user`, is in the range of uid that the account `daemon` may take"),
        ("52001:165535", "52001:165535, `executor.user`, is in the range of gid that the account `daemon` may take"),
        ("52001:52001", "✓ container_user"),
    ] {
        agent.change_config(&format!("[executor]\nuser = '{user}'"));
        for file in ["/etc/subuid", "/etc/subgid"] {
            assert!(Path::new(file).exists(), "{file} is missing");
        }
        let check = agent.invoke(&["check"]).through(&["unshare", "-m", "sh", "-c", script, "sh", &ranges]);
        check.run().expect_stdout(words);
    }
}
