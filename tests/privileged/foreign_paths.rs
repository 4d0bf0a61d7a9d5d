//! Files and folders of another user in places that an agent of root looks at.

use crate::support::agent::{Agent, COMMANDS, Finished};
use crate::support::docker::wait_until;
use crate::support::ordinary_user::USER;
use crate::support::secs;
use crate::support::server::FakeServer;
use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An agent of root in the system's folder for temporary files, where every user may go.
pub fn agent(server: &FakeServer, config: &str) -> Agent {
    crate::require_root();
    let agent = Agent::builder(server).without_engine().config(config).folder_in(&env::temp_dir()).build();
    for folder in agent.dir().ancestors().take(2) {
        set_mode(folder, 0o755);
    }
    set_mode(&agent.config_path(), 0o600);
    agent
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("change the mode");
}

pub fn give_away(path: &Path) {
    lchown(path, Some(USER), Some(USER)).expect("give the file to another user");
}

pub fn said(finished: &Finished) -> String {
    format!("{}{}", finished.stderr, finished.stdout)
}

/// Every command must refuse, with these words, before it runs a program or calls the Server.
fn assert_refused(agent: &Agent, server: &FakeServer, words: &str) {
    for command in COMMANDS {
        let refused = agent.run(command);
        assert!(!refused.status.success() && said(&refused).contains(words), "{command:?}: {}", said(&refused));
    }
    assert!(!agent.path("docker-ran").exists(), "a program of the configuration was run");
    assert!(server.requests().is_empty(), "{}", server.report());
}

/// A docker client that leaves a file when it is run.
fn with_marker(server: &FakeServer) -> Agent {
    let agent = agent(server, "[executor]\ndocker = './docker'");
    let marker = agent.path("docker-ran");
    agent.write_script("docker", &format!("#!/bin/sh\nid -u >> {}\n", marker.display()));
    agent
}

#[test]
fn another_users_configuration_runs_nothing() {
    let server = FakeServer::start();
    let agent = with_marker(&server);
    give_away(&agent.config_path());
    let words = format!("`{}` belongs to user {USER}", agent.config_path().display());
    assert_refused(&agent, &server, &words);
    let said = agent.run(&["run"]).stderr;
    assert!(said.contains("use nothing of it, but a new place") && said.contains("`init` in such a place"));
    assert!(!said.contains("sudo") && !said.contains("chown"), "{said}");
}

#[test]
fn a_configuration_in_another_users_folder_runs_nothing() {
    let server = FakeServer::start();
    let agent = with_marker(&server);
    give_away(agent.dir());
    assert_refused(&agent, &server, &format!("`{}` belongs to user {USER}", agent.dir().display()));
    agent.run(&["--config", "new.toml", "init"]).expect_code(1).expect_stderr("belongs to user");
    assert!(!agent.path("new.toml").exists());
}

#[test]
fn links_of_root_are_followed_into_trusted_folders_only() {
    let server = FakeServer::start();
    let agent = with_marker(&server);
    fs::create_dir(agent.path("theirs")).expect("make a folder");
    fs::rename(agent.config_path(), agent.path("theirs/config.toml")).expect("move the configuration");
    give_away(&agent.path("theirs"));
    symlink("theirs", agent.path("ours")).expect("make a link");
    symlink("ours/config.toml", agent.config_path()).expect("make a link");
    assert_refused(&agent, &server, &format!("`{}` belongs to user {USER}", agent.path("theirs").display()));
    // A link of another user is refused wherever it leads.
    fs::rename(agent.path("theirs/config.toml"), agent.path("real.toml")).expect("move the configuration");
    fs::remove_file(agent.config_path()).expect("remove the link");
    symlink("real.toml", agent.config_path()).expect("make a link");
    lchown(agent.config_path(), Some(USER), Some(USER)).expect("give the link away");
    assert_refused(&agent, &server, &format!("is a link of user {USER}"));
    lchown(agent.config_path(), Some(0), Some(0)).expect("take the link back");
    agent.run(&["status"]).expect_code(3);
}

