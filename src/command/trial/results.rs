//! The results of a trial: the exit status, and what would be sent.

use crate::command::output::eprint_line;
use crate::server::FinalStatus;
use crate::task::outputs::Skipped;
use crate::task::{StopReason, Trial};
use crate::text::escape;

/// As `timeout` does.
const TIMED_OUT: u8 = 124;
/// As `docker run` does.
pub const NOT_STARTED: u8 = 125;
/// As shells do.
pub const INTERRUPTED: u8 = 130;

/// The exit status of the command: the container's, unless the container was stopped.
pub fn exit_status(trial: &Trial) -> u8 {
    match (trial.stop, trial.ending.exit_code) {
        (Some(StopReason::Cancel), _) => INTERRUPTED,
        (Some(_), _) => TIMED_OUT,
        (None, None) => NOT_STARTED,
        // The container exited with 0 because another program stopped it.
        (None, Some(0)) if trial.ending.status != FinalStatus::Completed => 1,
        (None, Some(code)) => u8::try_from(code).unwrap_or(1),
    }
}

/// Prints on standard error what would be sent. Standard output is the container's.
pub fn print_results(trial: &Trial) {
    let Trial { ending, files, packed, skipped, .. } = trial;
    if ending.status == FinalStatus::Cancelled {
        eprint_line(format_args!(
            "Interrupted. The report would say: cancelled after {} s; no file would be sent.",
            ending.duration_secs
        ));
        return;
    }
    let total: u64 = files.iter().map(|file| file.size).sum();
    eprint_line(format_args!("Would be sent: {}, {total} bytes", counted(files.len() as u64)));
    for file in files {
        eprint_line(format_args!("  {}  {} bytes", escape(&file.name), file.size));
        for member in packed.iter().filter(|packed| packed.archive == file.name).flat_map(|packed| &packed.members) {
            eprint_line(format_args!("    {}  {} bytes", escape(&member.file), member.size));
        }
    }
    let Skipped { non_results, undelivered, unnamed, .. } = skipped;
    let count = (non_results.len() + undelivered.len()) as u64 + unnamed;
    if count > 0 {
        eprint_line(format_args!("Would be left out: {}", counted(count)));
        for file in undelivered.iter().chain(non_results) {
            eprint_line(format_args!("  {}: {}", escape(&file.file), escape(&file.reason)));
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

#[cfg(test)]
mod tests {
    use super::{Skipped, Trial, exit_status};
    use crate::server::protocol::FinalStatus::{self, Cancelled, Completed, Failed};
    use crate::task::record::{Ending, StopReason};
    use jiff::Timestamp;

    fn status(status: FinalStatus, exit_code: Option<i32>, stop: Option<StopReason>) -> u8 {
        let ending = Ending { status, exit_code, error_message: None, duration_secs: 0.0, at: Timestamp::UNIX_EPOCH };
        exit_status(&Trial { ending, stop, files: Vec::new(), packed: Vec::new(), skipped: Skipped::default() })
    }

    #[test]
    fn exit_status_follows_the_container_and_the_stop_reason() {
        assert_eq!([0, 3, 125, 137].map(|code| status(Completed, Some(code), None)), [0, 3, 125, 137]);
        assert_eq!(status(Failed, Some(0), None), 1, "another program stopped it");
        assert_eq!(status(Failed, None, None), 125);
        assert_eq!(status(Failed, Some(0), Some(StopReason::Timeout { minutes: 1 })), 124);
        assert_eq!(status(Failed, Some(143), Some(StopReason::Idle { minutes: 1 })), 124);
        assert_eq!(status(Cancelled, Some(143), Some(StopReason::Cancel)), 130);
        assert_eq!(status(Failed, Some(0x4000_0015), None), 1, "what doesn't fit");
    }
}
