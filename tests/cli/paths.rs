//! Paths in the configuration start at the file's folder, and mounts must not expose the agent's own files.

use crate::folder::{names_in, set_mode};
use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::FakeServer;
use std::fs;
use std::path::Path;

fn mount(host: &Path) -> String {
    mount_as_written(&host.display().to_string())
}

fn mount_as_written(host: &str) -> String {
    format!("[[paths.mounts]]\nhost = '{host}'\ncontainer = '/shared'")
}

/// Runs the agent from another folder with `--config`; its files must lie beside the configuration file.
fn assert_beside_the_file(config: impl Fn(&Agent) -> String) {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(&mount_as_written("./share/in")).build();
    // Seen from this folder, the configuration file is `../agent/config.toml`.
    let cwd = agent.home();
    let config = config(&agent);
    let running = agent.invoke(&["--config", &config, "run"]).cwd(&cwd).start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    let pid = fs::read_to_string(agent.data_dir().join("agent.pid")).expect("a pidfile beside the configuration");
    assert_eq!(pid.trim(), running.pid().to_string());
    assert!(agent.path("share/in").is_dir());
    assert_eq!(names_in(&cwd), [""; 0]);
    let status = agent.invoke(&["--config", &config, "status"]).cwd(&cwd).run();
    status.expect_code(0);
    // The shown path has neither `..` nor `.` in it, unless a link stands before it.
    let shown = status.stdout.lines().find_map(|line| line.strip_prefix("Data directory: ")).expect("a line for it");
    assert!(Path::new(shown).is_absolute(), "{shown}");
    assert_eq!(fs::canonicalize(shown).expect("find it"), agent.data_dir());
}

#[test]
fn paths_start_at_the_files_folder_for_a_relative_config() {
    assert_beside_the_file(|agent| {
        let folder = agent.dir().file_name().expect("the folder has a name").to_string_lossy();
        format!("../{folder}/config.toml")
    });
}

#[test]
fn paths_start_at_the_files_folder_for_an_absolute_config() {
    assert_beside_the_file(|agent| agent.config_path().display().to_string());
}

#[test]
fn a_tilde_means_the_home_folder() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config("[paths]\ndata_dir = '~/agent data'").build();
    let running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    let pid = fs::read_to_string(agent.home().join("agent data/agent.pid")).expect("a pidfile in the home");
    assert_eq!(pid.trim(), running.pid().to_string());
    assert_eq!(names_in(agent.dir()), [".config.toml.data_dir", "config.toml"]);
    let shown = format!("Data directory: {}\n", agent.home().join("agent data").display());
    agent.run(&["status"]).expect_code(0).expect_stdout(&shown);
}

#[test]
fn a_tilde_in_a_mount_means_the_home_folder() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(&mount_as_written("~/share")).build();
    let missing = agent.run(&["run"]);
    missing.expect_code(1).expect_stderr(&format!("`{}`", agent.home().join("share").display()));
    fs::create_dir(agent.home().join("share")).unwrap();
    let _running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
}

/// `run` and `check` must refuse the mounts with these words.
fn assert_mounts_refused(agent: &Agent, words: &str) {
    let refused = agent.run(&["run"]);
    assert!(!refused.status.success() && refused.stderr.contains(words), "{}", refused.stderr);
    let check = agent.run(&["check"]);
    assert!(!check.status.success() && check.stdout.contains(words), "{}", check.stdout);
}

fn two_mounts(first: &str, second: &str) -> String {
    format!(
        "[[paths.mounts]]\nhost = '{first}'\ncontainer = '/a'\n[[paths.mounts]]\nhost = '{second}'\ncontainer = '/b'"
    )
}

#[test]
fn a_mount_inside_one_that_tasks_write_to_is_refused() {
    let server = FakeServer::start();
    // By the letters, in either order.
    for (first, second) in [("./share", "./share/ref"), ("./share/a/../ref", "./share"), ("/srv/x", "/srv/x/y/z")] {
        let agent = Agent::builder(&server).without_engine().config(&two_mounts(first, second)).build();
        assert_mounts_refused(&agent, "which tasks may write to");
        agent.run(&["run"]).expect_code(2).expect_stderr("config.toml:");
        assert!(!agent.path("share").exists());
    }
    let sibling = two_mounts("./share", "./share-2");
    let agent = Agent::builder(&server).without_engine().config(&sibling).build();
    let _running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
}