#[test]
fn a_data_dir_of_another_user_or_below_their_folder_is_refused() {
    let server = FakeServer::start();
    let agent = agent(&server, "[paths]\ndata_dir = './home/data'");
    fs::create_dir_all(agent.path("home/data")).expect("make folders");
    let refused = |path: &Path| {
        let words = format!("`{}` belongs to user {USER}", path.display());
        let readers: [&[&str]; 5] = [&["status"], &["tasks"], &["ledger"], &["logs", "t"], &["discard", "--yes", "t"]];
        let others: [&[&str]; 5] =
            [&["run"], &["run-detached"], &["try", "--prompt", "p"], &["stop"], &["stop", "--abort"]];
        for command in readers.into_iter().chain(others) {
            agent.run(command).expect_code(1).expect_stderr(&words);
        }
        agent.run(&["check"]).expect_code(1).expect_stdout(&words);
    };
    for mode in [0o700, 0o755, 0o1777] {
        set_mode(&agent.path("home/data"), mode);
        give_away(&agent.path("home/data"));
        refused(&agent.path("home/data"));
    }
    chown(agent.path("home/data"), Some(0), Some(0)).expect("take the folder back");
    set_mode(&agent.path("home/data"), 0o700);
    give_away(&agent.path("home"));
    refused(&agent.path("home"));
    // The same without a data_dir: nothing is made there.
    fs::remove_dir(agent.path("home/data")).expect("remove the folder");
    refused(&agent.path("home"));
    assert!(!agent.path("home/data").exists());
    // Another user's link.
    fs::create_dir(agent.path("secret")).expect("make a folder");
    set_mode(&agent.path("secret"), 0o700);
    chown(agent.path("home"), Some(0), Some(0)).expect("take the folder back");
    symlink(agent.path("secret"), agent.path("home/data")).expect("make a link");
    give_away(&agent.path("home/data"));
    agent.run(&["run"]).expect_code(1).expect_stderr(&format!("is a link of user {USER}"));
    assert_eq!(fs::read_dir(agent.path("secret")).expect("look into the folder").count(), 0);
}

#[test]
fn an_open_data_dir_with_files_of_others_is_refused_and_stays_open() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let victim = agent.write("victim", "kept");
    set_mode(&victim, 0o644);
    type Plant<'p> = (&'p str, &'p str, &'p dyn Fn(&Path));
    let plant: [Plant<'_>; 6] = [
        ("agent.pid", "a symbolic link", &|path| symlink(&victim, path).expect("make a link")),
        ("ledger.jsonl", "a symbolic link", &|path| symlink(&victim, path).expect("make a link")),
        ("workspaces", "a symbolic link", &|path| symlink(agent.dir(), path).expect("make a link")),
        ("agent.lock", "a file that has a second name", &|path| fs::hard_link(&victim, path).expect("make a link")),
        ("tasks", "another user's", &|path| {
            fs::create_dir(path).expect("make a folder");
            give_away(path);
        }),
        ("status.json", "another user's", &|path| {
            fs::write(path, "{}").expect("write a file");
            give_away(path);
        }),
    ];
    for mode in [0o777, 0o1777] {
        for (name, what, plant) in plant {
            fs::create_dir(agent.data_dir()).expect("make the folder");
            set_mode(&agent.data_dir(), mode);
            plant(&agent.data_dir().join(name));
            for command in [&["run"][..], &["run-detached"], &["stop", "--abort"], &["try", "--prompt", "p"]] {
                let refused = agent.run(command);
                refused.expect_code(1).expect_stderr(&format!("`{name}` in it is {what}"));
            }
            agent.run(&["check"]).expect_code(1).expect_stdout(&format!("`{name}` in it is {what}"));
            let metadata = fs::metadata(&victim).expect("look at the victim");
            assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o644, 0), "{name}");
            assert_eq!(fs::read_to_string(&victim).expect("read the victim"), "kept", "{name}");
            let still = fs::metadata(agent.data_dir()).expect("look at the folder").mode() & 0o7777;
            assert_eq!(still, mode, "the next start looks again");
            fs::remove_dir_all(agent.data_dir()).expect("remove the folder");
        }
    }
    // Without the sticky bit others could exchange the names of what is the agent's.
    fs::create_dir_all(agent.data_dir().join("tasks")).expect("make folders");
    set_mode(&agent.data_dir(), 0o777);
    let words =
        format!("such as `tasks`; let `paths.data_dir` be a new folder, such as `{}.new`", agent.data_dir().display());
    for command in [&["run"][..], &["run-detached"], &["stop", "--abort"], &["status"]] {
        agent.run(command).expect_code(1).expect_stderr(&words);
    }
    set_mode(&agent.data_dir(), 0o1777);
    agent.run(&["stop", "--abort"]).expect_code(0);
    assert_eq!(fs::metadata(agent.data_dir()).expect("look at the folder").mode() & 0o777, 0o700);
    fs::remove_dir_all(agent.data_dir()).expect("remove the folder");
    // Without anything in it, it is closed.
    fs::create_dir(agent.data_dir()).expect("make the folder");
    set_mode(&agent.data_dir(), 0o777);
    let running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    assert_eq!(fs::metadata(agent.data_dir()).expect("look at the folder").mode() & 0o7777, 0o700);
    drop(running);
}

