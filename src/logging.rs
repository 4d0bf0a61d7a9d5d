//! The log: one line an event, with time and level.
//!
//! Only this program's own messages are written, whatever `RUST_LOG` says: an HTTP library at trace level would write
//! keys. Control characters are escaped, since much of what is logged comes from outside.

mod rotating;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use env_logger::{Builder, Target};
use jiff::Zoned;
use log::kv::Key;
use log::{LevelFilter, Record};
use serde::Serialize;

use crate::text::escape;
use crate::units::Span;
use rotating::RotatingFile;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Time, level and text, for people.
    Human,
    /// A JSON object, for machines.
    Json,
}

/// The file of a detached agent, once it has its data_dir.
static FILE: Mutex<Option<RotatingFile>> = Mutex::new(None);

/// Sends log lines to standard error, in colour only where that is a terminal. `RUST_LOG` may name a level (`debug`,
/// `agent_core=trace`); `info` is the default.
pub fn start(form: LogFormat, detached: bool) {
    let mut builder = Builder::new();
    builder.filter_level(LevelFilter::Off);
    builder.filter_module("agent_core", level(std::env::var("RUST_LOG").ok().as_deref()));
    builder.parse_write_style(&std::env::var("RUST_LOG_STYLE").unwrap_or_default());
    builder.target(if detached { Target::Pipe(Box::new(FileOrStandardError)) } else { Target::Stderr });
    match form {
        LogFormat::Human => builder.format(|out, record| {
            let style = out.default_level_style(record.level());
            let task = task_of(record).map(|task| format!("task {task}: ")).unwrap_or_default();
            let text = escape(&format!("{task}{}", record.args()));
            writeln!(out, "{} {style}{:<5}{style:#} {text}", now(), record.level())
        }),
        LogFormat::Json => builder.format(|out, record| writeln!(out, "{}", json(&now(), record)?)),
    };
    builder.init();
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let is_word = |directive: &str| directive.contains('=') || directive.trim().parse::<LevelFilter>().is_ok();
    if let Some(word) = wanted.split(',').find(|directive| !directive.trim().is_empty() && !is_word(directive)) {
        log::warn!("RUST_LOG: `{word}` is no level; there are error, warn, info, debug, trace and off");
    }
}

/// From here on a detached agent's lines go to this file, which is rotated. Call it when the data_dir is ours.
pub fn write_to(path: PathBuf) -> io::Result<()> {
    let file = RotatingFile::open(path)?;
    *FILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(file);
    Ok(())
}

/// When a wait is worth a line: when it begins, every ten seconds during its first minute, and every ten minutes from
/// then on, so that one of days doesn't fill the log.
pub struct Reminder {
    began: Instant,
    next: Duration,
}

impl Reminder {
    /// A wait that begins now.
    pub fn begin() -> Self {
        Self { began: Instant::now(), next: Duration::ZERO }
    }

    /// Where the wait is worth a line now, the words that say how long it has taken; none for its first line.
    pub fn due(&mut self) -> Option<String> {
        self.due_after(self.began.elapsed())
    }

    fn due_after(&mut self, waited: Duration) -> Option<String> {
        if waited < self.next {
            return None;
        }
        let is_first = self.next.is_zero();
        self.next = waited + if waited < OFTEN_FOR { OFTEN } else { SELDOM };
        Some(if is_first { String::new() } else { format!(", {} so far", Span(waited)) })
    }
}

const OFTEN_FOR: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_secs(10);
const SELDOM: Duration = Duration::from_secs(600);

/// Where a detached agent logs: standard error, which is its file too, until it knows that nobody else writes there.
struct FileOrStandardError;

impl Write for FileOrStandardError {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match FILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).as_mut() {
            Some(file) => file.write_line(line)?,
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn now() -> String {
    Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// A line for machines (manual/operate.md, "The log").
#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    message: &'a str,
}

fn json(time: &str, record: &Record<'_>) -> io::Result<String> {
    let (task, message) = (task_of(record), record.args().to_string());
    let level = record.level().as_str().to_ascii_lowercase();
    Ok(serde_json::to_string(&JsonLine { time, level: &level, task: task.as_deref(), message: &message })?)
}

/// The key under which a message names its task: `log::info!(task:% = key; "…")`.
const TASK: &str = "task";

/// The task that a message is about, if it is about one.
fn task_of(record: &Record<'_>) -> Option<String> {
    record.key_values().get(Key::from_str(TASK)).map(|task| task.to_string())
}

/// The level that `RUST_LOG` asks of us: that of `agent_core=LEVEL`, or of a bare `LEVEL`.
fn level(variable: Option<&str>) -> LevelFilter {
    let mut chosen = LevelFilter::Info;
    for directive in variable.unwrap_or_default().split(',') {
        let (module, word) = directive.split_once('=').unwrap_or(("agent_core", directive));
        if let (true, Ok(level)) = (module.trim() == "agent_core", word.trim().parse()) {
            chosen = level;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{Reminder, escape, json, level};
    use log::{Level, LevelFilter, Record};
    use serde_json::{Value, json as value};
    use std::time::Duration;

    #[test]
    fn text_from_outside_stays_on_one_line() {
        assert_eq!(escape("a\nINFO b\r\t\u{1b}[31m\u{202e}"), "a\\nINFO b\\r\\t\\u{1b}[31m\\u{202e}");
        assert_eq!(escape("héllo — 世界"), "héllo — 世界");
    }

    #[test]
    fn reminders_are_frequent_for_a_minute_and_rare_afterwards() {
        let mut reminder = Reminder::begin();
        let said = (0..3600).filter_map(|second| {
            let words = reminder.due_after(Duration::from_secs(second))?;
            assert_eq!(words.is_empty(), second == 0, "{words}");
            Some(second)
        });
        assert_eq!(said.collect::<Vec<_>>(), [0, 10, 20, 30, 40, 50, 60, 660, 1260, 1860, 2460, 3060]);
    }

    #[test]
    fn log_level_follows_rust_log() {
        assert_eq!(level(None), LevelFilter::Info);
        assert_eq!(level(Some("debug")), LevelFilter::Debug);
        assert_eq!(level(Some("ureq=trace,agent_core=warn")), LevelFilter::Warn);
        assert_eq!(level(Some("ureq=trace")), LevelFilter::Info);
        assert_eq!(level(Some("nonsense")), LevelFilter::Info);
    }

    #[test]
    fn json_lines_have_the_task_in_a_field() {
        let line = |pairs: &[(&str, &str)]| {
            let args = format_args!("task b: accepted");
            let record = Record::builder().level(Level::Warn).args(args).key_values(&pairs).build();
            serde_json::from_str::<Value>(&json("now", &record).unwrap()).unwrap()
        };
        assert_eq!(line(&[]), value!({"time": "now", "level": "warn", "message": "task b: accepted"}));
        let expected = value!({"time": "now", "level": "warn", "task": "a-1", "message": "task b: accepted"});
        assert_eq!(line(&[("task", "a-1")]), expected);
    }
}
