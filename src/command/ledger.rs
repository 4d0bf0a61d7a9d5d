//! `ledger`: the transfers to and from this machine, file by file.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::failure::Failure;
use super::find_task::BY_KEY;
use super::output::{OutputFormat, eprint_line, ignore_broken_pipe};
use crate::cli::LedgerArgs;
use crate::config::Config;
use crate::data_dir::permissions;
use crate::ledger::{Direction, Entry, Line, Reader, Report, Settled, TextSizes, Transfer};
use crate::task::TaskKey;
use crate::text::{escape, escape_json, quote_foreign};
use crate::units::Local;

/// Prints the lines that the options select: as a table, or as they are stored.
pub fn ledger(file: &Path, args: &LedgerArgs) -> Result<(), Failure> {
    let since = args.since.as_deref().map(parse_since).transpose().map_err(Failure::usage)?;
    let config = Config::load(file)?;
    let data_dir = &config.paths.data_dir;
    permissions::find(data_dir)?;
    config.check_data_dir_is_there()?;
    let unreadable = Failure::context(format!("the ledger in `{}` can't be read", data_dir.display()));
    let Some(mut reader) = Reader::open(data_dir).map_err(&unreadable)? else {
        eprint_line(format_args!("There is no ledger in `{}` yet: no file has been transferred.", data_dir.display()));
        return Ok(());
    };
    let is_wanted = |line: &Line| {
        args.task.as_ref().is_none_or(|task| is_about(line, task)) && since.is_none_or(|at| line.time >= at)
    };
    let mut printer = Printer::new(OutputFormat::from_flag(args.json));
    let mut printed = Ok(());
    while let Some((text, line)) = reader.next_line().map_err(&unreadable)? {
        if is_wanted(&line) {
            printed = printer.print(text, &line);
        }
        if printed.is_err() {
            break;
        }
    }
    if let Err(error) = printed.and_then(|()| printer.out.flush()) {
        return ignore_broken_pipe(Err(error));
    }
    if printer.printed == 0 {
        eprint_line("No line of the ledger matches the options.");
    }
    if reader.damaged() > 0 {
        eprint_line(format_args!("{} damaged line(s) were skipped.", reader.damaged()));
    }
    Ok(())
}

/// The name on this machine of the task that a line is about. One that was never here may have none.
fn name(line: &Line) -> Option<String> {
    line.key.clone().or_else(|| TaskKey::from_id(&line.task).map(|key| key.to_string()))
}

/// Whether a line is about a task with this name or this id. Those of several tasks have their names.
fn is_about(line: &Line, task: &str) -> bool {
    let is_name = |text: &str| name(line).is_some_and(|name| name == text);
    line.task == task || is_name(task) || task.strip_prefix(BY_KEY).is_some_and(is_name)
}

/// A day begins at midnight, local time.
pub(super) fn parse_since(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let midnight = Date::strptime("%Y-%m-%d", text).and_then(|day| day.to_zoned(TimeZone::system()));
    midnight.map(|midnight| midnight.timestamp()).map_err(|_| {
        format!(
            "`{text}` is no value for `--since`: give a day, such as 2026-11-01, or a time with its zone, such as \
             2026-11-01T12:00:00+01:00"
        )
    })
}

/// Writes one line after the other to standard output, and holds one at a time however long the ledger is.
struct Printer {
    out: BufWriter<io::StdoutLock<'static>>,
    format: OutputFormat,
    printed: u64,
    /// The Server and the service of the last heading.
    heading: Option<(String, String)>,
}

impl Printer {
    fn new(format: OutputFormat) -> Self {
        Self { out: BufWriter::new(io::stdout().lock()), format, printed: 0, heading: None }
    }