/// A process of another user that runs a shell script until it is dropped.
pub struct Attacker(Child);

impl Attacker {
    pub fn start(script: &str, path: &Path) -> Self {
        let user = USER.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "sh", "-c", script, "sh"]);
        Self(command.arg(path).stderr(Stdio::null()).spawn().expect("start the other user's process"))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_folder_made_by_another_user_at_the_same_moment_is_not_used() {
    let server = FakeServer::start();
    let agent = agent(&server, "[paths]\ndata_dir = './shared/data'");
    fs::create_dir(agent.path("shared")).expect("make a folder");
    set_mode(&agent.path("shared"), 0o1777);
    let data: PathBuf = agent.path("shared/data");
    let _attacker = Attacker::start(r#"while :; do mkdir "$1" && chmod 777 "$1"; rmdir "$1"; done"#, &data);
    wait_until("the other user's folder", secs(20), || data.exists());
    for _ in 0..30 {
        let mut running = agent.start();
        wait_until("the start or its end", secs(20), || !running.is_running() || data.join("agent.lock").exists());
        if running.is_running() || data.join("agent.lock").exists() {
            let owner = fs::metadata(&data).expect("look at the folder").uid();
            assert_eq!(owner, 0, "root's agent runs in another user's folder");
        }
        running.kill9();
        if fs::metadata(&data).is_ok_and(|metadata| metadata.uid() == 0) {
            fs::remove_dir_all(&data).expect("remove the folder");
            // A later start would miss it otherwise.
            let _ = fs::remove_file(agent.path(".config.toml.data_dir"));
        }
    }
}

#[test]
fn mounts_that_another_user_could_replace_are_refused() {
    let server = FakeServer::start();
    let agent = agent(&server, "[[paths.mounts]]\nhost = './home/data'\ncontainer = '/data'");
    fs::create_dir_all(agent.path("home/data")).expect("make folders");
    let refused = |words: &str| {
        agent.run(&["run"]).expect_code(1).expect_stderr(words);
        agent.run(&["check"]).expect_code(1).expect_stdout(words);
    };
    // The data may belong to any user.
    give_away(&agent.path("home/data"));
    agent.run(&["check"]).expect_stdout("✓ mounts");
    set_mode(&agent.path("home"), 0o1777);
    refused("lies in a folder where every user may write");
    set_mode(&agent.path("home"), 0o755);
    give_away(&agent.path("home"));
    refused(&format!("lies in `{}`, which belongs to user {USER}", agent.path("home").display()));
    chown(agent.path("home"), Some(0), Some(0)).expect("take the folder back");
    fs::remove_dir(agent.path("home/data")).expect("remove the folder");
    symlink("/root", agent.path("home/data")).expect("make a link");
    give_away(&agent.path("home/data"));
    refused(&format!("is a link of user {USER}"));
    // A folder that is made is made step by step.
    fs::remove_file(agent.path("home/data")).expect("remove the link");
    fs::create_dir(agent.path("theirs")).expect("make a folder");
    give_away(&agent.path("theirs"));
    symlink("../theirs/new", agent.path("home/data")).expect("make a link");
    refused(&format!("lies in `{}`, which belongs to user {USER}", agent.path("theirs").display()));
    assert_eq!(fs::read_dir(agent.path("theirs")).expect("look into the folder").count(), 0);
}

/// A file system that is mounted for a test.
struct Mounted(PathBuf);

impl Mounted {
    fn new(words: &[&str], at: PathBuf) -> Self {
        fs::create_dir_all(&at).expect("make the mount point");
        let status = Command::new("mount").args(words).arg(&at).status();
        assert!(status.is_ok_and(|status| status.success()), "mount {words:?}");
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "unmount");
    }
}

/// `run` and `check` must refuse the mounts with these words.
fn assert_mounts_refused(agent: &Agent, words: &str) {
    agent.run(&["run"]).expect_code(1).expect_stderr(words);
    agent.run(&["check"]).expect_code(1).expect_stdout(words);
}