#[test]
fn a_mount_that_leads_into_one_that_tasks_write_to_is_refused() {
    let server = FakeServer::start();
    // A folder below the link that isn't there yet must not be made, either.
    for second in ["./alias/ref", "./alias/new", "./to-ref"] {
        let agent = Agent::builder(&server).without_engine().config(&two_mounts("./share", second)).build();
        fs::create_dir_all(agent.path("share/ref")).unwrap();
        std::os::unix::fs::symlink("share", agent.path("alias")).unwrap();
        std::os::unix::fs::symlink(agent.path("share/ref"), agent.path("to-ref")).unwrap();
        assert_mounts_refused(&agent, "which tasks may write to");
        assert_eq!(names_in(&agent.path("share")), ["ref"]);
        let readonly = agent.config_text().replacen("container = '/a'", "container = '/a'\nreadonly = true", 1);
        fs::write(agent.config_path(), readonly).unwrap();
        agent.run(&["check"]).expect_stdout("✓ mounts");
    }
    let volume =
        "[executor]\ndocker_args = ['--volume=DIR/share:/a', '--mount=type=bind,source=DIR/share/ref,target=/b']";
    let agent = Agent::builder(&server).without_engine().build();
    fs::create_dir_all(agent.path("share/ref")).unwrap();
    agent.change_config(&volume.replace("DIR", &agent.dir().display().to_string()));
    assert_mounts_refused(&agent, "which tasks may write to");
    agent.change_config(&volume.replace("DIR", &agent.dir().display().to_string()).replace(":/a", ":/a:z,ro"));
    agent.run(&["check"]).expect_stdout("✓ mounts");
}

#[test]
fn a_mount_in_which_tasks_could_replace_a_program_is_refused() {
    let server = FakeServer::start();
    let config = format!("{}\n[executor]\ndocker = './tools/docker'", mount_as_written("./tools"));
    let agent = Agent::builder(&server).without_engine().config(&config).build();
    agent.write_script("tools/docker", "#!/bin/sh\nexec docker \"$@\"\n");
    assert_mounts_refused(&agent, "holds the docker client");
    agent.change_config("[executor]\ndocker = 'docker'");
    let copy = agent.path("tools/agent-core");
    let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_agent-core")).arg(&copy).status();
    assert!(copied.unwrap().success());
    let wrapper = ["sh", "-c", r#"own=$1; shift 2; exec "$own" "$@""#, "sh", &copy.display().to_string()];
    let refused = agent.invoke(&["run"]).through(&wrapper).run();
    refused.expect_code(1).expect_stderr("holds the program of the agent");
    let readonly = agent.config_text().replacen("container = '/shared'", "container = '/shared'\nreadonly = true", 1);
    fs::write(agent.config_path(), readonly).unwrap();
    agent.invoke(&["check"]).through(&wrapper).run().expect_stdout("✓ mounts");
}

#[test]
fn a_mount_in_which_tasks_could_put_what_docker_obeys_is_refused() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(&mount_as_written("./share")).build();
    fs::create_dir(agent.path("share")).unwrap();
    let refused = |name: &str, value: String, words: &str| {
        let check = agent.invoke(&["check"]).env(name, value).run();
        assert!(!check.status.success() && check.stdout.contains(words), "{}", check.stdout);
    };
    let path = std::env::var("PATH").unwrap();
    let client = "holds the configuration of the docker client";
    refused("PATH", format!("{}:{path}", agent.path("share").display()), "holds a place where the docker client");
    refused("HOME", agent.path("share").display().to_string(), client);
    refused("DOCKER_CONFIG", agent.path("share").display().to_string(), client);
    refused("DOCKER_CONFIG", agent.dir().display().to_string(), client);
}

#[test]
fn a_mount_in_which_tasks_could_replace_a_file_of_docker_args_is_refused() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(&mount_as_written("./share")).build();
    let file = agent.write("share/env", "A=1\n");
    for arg in ["--env-file=", "--security-opt=seccomp="] {
        agent.change_config(&format!("[executor]\ndocker_args = ['{arg}{}']", file.display()));
        assert_mounts_refused(&agent, "holds a file that `executor.docker_args` names");
    }
    agent.change_config("[executor]\ndocker_args = ['--security-opt=seccomp=unconfined']");
    agent.run(&["check"]).expect_stdout("✓ mounts");
}

#[test]
fn a_mount_below_a_folder_that_others_can_write_is_refused() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(&mount_as_written("./open/data")).build();
    fs::create_dir_all(agent.path("open/data")).unwrap();
    set_mode(&agent.path("open"), 0o777);
    assert_mounts_refused(&agent, &format!("other users may write to `{}`", agent.path("open").display()));
    // The mounted folder itself may be open, as a shared folder is.
    set_mode(&agent.path("open"), 0o755);
    set_mode(&agent.path("open/data"), 0o777);
    agent.run(&["check"]).expect_stdout("✓ mounts");
}