    fn print(&mut self, text: &str, line: &Line) -> io::Result<()> {
        self.printed += 1;
        if self.format == OutputFormat::Json {
            return writeln!(self.out, "{}", escape_json(text));
        }
        let is_under = |(server, service): &(String, String)| (server, service) == (&line.server, &line.service_id);
        if !self.heading.as_ref().is_some_and(is_under) {
            self.heading = Some((line.server.clone(), line.service_id.clone()));
            writeln!(self.out, "Server {}, service {}:", escape(&line.server), escape(&line.service_id))?;
            writeln!(self.out, "{}", row(["TIME", "TASK", "", "OUTCOME", "BYTES", "WHAT"]))?;
        }
        let time = Local(line.time).to_string();
        let task = name(line).unwrap_or_else(|| escape(&quote_foreign(&line.task)));
        let row = match &line.entry {
            Entry::File(transfer) => {
                let bytes = transfer.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
                let way = way(transfer.direction);
                row([&time, &task, way, transfer.outcome.as_str(), &bytes, &describe_file(transfer)])
            }
            Entry::Report(report) => {
                let bytes = report.bytes.to_string();
                let way = way(report.direction);
                row([&time, &task, way, report.outcome.as_str(), &bytes, &describe_report(report)])
            }
            Entry::Task(settled) => row([&time, &task, "", settled.status.as_str(), "-", &describe_end(settled)]),
        };
        writeln!(self.out, "{row}")
    }
}

fn row([time, task, way, outcome, bytes, what]: [&str; 6]) -> String {
    format!("{time:25}  {task:<24}  {way:3}  {outcome:<9}  {bytes:>12}  {what}")
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

fn describe_file(transfer: &Transfer) -> String {
    let mut text = match (&transfer.file, transfer.count) {
        (Some(name), _) => format!("`{}`", escape(name)),
        (None, count) => format!("{} more file(s)", count.unwrap_or_default()),
    };
    if let Some(id) = &transfer.file_id {
        text += &format!(", id {}", escape(id));
    }
    if let Some(attempt @ 2..) = transfer.attempt {
        text += &format!(", attempt {attempt}");
    }
    if let Some(began) = transfer.began {
        text += &format!(", begun {}", Local(began));
    }
    text + &because(transfer.reason.as_deref())
}

fn describe_report(report: &Report) -> String {
    let TextSizes { stdout_bytes, stderr_bytes, error_bytes } = report.text_sizes;
    format!(
        "report: {}, with {stdout_bytes} bytes of standard output, {stderr_bytes} of standard error and {error_bytes} of \
         the error message{}",
        report.status.as_str(),
        because(report.reason.as_deref())
    )
}

fn describe_end(settled: &Settled) -> String {
    let exit_code = settled.exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    format!(
        "end of the task: exit status {exit_code}, {} s, {} file(s) sent, {} left out{}",
        settled.duration_secs,
        settled.files_sent,
        settled.files_left_out,
        because(settled.reason.as_deref())
    )
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {}", escape(reason))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{describe_file, parse_since};
    use crate::ledger::{Direction, Outcome, Transfer};
    use jiff::{Timestamp, Zoned};

    #[test]
    fn since_accepts_a_local_day_or_a_time_with_a_zone() {
        let time: Timestamp = "2026-11-01T11:00:00Z".parse().unwrap();
        assert_eq!(parse_since("2026-11-01T12:00:00+01:00"), Ok(time));
        assert_eq!(parse_since("2026-11-01T11:00:00.000Z"), Ok(time));
        let midnight = parse_since("2026-11-01").unwrap().to_zoned(Zoned::now().time_zone().clone());
        assert_eq!(midnight.to_string().split_once('[').unwrap().0[..19], *"2026-11-01T00:00:00");
        for wrong in ["", "yesterday", "2026-13-01", "2026-11-01T12:00:00", "2026-11-01 x", "01.11.2026", "2026-02-30"]
        {
            let message = parse_since(wrong).unwrap_err();
            assert!(message.contains("2026-11-01T12:00:00+01:00"), "{wrong}: {message}");
        }
    }

    #[test]
    fn names_from_outside_are_escaped_in_rows() {
        let transfer = Transfer {
            file_id: Some("f\u{202e}".to_owned()),
            attempt: Some(2),
            reason: Some("no\u{1b}[2J".to_owned()),
            ..Transfer::new(Direction::Out, Outcome::Refused, "a\n2026 b")
        };
        let expected = "`a\\n2026 b`, id f\\u{202e}, attempt 2: no\\u{1b}[2J";
        assert_eq!(describe_file(&transfer), expected);
    }
}
