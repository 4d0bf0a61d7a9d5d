//! A script in the place of the docker client, for tests without an engine.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Docker;

/// Makes a client of this body of a shell script. `$here` is the folder.
pub fn stand_in(dir: &Path, body: &str) -> Docker {
    let script = dir.join("docker");
    // Another process writes it: a child of another test's thread that had it open for writing would keep it from being
    // executed.
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(&script).stdin(Stdio::piped());
    let mut install = install.spawn().expect("run `install`");
    let mut input = install.stdin.take().expect("a pipe");
    write!(input, "#!/bin/sh\nhere='{}'\n{body}\n", dir.display()).expect("write the script");
    drop(input);
    assert!(install.wait().expect("wait for `install`").success());
    Docker { program: script.into(), ..Docker::default() }
}
