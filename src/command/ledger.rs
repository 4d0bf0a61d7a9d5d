//! `ledger`: the transfers to and from this machine, file by file.

mod sum;

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use jiff::tz::TimeZone;

use super::failure::Failure;
use super::find_task::{BY_KEY, ambiguous};
use super::output::{OutputFormat, eprint_line, ignore_broken_pipe};
use super::style::{Colour, Style};
use super::time_range::TimeRange;
use crate::cli::LedgerArgs;
use crate::config::Config;
use crate::data_dir::{DataDir, permissions};
use crate::ledger::{Direction, Entry, Line, Outcome, Reader, Report, Settled, TextSizes, Transfer};
use crate::os::terminal;
use crate::task::TaskKey;
use crate::text::{begin, escape, escape_json, fit, quote_foreign};
use crate::units::{Bytes, Local};
use sum::Sum;

/// How many names are remembered of those that begin with what `--task` says.
const NAMES_MAX: usize = 100;
/// How much of a name is shown where lines are cut.
const SHORT_NAME: usize = 8;

/// Prints the lines that the options select: as a table, as they are stored, or added up.
pub fn ledger(file: &Path, args: &LedgerArgs) -> Result<(), Failure> {
    let range = TimeRange::parse(args.since.as_deref(), args.until.as_deref())?;
    let (config, _) = Config::load_to_look(file)?;
    let data_dir = &config.paths.data_dir;
    permissions::find(data_dir)?;
    config.check_data_dir_is_there()?;
    let unreadable = Failure::context(format!("the ledger in `{}` can't be read", data_dir.display()));
    let task = args.task.as_deref().map(|task| find_name(data_dir, task, &unreadable)).transpose()?;
    let Some(mut reader) = Reader::open(data_dir).map_err(&unreadable)? else {
        eprint_line(format_args!("There is no ledger in `{}` yet: no file has been transferred.", data_dir.display()));
        return Ok(());
    };
    let is_wanted = |line: &Line| {
        task.as_ref().is_none_or(|task| is_about(line, task))
            && range.has(line.time)
            && (!args.out || may_have_left(line))
    };
    let mut sum = args.sum.then(Sum::default);
    let mut printer = Printer::new(OutputFormat::from_flag(args.json), args.no_trunc);
    let (mut found, mut printed) = (0_u64, Ok(()));
    while let Some((text, line)) = reader.next_line().map_err(&unreadable)? {
        if is_wanted(&line) {
            found += 1;
            match &mut sum {
                Some(sum) => sum.add(&line, name(&line)),
                None => printed = printer.print(text, &line),
            }
        }
        if printed.is_err() {
            break;
        }
    }
    if let Some(sum) = sum.filter(|_| found > 0) {
        printed = sum.print(&mut printer.out, terminal::width());
    }
    if let Err(error) = printed.and_then(|()| printer.out.flush()) {
        return ignore_broken_pipe(Err(error));
    }
    if found == 0 {
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

/// The name or id that `text` is, or the only name that begins with it.
fn find_name(data_dir: &DataDir, text: &str, unreadable: impl Fn(io::Error) -> Failure) -> Result<String, Failure> {
    let Some(mut reader) = Reader::open(data_dir).map_err(&unreadable)? else { return Ok(text.to_owned()) };
    let prefix = text.strip_prefix(BY_KEY).unwrap_or(text);
    let mut names = BTreeSet::new();
    while let Some((_, line)) = reader.next_line().map_err(&unreadable)? {
        if is_about(&line, text) {
            return Ok(text.to_owned());
        }
        let begins_so = name(&line).filter(|name| !prefix.is_empty() && name.starts_with(prefix));
        if names.len() < NAMES_MAX {
            names.extend(begins_so);
        }
    }
    match (names.len(), names.first()) {
        (1, Some(name)) => Ok(format!("{BY_KEY}{name}")),
        (0, _) => Ok(text.to_owned()),
        _ => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            Err(ambiguous(&quote_foreign(text), names.into_iter()))
        }
    }
}

/// Whether a line is about bytes that have left this machine, or may have left it.
fn may_have_left(line: &Line) -> bool {
    match &line.entry {
        Entry::File(Transfer { direction, outcome, .. }) | Entry::Report(Report { direction, outcome, .. }) => {
            *direction == Direction::Out && !matches!(outcome, Outcome::LeftOut | Outcome::Removed)
        }
        Entry::Task(_) => false,
    }
}

/// Writes one line after the other to standard output, and holds one at a time however long the ledger is.
struct Printer {
    out: BufWriter<io::StdoutLock<'static>>,
    format: OutputFormat,
    style: Style,
    /// The columns of the terminal; `None` where nothing is cut.
    room: Option<usize>,
    /// The Server and the service of the last heading.
    heading: Option<(String, String)>,
    /// The columns of the names under that heading.
    name_width: usize,
}

impl Printer {
    fn new(format: OutputFormat, is_whole: bool) -> Self {
        Self {
            out: BufWriter::new(io::stdout().lock()),
            format,
            style: Style::of_stdout(),
            room: terminal::width().filter(|_| !is_whole),
            heading: None,
            name_width: 0,
        }
    }

    fn print(&mut self, text: &str, line: &Line) -> io::Result<()> {
        if self.format == OutputFormat::Json {
            return writeln!(self.out, "{}", escape_json(text));
        }
        let whole_name = name(line).unwrap_or_else(|| escape(&quote_foreign(&line.task)));
        let name = if self.room.is_some() { begin(&whole_name, SHORT_NAME) } else { &whole_name };
        let is_under = |(server, service): &(String, String)| (server, service) == (&line.server, &line.service_id);
        if !self.heading.as_ref().is_some_and(is_under) {
            self.heading = Some((line.server.clone(), line.service_id.clone()));
            // A Server's ids have the same length, as a rule.
            self.name_width = if self.room.is_some() { SHORT_NAME } else { name.len().max(24) };
            writeln!(self.out, "Server {}, service {}:", escape(&line.server), escape(&line.service_id))?;
            self.print_row(["TIME", "TASK", "", "OUTCOME", "BYTES", "WHAT"], Some(Colour::Faint))?;
        }
        let time = match self.room {
            Some(_) => line.time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
            None => Local(line.time).to_string(),
        };
        let is_short = self.room.is_some();
        let bytes = |bytes: u64| if is_short { Bytes(bytes).to_string() } else { bytes.to_string() };
        let (way, outcome, bytes, what) = match &line.entry {
            Entry::File(transfer) => {
                let bytes = transfer.bytes.map_or_else(|| "-".to_owned(), bytes);
                (way(transfer.direction), transfer.outcome.as_str(), bytes, describe_file(transfer))
            }
            Entry::Report(report) => {
                (way(report.direction), report.outcome.as_str(), bytes(report.bytes), describe_report(report))
            }
            Entry::Task(settled) => ("", settled.status.as_str(), "-".to_owned(), describe_end(settled)),
        };
        self.print_row([&time, name, way, outcome, &bytes, &what], colour(outcome))
    }

    fn print_row(
        &mut self,
        [time, task, way, outcome, bytes, what]: [&str; 6],
        colour: Option<Colour>,
    ) -> io::Result<()> {
        let width = self.name_width;
        let Some(room) = self.room else {
            return writeln!(self.out, "{time:25}  {task:<width$}  {way:3}  {outcome:<9}  {bytes:>12}  {what}");
        };
        let row = format!("{time:19}  {task:<width$}  {way:3}  {outcome:<9}  {bytes:>7}  {what}");
        writeln!(self.out, "{}", self.style.paint(&fit(&row, room), colour))
    }
}

fn colour(outcome: &str) -> Option<Colour> {
    match outcome {
        "refused" | "failed" => Some(Colour::Bad),
        "unknown" | "left_out" | "removed" => Some(Colour::Notice),
        _ => None,
    }
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
    if let Some(archive) = &transfer.archive {
        text += &format!(", in `{}`", escape(archive));
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
    use super::describe_file;
    use crate::ledger::{Direction, Outcome, Transfer};

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