fn mount(host: &str, container: &str) -> String {
    format!("[[paths.mounts]]\nhost = '{host}'\ncontainer = '{container}'\nreadonly = true\n")
}

#[test]
fn a_file_system_below_a_readonly_mount_counts_as_writable() {
    let server = FakeServer::start();
    let both = mount("./share", "/share") + &mount("./share/disk/ref", "/ref");
    let agent = agent(&server, &both);
    {
        let _disk = Mounted::new(&["-t", "tmpfs", "agent-core-test"], agent.path("share/disk"));
        fs::create_dir(agent.path("share/disk/ref")).expect("make a folder");
        assert_mounts_refused(&agent, "so mount only one of the two");
        // A link of root's leads there.
        symlink("share/disk/ref", agent.path("link")).expect("make a link");
        agent.change_config(&(mount("./share", "/share") + &mount("./link", "/ref")));
        assert_mounts_refused(&agent, "so mount only one of the two");
    }
    fs::create_dir(agent.path("share/disk/ref")).expect("make a folder");
    let _disk = Mounted::new(&["-t", "tmpfs", "-o", "ro", "agent-core-test"], agent.path("share/other"));
    agent.run(&["check"]).expect_stdout("✓ mounts");
}

#[test]
fn a_mount_by_another_path_of_the_same_place_is_refused() {
    let server = FakeServer::start();
    let writable = mount("./srv", "/srv").replace("readonly = true", "");
    let agent = agent(&server, &(writable + &mount("./alias/sub", "/ref")));
    fs::create_dir_all(agent.path("srv/x/sub")).expect("make folders");
    let inside = agent.path("srv/x").display().to_string();
    let _alias = Mounted::new(&["--bind", &inside], agent.path("alias"));
    assert_mounts_refused(&agent, "which tasks may write to");
    // The other path itself is held by its mount, whatever a task puts in the folder's place.
    let alone = mount("./srv", "/srv").replace("readonly = true", "") + &mount("./alias", "/ref");
    agent.change_config(&alone);
    agent.run(&["check"]).expect_stdout("✓ mounts");
    // The folder of the configuration, by another path and below the mount.
    let all = agent.dir().display().to_string();
    let _all = Mounted::new(&["--bind", &all], agent.path("srv/all"));
    agent.change_config(&mount("./srv", "/srv"));
    assert_mounts_refused(&agent, "would show the configuration file");
}

#[test]
fn an_access_list_counts_as_rights_of_others() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    // The group root has no other members, so it may write.
    set_mode(agent.dir(), 0o775);
    agent.run(&["status"]).expect_code(3);
    add_writer(agent.dir(), USER);
    agent.run(&["status"]).expect_code(2).expect_stderr(&format!("write to `{}`", agent.dir().display()));
    // chmod takes the rights away also from the list's entries.
    set_mode(agent.dir(), 0o755);
    agent.run(&["status"]).expect_code(3);
}

/// Gives another user the right to write, by an access list (acl(5)).
fn add_writer(path: &Path, user: u32) {
    const NO_ID: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 7, NO_ID), (0x02, 7, user), (0x04, 5, NO_ID), (0x10, 7, NO_ID), (0x20, 5, NO_ID)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        list.extend(id.to_le_bytes());
    }
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("a path without NUL");
    let name = c"system.posix_acl_access";
    // SAFETY: the names end with NUL, and the list has the length that is passed.
    let set = unsafe { nix::libc::setxattr(path.as_ptr(), name.as_ptr(), list.as_ptr().cast(), list.len(), 0) };
    assert_eq!(set, 0, "set an access list: {}", std::io::Error::last_os_error());
}

#[test]
fn init_writes_through_no_link_of_another_user() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let victim = agent.write("victim", "# kept");
    fs::create_dir(agent.path("shared")).expect("make a folder");
    set_mode(&agent.path("shared"), 0o1777);
    let link = agent.path("shared/config.toml");
    symlink(&victim, &link).expect("make a link");
    lchown(&link, Some(USER), Some(USER)).expect("give the link away");
    for arguments in
        [&["--config", "shared/config.toml", "init", "--force"][..], &["--config", "shared/config.toml", "init"]]
    {
        let refused = agent.run(arguments);
        assert!(!refused.status.success(), "{}", said(&refused));
    }
    agent
        .run(&["--config", "shared/config.toml", "init", "--force"])
        .expect_stderr(&format!("is a link of user {USER}"));
    assert_eq!(fs::read_to_string(&victim).expect("read the victim"), "# kept");
    lchown(&link, Some(0), Some(0)).expect("take the link back");
    agent.run(&["--config", "shared/config.toml", "init", "--force"]).expect_code(0);
    assert!(fs::read_to_string(&victim).expect("read the file").contains("[server]"));
}

