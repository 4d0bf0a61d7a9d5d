//! What a person at a terminal looks for in `status`: three lines, and the tasks.

use std::time::Duration;

use jiff::Timestamp;

use super::Report;
use crate::agent::status_file::EngineState;
use crate::command::find_task::Names;
use crate::command::style::{Colour, Style};
use crate::command::task_view::AgentState;
use crate::command::tasks::{TableOptions, table_lines};
use crate::config::Config;
use crate::os::terminal;
use crate::text::{escape, fit};
use crate::units::Span;

/// The three lines and a table of the unfinished tasks, above the lines of the report; `None` where standard output is no
/// terminal.
pub fn for_terminal(report: &Report<'_>, config: &Config) -> Option<String> {
    let room = terminal::width()?;
    let style = Style::of_stdout();
    let mut text = String::new();
    for (line, colour) in [running(report), server(report), slots(report)] {
        // The sign tells also where there are no colours.
        let sign = match colour {
            Colour::Good => "●",
            Colour::Notice | Colour::Faint => "○",
            Colour::Bad => "✗",
        };
        let line = fit(&escape(&line), room.saturating_sub(2));
        text += &format!("{} {line}\n", style.paint(sign, Some(colour)));
    }
    if !report.tasks.is_empty() {
        let agent = if report.running { AgentState::Running } else { AgentState::NotRunning };
        // Without the names, they are shown as they are.
        let names = Names::load(config).ok()?;
        let options = TableOptions::new(&config.paths.data_dir, names, agent, false);
        text += &format!("\n{}\n", table_lines(&report.tasks, &options).join("\n"));
    }
    Some(text + "\n")
}

fn running(report: &Report<'_>) -> (String, Colour) {
    if !report.running {
        return ("not running".to_owned(), Colour::Bad);
    }
    let time = report.uptime().map(|time| format!(" for {}", Span(time))).unwrap_or_default();
    let version = report.version.as_ref().map(|version| format!(", version {version}")).unwrap_or_default();
    let pid = report.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    (format!("running{time}{version}{pid}"), Colour::Good)
}

fn server(report: &Report<'_>) -> (String, Colour) {
    let since = report.last_heartbeat_at.and_then(|at| Duration::try_from(Timestamp::now().duration_since(at)).ok());
    let heartbeat = since.map(|since| format!(", last heartbeat {} ago", Span(since))).unwrap_or_default();
    match (&report.server_message, report.server) {
        (Some(message), word) => (format!("Server {word}: {message}"), Colour::Bad),
        (None, "reached") => (format!("Server reached{heartbeat}"), Colour::Good),
        (None, _) if report.running => ("Server not reached yet".to_owned(), Colour::Notice),
        (None, _) => (format!("Server {}{heartbeat}", report.server_url), Colour::Faint),
    }
}

fn slots(report: &Report<'_>) -> (String, Colour) {
    let slots =
        format!("{} of {} slots taken, {} undelivered", report.slots_taken, report.capacity, report.undelivered);
    match (&report.not_accepting, report.accepting) {
        _ if !report.running => match &report.paused {
            Some(pause) => (format!("{slots}; {pause}"), Colour::Notice),
            None => (slots, Colour::Faint),
        },
        (Some(why), _) => {
            let colour = if report.engine == EngineState::Away { Colour::Bad } else { Colour::Notice };
            (format!("{slots}; no new task: {why}"), colour)
        }
        (None, Some(_)) => (format!("{slots}; new tasks are accepted"), Colour::Good),
        (None, None) => (slots, Colour::Notice),
    }
}
