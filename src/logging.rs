//! The log: one line an event, with time and level.
//!
//! Only this program's own messages are written, at any `RUST_LOG`: an HTTP library at trace level would write keys.
//! Control characters are escaped, since many of the texts come from outside.

mod reminder;
mod rotating;
mod share;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clap::ValueEnum;
use env_logger::{Builder, Target};
use jiff::Zoned;
use log::kv::Key;
use log::{Level, LevelFilter, Record};
use serde::Serialize;

use crate::os::folder::Folder;
use crate::text::{cut, escape, escape_json};
pub use reminder::Reminder;
use rotating::RotatingFile;
use share::{ALL, ONE, Shares, Size, Verdict};

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
    // `log::set_max_level` decides, so that the level can change.
    builder.filter_module("agent_core", LevelFilter::Trace);
    builder.parse_write_style(&std::env::var("RUST_LOG_STYLE").unwrap_or_default());
    builder.target(match target {
        LogTarget::StandardError => Target::Stderr,
        LogTarget::File => Target::Pipe(Box::new(log_file.clone())),
    });
    let shares = Mutex::new(Shares::default());
    // The lines of a command that does the agent's work stand on standard error, and in the agent's log as well.
    let copy = (target == LogTarget::StandardError).then(|| log_file.clone());
    builder.format(move |out, record| {
        let style = out.default_level_style(record.level());
        let lines = lines(format, record, &mut shares.lock().unwrap_or_else(PoisonError::into_inner));
        for Line { level, text } in lines {
            if let Some(copy) = &copy {
                copy.add(format, level, &text);
            }
            match format {
                LogFormat::Human => writeln!(out, "{} {style}{level:<5}{style:#} {text}", now())?,
                LogFormat::Json => writeln!(out, "{text}")?,
            }
        }
        Ok(())
    });
    builder.init();
    log::set_max_level(level(&variable));
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

    /// Adds a line to the file, where one is open. What can't be written there stands on standard error.
    fn add(&self, format: LogFormat, level: Level, text: &str) {
        if let Some(file) = self.lock().as_mut() {
            let line = match format {
                LogFormat::Human => format!("{} {level:<5} {text}\n", now()),
                LogFormat::Json => format!("{text}\n"),
            };
            let _ = file.write_line(line.as_bytes());
        }
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

/// A line of the log: for people its text, for machines the whole line.
struct Line {
    level: Level,
    text: String,
}

impl Line {
    fn new(format: LogFormat, level: Level, (task, message): (Option<&str>, &str), limit: usize) -> Self {
        let text = match format {
            LogFormat::Human => {
                let task = task.map(|task| format!("task {task}: ")).unwrap_or_default();
                cut(&escape(&format!("{task}{message}")), limit).into_owned()
            }
            LogFormat::Json => json(&now(), level, task, &cut(message, limit)),
        };
        Self { level, text }
    }
}

/// The lines that are written for a message: none where its share of the log is used up, and one more where that begins
/// or ends. What an operator asked for with `debug` or `trace` is written without a limit.
fn lines(format: LogFormat, record: &Record<'_>, shares: &mut Shares) -> Vec<Line> {
    let (level, task) = (record.level(), task_of(record));
    let is_command = record.key_values().get(Key::from_str(COMMAND)).is_some();
    let limit = if is_command { COMMAND_MAX } else { MESSAGE_MAX };
    let line = Line::new(format, level, (task.as_deref(), &record.args().to_string()), limit);
    if level > Level::Info {
        return vec![line];
    }
    let place = || format!("{}:{}", record.module_path().unwrap_or_default(), record.line().unwrap_or_default());
    // Warnings about a task must not keep out the few lines that say what became of it.
    let name = match &task {
        Some(task) if level == Level::Info => format!("info {task}"),
        Some(task) => task.clone(),
        None => place(),
    };
    let about = if task.is_some() { "about this task" } else { "like the last ones" };
    let bytes = line.text.len();
    let mut take = |name: &str, size: Size, task: Option<&str>, about: &str| {
        let note = |text: String| Line::new(format, Level::Warn, (task, &text), MESSAGE_MAX);
        match shares.take(name, size, bytes, Instant::now()) {
            Verdict::Write { left_out: 0 } => (true, None),
            Verdict::Write { left_out } => {
                (true, Some(note(format!("{left_out} line(s) {about} were left out of the log"))))
            }
            Verdict::FirstLeftOut => {
                let text =
                    format!("lines {about} have filled their share of the log; more are left out for up to an hour");
                (false, Some(note(text)))
            }
            Verdict::LeftOut => (false, None),
        }
    };
    let (mut is_written, note) = take(&name, ONE, task.as_deref(), about);
    let mut lines: Vec<Line> = note.into_iter().collect();
    if is_written && task.is_some() && level <= Level::Warn {
        let (is_in_share, note) = take("", ALL, None, "with warnings and errors of tasks");
        is_written = is_in_share;
        lines.extend(note);
    }
    lines.extend(Some(line).filter(|_| is_written));
    lines
}

fn json(time: &str, level: Level, task: Option<&str>, message: &str) -> String {
    let level = level.as_str().to_ascii_lowercase();
    // Texts have a JSON form.
    let line = serde_json::to_string(&JsonLine { time, level: &level, task, message }).unwrap_or_default();
    escape_json(&line).into_owned()
}

/// The key under which a message names its task: `log::info!(task:% = key; "…")`.
const TASK: &str = "task";
/// The key of a message that is a command: `log::info!(task:% = key, command = true; "…")`.
const COMMAND: &str = "command";
/// The longest message, in bytes.
const MESSAGE_MAX: usize = 2000;
/// The longest command, which must stay whole to be pasted. Its words are the operator's.
const COMMAND_MAX: usize = 128 * 1024;

/// The task that a message is about, if it is about one.
fn task_of(record: &Record<'_>) -> Option<String> {
    record.key_values().get(Key::from_str(TASK)).map(|task| task.to_string())
}

/// Changes how much is logged, to this level of `RUST_LOG`'s. Returns the one that counts now: another text changes nothing.
pub fn set_level(word: &str) -> String {
    if let Ok(level) = word.parse() {
        log::set_max_level(level);
    }
    log::max_level().as_str().to_ascii_lowercase()
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
    use super::{LogFormat, MESSAGE_MAX, Shares, level, lines};
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

    fn written(format: LogFormat, text: &str, pairs: &[(&str, &str)], shares: &mut Shares) -> Vec<String> {
        let args = format_args!("{text}");
        let record = Record::builder().level(Level::Warn).args(args).key_values(&pairs).build();
        lines(format, &record, shares).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn json_lines_have_the_task_in_a_field() {
        let line = |pairs: &[(&str, &str)]| {
            let lines = written(LogFormat::Json, "task b: accepted", pairs, &mut Shares::default());
            let mut line: Value = serde_json::from_str(&lines[0]).unwrap();
            assert!(line.as_object_mut().unwrap().remove("time").is_some());
            line
        };
        assert_eq!(line(&[]), value!({"level": "warn", "message": "task b: accepted"}));
        let expected = value!({"level": "warn", "task": "a-1", "message": "task b: accepted"});
        assert_eq!(line(&[("task", "a-1")]), expected);
    }

    #[test]
    fn messages_are_cut_and_commands_are_not() {
        let long = "\u{1b}".repeat(3000);
        for format in [LogFormat::Human, LogFormat::Json] {
            let text = &written(format, &long, &[("task", "t")], &mut Shares::default())[0];
            assert!(text.len() < 13_000 && text.contains("more bytes)"), "{}", text.len());
            assert!(!text.contains('\u{1b}'));
        }
        let text = &written(LogFormat::Human, &long, &[], &mut Shares::default())[0];
        assert!(text.len() < MESSAGE_MAX + 50, "{}", text.len());
        let command = format!("docker run {}", "x".repeat(10_000));
        let lines = written(LogFormat::Human, &command, &[("command", "true")], &mut Shares::default());
        assert_eq!(lines, [command]);
    }

    #[test]
    fn a_flood_of_one_task_ends_and_is_named() {
        let mut shares = Shares::default();
        let long = "x".repeat(1000);
        let all: Vec<String> =
            (0..10_000).flat_map(|_| written(LogFormat::Human, &long, &[("task", "t")], &mut shares)).collect();
        assert!(all.len() < 300, "{}", all.len());
        assert!(all.last().unwrap().starts_with("task t: lines about this task have filled their share"));
        assert_eq!(written(LogFormat::Human, "fine", &[("task", "u")], &mut shares), ["task u: fine"]);
        let pairs = [("task", "t")];
        let record = Record::builder().level(Level::Info).args(format_args!("accepted")).key_values(&pairs).build();
        assert_eq!(lines(LogFormat::Human, &record, &mut shares)[0].text, "task t: accepted");
    }

    #[test]
    fn a_flood_of_many_tasks_ends_and_is_named() {
        let mut shares = Shares::default();
        let long = "x".repeat(1000);
        let mut all = Vec::new();
        for number in 0..100 {
            let id = number.to_string();
            (0..1000).for_each(|_| all.extend(written(LogFormat::Human, &long, &[("task", &id)], &mut shares)));
        }
        let bytes: usize = all.iter().map(String::len).sum();
        assert!((1_000_000..1_200_000).contains(&bytes), "{bytes}");
        let said = "lines with warnings and errors of tasks have filled their share of the log";
        assert_eq!(all.iter().filter(|line| line.starts_with(said)).count(), 1);
    }
}