#[test]
fn a_tilde_without_a_home_is_an_error() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config("[paths]\ndata_dir = '~/x'").build();
    // A relative HOME is not usable: it would mean a different folder for each working directory.
    let done = agent.invoke(&["run"]).env("HOME", "relative").run();
    done.expect_code(2).expect_stderr("`paths.data_dir` begins with `~`");
}

#[cfg(unix)]
#[test]
fn the_data_dir_is_made_private_even_if_it_exists() {
    use crate::folder::{mode, set_mode};
    let server = FakeServer::start();
    for made_before in [false, true] {
        let agent = Agent::builder(&server).without_engine().build();
        if made_before {
            fs::create_dir(agent.data_dir()).unwrap();
            set_mode(&agent.data_dir(), 0o755);
        }
        let before = server.heartbeats().len();
        let _running = agent.start();
        server.wait_until("a heartbeat", secs(20), |server| server.heartbeats().len() > before);
        assert_eq!(mode(&agent.data_dir()), 0o700, "made before: {made_before}");
    }
}

#[test]
fn a_missing_relative_mount_host_is_created() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(&mount_as_written("share/deep")).build();
    let _running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    assert!(agent.path("share/deep").is_dir());
}

#[test]
fn a_missing_absolute_mount_host_is_an_error() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    let nas = agent.home().join("nas");
    agent.change_config(&mount(&nas));
    let done = agent.run(&["run"]);
    done.expect_code(1).expect_stderr(&format!("`{}` (for `/shared`) doesn't exist", nas.display()));
    assert!(!nas.exists());
    assert_eq!(server.requests().len(), 0);
}

/// `run` refuses the mount, names the mount and the exposed files, and makes no call to the Server.
fn assert_refused(make: impl Fn(&Agent) -> String, exposed: &str) {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().build();
    fs::create_dir(agent.data_dir()).expect("make the data_dir");
    let host = make(&agent);
    agent.change_config(&mount_as_written(&host));
    let done = agent.run(&["run"]);
    let named = if Path::new(&host).is_absolute() { host } else { agent.path(host).display().to_string() };
    let named = named.trim_end_matches("/.").to_owned();
    done.expect_code(1).expect_stderr(&format!("the mount of `{named}` would show {exposed}"));
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_mount_of_the_configuration_file_is_refused() {
    assert_refused(|_| "config.toml".to_owned(), "the configuration file");
}

#[test]
fn a_mount_of_a_folder_with_the_configuration_file_is_refused() {
    assert_refused(|agent| agent.dir().display().to_string(), "the configuration file");
}

#[test]
fn a_mount_of_the_root_is_refused() {
    assert_refused(|_| "/".to_owned(), "the configuration file");
}

#[test]
fn a_mount_of_the_data_dir_is_refused() {
    assert_refused(|_| "data".to_owned(), "the data_dir");
}

#[test]
fn a_mount_inside_the_data_dir_is_refused() {
    assert_refused(
        |agent| {
            fs::create_dir_all(agent.data_dir().join("workspaces")).expect("make a folder");
            "data/workspaces".to_owned()
        },
        "the data_dir",
    );
}

#[cfg(unix)]
#[test]
fn a_mount_through_a_link_is_refused() {
    assert_refused(
        |agent| {
            let link = agent.home().join("innocent");
            std::os::unix::fs::symlink(agent.dir(), &link).expect("make a link");
            link.display().to_string()
        },
        "the configuration file",
    );
}

#[test]
fn variables_and_drives_in_paths_are_errors_and_no_folders() {
    for (written, instead) in [
        ("$HOME/lab", "write `~/` for the home"),
        ("/srv/${LAB}", "write the whole path"),
        ("%USERPROFILE%/lab", "write the whole path"),
        ("~other/lab", "write the whole path"),
        (r"C:\lab", "a path of Windows"),
        ("C:/lab", "a path of Windows"),
    ] {
        let keys = [
            (mount_as_written(written), "host"),
            (format!("[paths]\ndata_dir = '{written}'"), "data_dir"),
            (format!("[executor]\ndocker = '{written}'"), "docker"),
        ];
        for (config, key) in keys {
            let server = FakeServer::start();
            let agent = Agent::builder(&server).without_engine().config(&config).build();
            let before = names_in(&agent.path(""));
            for command in ["check", "run"] {
                let run = agent.run(&[command]);
                let printed = format!("{}{}", run.stdout, run.stderr);
                assert!(printed.contains(&format!("`{written}`")) && printed.contains(instead), "{printed}");
                assert!(printed.contains(key) && printed.contains("config.toml:"), "{command}: {printed}");
            }
            assert_eq!(names_in(&agent.path("")), before, "nothing was made for {key} = {written}");
        }
    }
}
