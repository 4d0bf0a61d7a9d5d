//! `ledger --sum`: what has come and gone, by day and task.

use std::collections::{BTreeMap, HashSet, hash_map::DefaultHasher};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Style;
use crate::command::table::{Cell, Table};
use crate::ledger::{Entry, Line, Outcome, Report, Transfer};
use crate::text::{escape, quote_foreign};
use crate::units::Bytes;

/// How long a bar is, at most.
const BAR: usize = 20;

/// Files and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    files: u64,
    bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Amounts {
    received: Amount,
    /// Files that the Server has.
    sent: Amount,
    /// Reports that the Server has.
    reports: Amount,
    /// Attempts of which all, some or no bytes have left this machine.
    uncertain: Amount,
}

impl Amounts {
    fn add(&mut self, other: &Self) {
        self.received.add(other.received);
        self.sent.add(other.sent);
        self.reports.add(other.reports);
        self.uncertain.add(other.uncertain);
    }
}

/// The sum of the lines that were added.
#[derive(Debug, Default)]
pub struct Sum {
    rows: BTreeMap<(Date, String), Amounts>,
    servers: BTreeMap<String, Amounts>,
    /// The ids of files that were counted, hashed: the ledger may have a file twice, after a crash.
    counted: HashSet<u64>,
}

impl Sum {
    /// Adds a line about the task with this name.
    pub fn add(&mut self, line: &Line, name: Option<String>) {
        let mut amounts = Amounts::default();
        match &line.entry {
            Entry::File(transfer) => {
                let Transfer { outcome, bytes, count, file_id, .. } = transfer;
                let amount = Amount { files: count.unwrap_or(1), bytes: bytes.unwrap_or_default() };
                let is_again = file_id.as_ref().is_some_and(|id| !self.counted.insert(hash(&(&line.task, id))));
                match outcome {
                    Outcome::Received | Outcome::Sent if is_again => {}
                    Outcome::Received => amounts.received = amount,
                    Outcome::Sent => amounts.sent = amount,
                    Outcome::Refused | Outcome::Failed | Outcome::Unknown => amounts.uncertain = amount,
                    // What is packed is counted with its archive.
                    Outcome::LeftOut | Outcome::Removed | Outcome::Packed => {}
                }
            }
            Entry::Report(Report { outcome, bytes, .. }) => {
                let amount = Amount { files: 1, bytes: *bytes };
                let is_certain = *outcome == Outcome::Sent;
                *(if is_certain { &mut amounts.reports } else { &mut amounts.uncertain }) = amount;
            }
            Entry::Task(_) => {}
        }
        let name = name.unwrap_or_else(|| escape(&quote_foreign(&line.task)));
        let day = line.time.to_zoned(TimeZone::system()).date();
        self.rows.entry((day, name)).or_default().add(&amounts);
        self.servers.entry(line.server.clone()).or_default().add(&amounts);
    }

