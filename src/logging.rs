//! The log: one line an event, with time and level.
//!
//! Only this program's own messages are written, at any `RUST_LOG`: an HTTP library at trace level would write keys.
//! Control characters are escaped, since many of the texts come from outside.

mod reminder;
mod rotating;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;
use env_logger::{Builder, Target};
use jiff::Zoned;
use log::kv::Key;
use log::{LevelFilter, Record};
use serde::Serialize;

use crate::os::folder::Folder;
use crate::text::escape;
pub use reminder::Reminder;
use rotating::RotatingFile;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Time, level and text, for people.
    Human,
    /// A JSON object, for machines.
    Json,
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    StandardError,
    /// Standard error until [`LogFile::open`], and then the file: for a detached agent, whose standard error is the same
    /// file, but which may write to it only while it holds the lock of its data_dir.
    File,
}

/// Starts the log. Colours are used only where standard error is a terminal. `RUST_LOG` may name a level (`debug`,
/// `agent_core=trace`); `info` is the default.
pub fn start(format: LogFormat, target: LogTarget) -> LogFile {
    let log_file = LogFile::default();
    let variable = std::env::var("RUST_LOG").unwrap_or_default();
    let mut builder = Builder::new();
    builder.filter_level(LevelFilter::Off);
    builder.filter_module("agent_core", level(&variable));
    builder.parse_write_style(&std::env::var("RUST_LOG_STYLE").unwrap_or_default());
    builder.target(match target {
        LogTarget::StandardError => Target::Stderr,
        LogTarget::File => Target::Pipe(Box::new(log_file.clone())),
    });
    match format {
        LogFormat::Human => builder.format(|out, record| {
            let style = out.default_level_style(record.level());
            let task = task_of(record).map(|task| format!("task {task}: ")).unwrap_or_default();
            let text = escape(&format!("{task}{}", record.args()));
            writeln!(out, "{} {style}{:<5}{style:#} {text}", now(), record.level())
        }),
        LogFormat::Json => builder.format(|out, record| writeln!(out, "{}", json(&now(), record)?)),
    };
    builder.init();
    let is_level = |directive: &str| directive.contains('=') || directive.trim().parse::<LevelFilter>().is_ok();
    if let Some(word) = variable.split(',').find(|directive| !directive.trim().is_empty() && !is_level(directive)) {
        log::warn!("RUST_LOG: `{word}` is no level; there are error, warn, info, debug, trace and off");
    }
    log_file
}

/// The log file of a detached agent. Clones are the same file.
#[derive(Clone, Default)]
pub struct LogFile(Arc<Mutex<Option<RotatingFile>>>);

impl LogFile {
    /// Sends all further lines to this file, which is rotated. The caller holds the lock of the data_dir.
    pub fn open(&self, folder: &Folder, name: &str) -> io::Result<()> {
        let file = RotatingFile::open(folder, name)?;
        *self.lock() = Some(file);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<RotatingFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.lock().as_mut() {
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

/// The level in `RUST_LOG`: that of `agent_core=LEVEL`, or a bare `LEVEL`.
fn level(variable: &str) -> LevelFilter {
    let mut chosen = LevelFilter::Info;
    for directive in variable.split(',') {
        let (module, word) = directive.split_once('=').unwrap_or(("agent_core", directive));
        if let (true, Ok(level)) = (module.trim() == "agent_core", word.trim().parse()) {
            chosen = level;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{json, level};
    use log::{Level, LevelFilter, Record};
    use serde_json::{Value, json as value};

    #[test]
    fn log_level_follows_rust_log() {
        assert_eq!(level(""), LevelFilter::Info);
        assert_eq!(level("debug"), LevelFilter::Debug);
        assert_eq!(level("ureq=trace,agent_core=warn"), LevelFilter::Warn);
        assert_eq!(level("ureq=trace"), LevelFilter::Info);
        assert_eq!(level("nonsense"), LevelFilter::Info);
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
