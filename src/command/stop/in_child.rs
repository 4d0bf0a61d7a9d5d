//! `stop` in a child of its own: a process that waits for a disk that hangs can neither end nor be killed, and this one has
//! to say so and end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use crate::command::failure::{CommandResult, Failure};
use crate::command::wait::wait_for;
use crate::config::Config;
use crate::logging::LogFormat;
use crate::os::platform;
use crate::os::timeout::with_timeout;
use crate::units::Span;

/// Runs the command with these words in a child, which has so much time.
pub(super) fn run(file: &Path, log_format: LogFormat, words: &[&str], limit: Duration) -> CommandResult {
    let program = std::env::current_exe().map_err(Failure::context("can't find this program"))?;
    let mut command = Command::new(program);
    command.args([OsString::from("--config"), file.into()]).args(["stop", "--in-child"]).args(words);
    if log_format == LogFormat::Json {
        command.args(["--log-format", "json"]);
    }
    // A Ctrl+C of the terminal reaches the child once, by this process.
    platform::in_own_group(&mut command);
    let child = command.spawn().map_err(Failure::context("this program can't be started again"))?;
    let id = child.id();
    ctrlc::set_handler(move || drop(platform::terminate(id))).map_err(Failure::context("can't handle signals"))?;
    match wait(child, limit)? {
        Some(status) => Ok(exit_code(status)),
        None => Err(Failure::new(explain(file.to_owned(), limit))),
    }
}

/// Waits for the child's end. One that has had its time is killed and not waited for: `None`.
fn wait(mut child: Child, limit: Duration) -> Result<Option<ExitStatus>, Failure> {
    let ended = wait_for(limit, || child.try_wait().transpose());
    if ended.is_none() {
        if let Err(error) = platform::kill_group(child.id()) {
            log::debug!("the process {} can't be killed: {error}", child.id());
        }
    }
    ended.transpose().map_err(Failure::context("its end can't be waited for"))
}

/// The status as a shell shows it.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal: Option<i32> = None;
    let code = status.code().or(signal.map(|signal| 128 + signal)).and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}

fn explain(file: PathBuf, limit: Duration) -> String {
    // Its own disk may be the one that hangs.
    let data_dir = with_timeout(move || Config::data_dir_of(&file)).flatten();
    let place = data_dir.map_or_else(
        || "of the configuration file or of the data directory".to_owned(),
        |data_dir| format!("of the data directory `{}`", data_dir.display()),
    );
    format!(
        "given up after {}: a disk gives no answer, most likely that {place}; what isn't done by now is done when the disk \
         answers and the command is repeated; containers run on until then",
        Span(limit)
    )
}

#[cfg(all(test, unix))]
mod tests {
    use super::{exit_code, explain, wait};
    use std::process::{Command, ExitCode};
    use std::time::{Duration, Instant};

    fn sh(script: &str) -> std::process::Child {
        Command::new("/bin/sh").args(["-c", script]).spawn().expect("run sh")
    }

    #[test]
    fn a_child_that_does_not_end_is_not_waited_for() {
        let began = Instant::now();
        assert!(wait(sh("exec sleep 60"), Duration::from_millis(200)).unwrap().is_none());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        for (script, code) in [("exit 3", 3), ("kill -TERM $$", 143)] {
            let status = wait(sh(script), Duration::from_secs(20)).unwrap().unwrap();
            assert_eq!(exit_code(status), ExitCode::from(code));
        }
    }

    #[test]
    fn the_data_directory_whose_disk_hangs_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        assert!(explain(file.clone(), Duration::from_secs(20)).contains("configuration file or of the data directory"));
        std::fs::write(&file, "[paths]\ndata_dir = '/srv/data'\n").unwrap();
        let said = explain(file, Duration::from_secs(20));
        assert!(
            said.starts_with("given up after 20 s: a disk") && said.contains("data directory `/srv/data`"),
            "{said}"
        );
    }
}