    /// Prints the table, and below it the sums of each Server.
    pub fn print(&self, out: &mut impl Write, room: Option<usize>) -> io::Result<()> {
        let headings = ["DAY", "TASK", "RECEIVED", "SENT", "REPORTS", "UNCERTAIN", ""];
        let is_number = |heading: &str| (2..=5).any(|column| headings[column] == heading);
        let cell = |text: &str| if is_number(text) { Cell::right(text) } else { Cell::new(text) };
        let mut table = Table::new(headings.map(cell));
        let left = |amounts: &Amounts| amounts.sent.bytes.saturating_add(amounts.reports.bytes);
        let most = self.rows.values().map(left).max().unwrap_or_default();
        for ((day, name), amounts) in &self.rows {
            table.push([
                Cell::new(day.to_string()),
                Cell::new(name),
                Cell::right(files(amounts.received)),
                Cell::right(files(amounts.sent)),
                Cell::right(bytes(amounts.reports)),
                Cell::right(bytes(amounts.uncertain)),
                Cell::new(bar(left(amounts), most)),
            ]);
        }
        for line in table.lines(Style::of_stdout(), room) {
            writeln!(out, "{line}")?;
        }
        let tasks: HashSet<&str> = self.rows.keys().map(|(_, name)| name.as_str()).collect();
        writeln!(out, "\n{} task(s):", tasks.len())?;
        for (server, Amounts { received, sent, reports, uncertain }) in &self.servers {
            let server = escape(server);
            writeln!(out, "from {server}: {} file(s), {}", received.files, Bytes(received.bytes))?;
            write!(
                out,
                "to {server}: {} file(s), {}, and {} report(s), {}",
                sent.files,
                Bytes(sent.bytes),
                reports.files,
                Bytes(reports.bytes)
            )?;
            match uncertain.files {
                0 => writeln!(out)?,
                count => writeln!(out, "; at most {} more in {count} attempt(s) that failed", Bytes(uncertain.bytes))?,
            }
        }
        Ok(())
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn files(amount: Amount) -> String {
    if amount.files == 0 { "-".to_owned() } else { format!("{}: {}", amount.files, Bytes(amount.bytes)) }
}

fn bytes(amount: Amount) -> String {
    if amount.files == 0 { "-".to_owned() } else { Bytes(amount.bytes).to_string() }
}

/// A bar for a part of the most.
fn bar(part: u64, most: u64) -> String {
    let length = if most == 0 { 0 } else { (part as f64 / most as f64 * BAR as f64).ceil() as usize };
    "█".repeat(length.min(BAR))
}

#[cfg(test)]
mod tests {
    use super::{Sum, bar};
    use serde_json::{Value, json};

    fn add(sum: &mut Sum, entry: Value) {
        let mut line = json!({"time": "2026-11-01T12:00:00Z", "task": "t-1", "server": "http://h", "service_id": "s"});
        line.as_object_mut().unwrap().extend(entry.as_object().unwrap().clone());
        sum.add(&serde_json::from_value(line).unwrap(), Some("t-1".to_owned()));
    }

    fn file(outcome: &str, id: &str, bytes: u64) -> Value {
        let direction = if outcome == "received" { "in" } else { "out" };
        json!({"kind": "file", "direction": direction, "outcome": outcome, "file": "f", "file_id": id, "bytes": bytes})
    }

    #[test]
    fn files_count_once_and_failed_attempts_apart() {
        let mut sum = Sum::default();
        for (outcome, id, bytes) in
            [("received", "a", 10), ("sent", "b", 2000), ("sent", "b", 2000), ("sent", "c", 1), ("left_out", "d", 999)]
        {
            add(&mut sum, file(outcome, id, bytes));
        }
        add(&mut sum, json!({"kind": "file", "direction": "out", "outcome": "failed", "file": "f", "bytes": 500}));
        let report = json!({"kind": "report", "direction": "out", "outcome": "sent", "status": "completed", "bytes": 100,
            "stdout_bytes": 0, "stderr_bytes": 0, "error_bytes": 0});
        add(&mut sum, report);
        let mut printed = Vec::new();
        sum.print(&mut printed, None).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        let row = printed.lines().nth(1).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words[1..], ["t-1", "1:", "10", "B", "2:", "2.00", "kB", "100", "B", "500", "B", &"█".repeat(20)]);
        let expected = "\n1 task(s):\nfrom http://h: 1 file(s), 10 B\n\
                        to http://h: 2 file(s), 2.00 kB, and 1 report(s), 100 B; at most 500 B more in 1 attempt(s) that \
                        failed\n";
        assert!(printed.ends_with(expected), "{printed}");
    }

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        assert_eq!([bar(0, 0), bar(0, 9), bar(1, 1000)], ["", "", "█"]);
        assert_eq!((bar(5, 10).chars().count(), bar(10, 10).chars().count()), (10, 20));
    }
}