#[test]
fn a_file_put_there_during_init_does_not_take_over_the_new_one() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    fs::create_dir(agent.path("shared")).expect("make a folder");
    set_mode(&agent.path("shared"), 0o1777);
    let file = agent.path("shared/config.toml");
    let script = r#"cd "$1" && set -C && : > ready; while :; do set -- *.tmp; [ -e "$1" ] && : > config.toml; done"#;
    let _attacker = Attacker::start(script, &agent.path("shared"));
    wait_until("the other user to wait for the file", secs(20), || agent.path("shared/ready").exists());
    let mut written = 0;
    while written < 30 {
        let done = agent.run(&["--config", "shared/config.toml", "init", "--force"]);
        if done.status.success() {
            let metadata = fs::symlink_metadata(&file).expect("look at the file");
            assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (0, 0, 0o600));
            written += 1;
        } else {
            // The other user was late, and made one behind the last try.
            done.expect_stderr(&format!("belongs to user {USER}"));
        }
        fs::remove_file(&file).expect("remove the file");
    }
}

#[test]
fn folders_that_only_the_owners_group_can_write_are_as_good_as_closed() {
    let server = FakeServer::start();
    let agent = agent(&server, "[[paths.mounts]]\nhost = './share/new'\ncontainer = '/data'");
    // As a umask of 002 leaves them.
    set_mode(agent.dir(), 0o775);
    let mut running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    running.kill9();
    assert!(agent.path("share/new").is_dir());
    // The mounted folder may belong to the user of containers.
    give_away(&agent.path("share/new"));
    set_mode(&agent.path("share"), 0o775);
    agent.run(&["check"]).expect_stdout("✓ mounts");
}

#[test]
fn another_users_lock_names_no_process_to_stop() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    let running = agent.start();
    server.wait_until("a heartbeat", secs(20), |server| !server.heartbeats().is_empty());
    give_away(&agent.data_dir());
    for command in ["status", "run-detached", "stop"] {
        let refused = agent.run(&[command]);
        refused.expect_code(1).expect_stderr(&format!("belongs to user {USER}"));
    }
    let typo = agent.config_text() + "\n[exec";
    fs::write(agent.config_path(), typo).expect("change the configuration");
    let wrong = agent.run(&["stop"]);
    assert!(!wrong.status.success() && !wrong.stderr.contains("kill"), "{}", wrong.stderr);
    drop(running);
}

#[test]
fn files_that_a_person_asks_for_are_written_into_no_folder_of_another_user() {
    let server = FakeServer::start();
    let agent = agent(&server, "");
    fs::create_dir_all(agent.path("shared/theirs")).expect("make folders");
    fs::create_dir(agent.path("shared/empty")).expect("make a folder");
    set_mode(&agent.path("shared"), 0o1777);
    give_away(&agent.path("shared/theirs"));
    symlink(agent.path("shared/empty"), agent.path("shared/link")).expect("make a link");
    lchown(agent.path("shared/link"), Some(USER), Some(USER)).expect("give the link away");
    for place in ["shared/theirs", "shared/theirs/new", "shared/link", "shared/link/new"] {
        for command in [&["man", "--out", place][..], &["try", "--prompt", "p", "--out", place]] {
            let refused = agent.run(command);
            assert!(
                !refused.status.success() && refused.stderr.contains(&format!("user {USER}")),
                "{}",
                refused.stderr
            );
        }
    }
    for folder in ["shared/theirs", "shared/empty"] {
        assert_eq!(fs::read_dir(agent.path(folder)).expect("look into the folder").count(), 0);
    }
    agent.run(&["man", "--out", "shared/new/pages"]).expect_code(0);
    assert!(agent.path("shared/new/pages/agent-core.1").is_file());
    // A link in the place of a page is replaced.
    let victim = agent.write("victim", "kept");
    fs::remove_file(agent.path("shared/new/pages/agent-core.1")).expect("remove a page");
    symlink(&victim, agent.path("shared/new/pages/agent-core.1")).expect("make a link");
    agent.run(&["man", "--out", "shared/new/pages"]).expect_code(0);
    assert_eq!(fs::read_to_string(&victim).expect("read the victim"), "kept");
}
