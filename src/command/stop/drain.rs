//! `stop --drain`: asks the agent to finish all its tasks, and waits for its end.

use std::thread;
use std::time::{Duration, Instant};

use super::{AgentProcess, load_backlog, print_backlog};
use crate::command::failure::Failure;
use crate::command::output::print_line;
use crate::config::Config;
use crate::data_dir::instance;
use crate::logging::Reminder;

const LOOK: Duration = Duration::from_millis(200);
/// Counting the backlog reads every record.
const LOOK_AT_RECORDS: Duration = Duration::from_secs(2);
/// So long after the request is gone, the agent would have ended.
const TAKEN_BACK: Duration = Duration::from_secs(10);

pub(super) fn drain(config: &Config, pid: u32) -> Result<(), Failure> {
    let data_dir = &config.paths.data_dir;
    instance::request_drain(data_dir, pid).map_err(Failure::context("the agent can't be asked to drain"))?;
    print_line(format_args!(
        "The agent (pid {pid}) accepts no new task and ends when everything is delivered. Ctrl+C ends this command only; \
         `stop` ends the agent at once."
    ));
    let mut requested_at = Instant::now();
    let (mut printed, mut reminder, mut records_due) = (None, Reminder::new(), Instant::now());
    loop {
        match AgentProcess::look(data_dir, pid).map_err(Failure::unusable(data_dir))? {
            // One that can't be read was not taken back.
            AgentProcess::Running if instance::is_drain_requested(data_dir, pid).unwrap_or(true) => {
                requested_at = Instant::now();
            }
            // The agent itself removes the request just before its end.
            AgentProcess::Running if requested_at.elapsed() < TAKEN_BACK => {}
            AgentProcess::Running => {
                return Err(Failure::new(format!("the drain was taken back: the agent (pid {pid}) goes on")));
            }
            AgentProcess::Ended => return report_end(config, pid),
            AgentProcess::Replaced(holder) => {
                return Err(Failure::new(format!(
                    "the agent (pid {pid}) has ended, but {holder}; perhaps cron or a service has started it: repeat `stop \
                     --drain` for that one"
                )));
            }
        }
        if Instant::now() >= records_due {
            records_due = Instant::now() + LOOK_AT_RECORDS;
            let backlog = load_backlog(config)?;
            let waited = reminder.due();
            if printed != Some(backlog) || waited.is_some() {
                print_line(format_args!("{}{}", backlog.summary(), waited.unwrap_or_default()));
                printed = Some(backlog);
            }
        }
        thread::sleep(LOOK);
    }
}

fn report_end(config: &Config, pid: u32) -> Result<(), Failure> {
    let backlog = load_backlog(config)?;
    if !backlog.is_done() {
        return Err(Failure::new(format!(
            "the agent (pid {pid}) ended before everything was delivered: {}; start it again",
            backlog.summary()
        )));
    }
    print_line(format_args!("Drained and stopped (pid {pid})."));
    print_backlog(config, backlog);
    Ok(())
}
