//! What a trial came to: told to a person, and copied to a folder of theirs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::progress::Copying;
use crate::command::failure::Failure;
use crate::command::output::eprint_line;
use crate::server::protocol::FinalStatus;
use crate::task::Trial;
use crate::task::outputs::{OutputFile, Skipped};
use crate::task::record::StopReason;
use crate::text::escape;

/// As `timeout` has it.
const TIMED_OUT: u8 = 124;
/// As `docker run` has it.
const NOT_STARTED: u8 = 125;
/// As shells have it.
pub const INTERRUPTED: u8 = 130;

/// The exit status of the command: the container's, unless something else ended it.
pub fn exit_status(trial: &Trial) -> u8 {
    match (trial.stop, trial.ending.exit_code) {
        (Some(StopReason::Cancel), _) => INTERRUPTED,
        (Some(_), _) => TIMED_OUT,
        (None, None) => NOT_STARTED,
        // It exited with 0 because somebody asked it to end.
        (None, Some(0)) if trial.ending.status != FinalStatus::Completed => 1,
        (None, Some(code)) => u8::try_from(code).unwrap_or(1),
    }
}

/// Says on standard error what would be sent; standard output is the container's.
pub fn tell(trial: &Trial) {
    let Trial { ending, files, skipped, .. } = trial;
    if ending.status == FinalStatus::Cancelled {
        eprint_line(format_args!("Interrupted: nothing would be sent but that."));
        return;
    }
    let total: u64 = files.iter().map(|file| file.size).sum();
    eprint_line(format_args!("Would be sent: {}, {total} bytes", counted(files.len() as u64)));
    for file in files {
        eprint_line(format_args!("  {}  {} bytes", escape(&file.name), file.size));
    }
    let Skipped { non_results, undelivered, unnamed } = skipped;
    let count = (non_results.len() + undelivered.len()) as u64 + unnamed;
    if count > 0 {
        eprint_line(format_args!("Would be left out: {}", counted(count)));
        for left in undelivered.iter().chain(non_results) {
            eprint_line(format_args!("  {}: {}", escape(&left.file), escape(&left.reason)));
        }
        if *unnamed > 0 {
            eprint_line(format_args!("  and {unnamed} more"));
        }
    }
    let status = ending.status.as_str();
    match (ending.exit_code, &ending.error_message) {
        (code, Some(message)) => {
            let code = code.map_or_else(String::new, |code| format!(" with exit status {code}"));
            eprint_line(format_args!("The report would say: {status}{code} after {} s:", ending.duration_secs));
            message.lines().for_each(|line| eprint_line(format_args!("  {}", escape(line))));
        }
        (_, None) => eprint_line(format_args!("The report would say: {status} after {} s", ending.duration_secs)),
    }
}

fn counted(count: u64) -> String {
    format!("{count} {}", if count == 1 { "file" } else { "files" })
}

/// A folder for the results, in which nothing is overwritten.
pub struct OutFolder(PathBuf);

impl OutFolder {
    /// A folder that is new or empty; that is known before hours are spent on a container.
    pub fn new(dir: &Path) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::usage(format!("`{}` {why} (`--out`)", dir.display()));
        match fs::read_dir(dir) {
            Ok(mut entries) => match entries.next() {
                Some(_) => Err(wrong("isn't empty, and nothing is overwritten; name a new folder or empty that one")),
                None => Ok(Self(dir.to_owned())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(dir.to_owned())),
            Err(error) => Err(wrong(&format!("can't be used: {error}"))),
        }
    }

    /// Copies what would be sent, each file under the name by which it would be.
    pub fn take(&self, files: &[OutputFile], copying: &Copying<'_>) -> Result<(), Failure> {
        for found in files {
            // The name holds plain parts only, so that it leads nowhere else.
            let place = self.0.join(&found.name);
            let copied = found.open().and_then(|(file, _)| {
                copy(copying, &found.name, file, &place)
                    .map_err(|error| format!("can't be written to `{}`: {error}", place.display()))
            });
            copied.map_err(|why| Failure::new(format!("the result `{}` {why}", escape(&found.name))))?;
        }
        // Somebody waits for the folder also where there is nothing to put into it.
        fs::create_dir_all(&self.0)
            .map_err(|error| Failure::new(format!("`{}` can't be made: {error}", self.0.display())))?;
        eprint_line(format_args!("Copied to: {}", self.0.display()));
        Ok(())
    }
}

fn copy(copying: &Copying<'_>, name: &str, mut file: File, place: &Path) -> io::Result<u64> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    copying.copy(name, &mut file, &mut File::create_new(place)?)
}

#[cfg(test)]
mod tests {
    use super::{Skipped, Trial, exit_status};
    use crate::server::protocol::FinalStatus::{self, Cancelled, Completed, Failed};
    use crate::task::record::{Ending, StopReason};
    use jiff::Timestamp;

    fn status(status: FinalStatus, exit_code: Option<i32>, stop: Option<StopReason>) -> u8 {
        let ending = Ending { status, exit_code, error_message: None, duration_secs: 0.0, at: Timestamp::UNIX_EPOCH };
        exit_status(&Trial { ending, stop, files: Vec::new(), skipped: Skipped::default() })
    }

    #[test]
    fn exit_status_follows_the_container_and_the_stop_reason() {
        assert_eq!([0, 3, 125, 137].map(|code| status(Completed, Some(code), None)), [0, 3, 125, 137]);
        assert_eq!(status(Failed, Some(0), None), 1, "somebody asked it to end");
        assert_eq!(status(Failed, None, None), 125);
        assert_eq!(status(Failed, Some(0), Some(StopReason::Timeout { minutes: 1 })), 124);
        assert_eq!(status(Failed, Some(143), Some(StopReason::Idle { minutes: 1 })), 124);
        assert_eq!(status(Cancelled, Some(143), Some(StopReason::Cancel)), 130);
        assert_eq!(status(Failed, Some(0x4000_0015), None), 1, "what doesn't fit");
    }
}
