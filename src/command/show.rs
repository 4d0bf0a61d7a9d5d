//! `show`: everything that is known of one task.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::failure::Failure;
use super::find_task::find_task;
use super::output::{OutputFormat, print_output, to_pretty_json};
use super::style::{Colour, Style};
use super::task_view::{TaskView, Tasks};
use super::tasks::add_state;
use crate::cli::ShowArgs;
use crate::config::Config;
use crate::data_dir::permissions;
use crate::server::FinalStatus;
use crate::server::protocol::{InputFile, LeftOut, Task};
use crate::task::{Phase, Record, TaskFiles, Uploads};
use crate::text::{escape, escape_lines};
use crate::units::{Bytes, Local, Span};

/// How long a bar is, at most.
const BAR: usize = 40;

/// A task, as `--json` prints it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    view: TaskView,
    /// Where the record, the logs and the command lie.
    folder: PathBuf,
    /// The script with the `docker run` command, once there is one.
    command: Option<PathBuf>,
    /// What was asked for; `None` where the offer isn't kept any more.
    offer: Option<Task>,
    /// The names of the files that the Server has.
    sent: Vec<String>,
    left_out: Vec<LeftOut>,
    steps: Vec<Step>,
}

/// A step of the task's way and how long it took.
#[derive(Debug, PartialEq, Serialize)]
struct Step {
    what: &'static str,
    began: Timestamp,
    seconds: f64,
}

/// Prints one task.
pub fn show(file: &Path, args: &ShowArgs) -> Result<(), Failure> {
    let (config, _) = Config::load_to_look(file)?;
    let data_dir = &config.paths.data_dir;
    permissions::find(data_dir)?;
    config.check_data_dir_is_there()?;
    let (files, record) = find_task(&config, &args.id)?;
    let offer = files.load_offer().map_err(Failure::context("the task's offer can't be read"))?;
    // A record of an older version has the whole offer.
    let offer = offer.or_else(|| Some(record.task.clone()).filter(|task| *task != of_id_only(task)));
    let uploads = Uploads::read(&files).map_err(Failure::context("the task's uploads can't be read"))?;
    let steps = steps(&record, Timestamp::now());
    let mut tasks = Tasks { all: vec![TaskView::new(data_dir, &files, record)], damaged: Vec::new() };
    let agent = add_state(data_dir, &mut tasks);
    let Some(view) = tasks.all.pop() else { return Ok(()) };
    let command = Some(files.command()).filter(|command| command.exists());
    let sent = uploads.names_sent();
    let state = view.describe(agent);
    let shown = Shown { view, folder: files.folder(), command, offer, sent, left_out: uploads.left_out, steps };
    print_output(match OutputFormat::from_flag(args.json) {
        OutputFormat::Json => to_pretty_json(&shown)? + "\n",
        OutputFormat::Text => shown.to_text(state, &files, Style::of_stdout()),
    })
}

fn of_id_only(task: &Task) -> Task {
    Task { id: task.id.clone(), ..Task::default() }
}

impl Shown {
    fn to_text(&self, state: &str, files: &TaskFiles, style: Style) -> String {
        let view = &self.view;
        let colour = match view.outcome {
            Some(FinalStatus::Failed) => Some(Colour::Bad),
            Some(FinalStatus::Completed) => Some(Colour::Good),
            _ => None,
        };
        let mut text = format!("Task {}{}\n", view.key, view.shown_id());
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{:<13}{value}", format!("{name}:"));
        };
        let since = view.since.map(|since| format!(", since {}", Local(since))).unwrap_or_default();
        line("State", &(style.paint(state, colour) + &since));
        if let Some(why) = &view.held_up_by {
            line("Held up", &escape(why));
        }
        line("Offered", &Local(view.offered_at).to_string());
        line("Service", &escape(&view.service_id));
        if let Some(code) = view.exit_code {
            line("Exit status", &code.to_string());
        }
        if let Some(container) = &view.container {
            line("Container", container);
        }
        if let Some(command) = &self.command {
            line("Command", &command.display().to_string());
        }
        line("Logs", &format!("{}, {}", files.stdout().display(), files.stderr().display()));
        line("Record", &self.folder.display().to_string());
        match &view.workspace {
            Some(workspace) => line("Workspace", &workspace.display().to_string()),
            None => line("Workspace", "not kept any more"),
        }
        if let Some(message) = &view.error_message {
            paragraph(&mut text, "Reason", message);
        }
        match &self.offer {
            Some(offer) => add_offer(&mut text, offer),
            None => text += "\nPrompt: not kept any more\n",
        }
        self.add_results(&mut text);
        add_steps(&mut text, &self.steps);
        text
    }

    fn add_results(&self, text: &mut String) {
        let _ = writeln!(text, "\nResults: {} sent, {} left out", self.view.files_sent, self.view.files_left_out);
        for name in &self.sent {
            let _ = writeln!(text, "  {}", escape(name));
        }
        for LeftOut { file, reason } in &self.left_out {
            let _ = writeln!(text, "  {} stays here: {}", escape(file), escape(reason));
        }
    }
}

fn add_offer(text: &mut String, offer: &Task) {
    paragraph(text, "Prompt", &offer.task_prompt);
    if let Some(prompt) = offer.output_prompt.as_deref().filter(|prompt| !prompt.is_empty()) {
        paragraph(text, "Output prompt", prompt);
    }
    let _ = writeln!(text, "\nInput: {} file(s)", offer.input_files.len());
    for InputFile { filename, size_bytes, .. } in &offer.input_files {
        let _ = writeln!(text, "  {}, {}", escape(filename), Bytes(*size_bytes));
    }
}

/// A text of several lines, each indented.
fn paragraph(text: &mut String, name: &str, words: &str) {
    let _ = writeln!(text, "\n{name}:");
    for line in words.trim_end().lines() {
        let _ = writeln!(text, "  {}", escape_lines(line));
    }
}

fn add_steps(text: &mut String, steps: &[Step]) {
    *text += "\nTimes:\n";
    let most = steps.iter().map(|step| step.seconds).fold(0.0, f64::max);
    for step in steps {
        let bar = if most > 0.0 { (step.seconds / most * BAR as f64).round() as usize } else { 0 };
        let time = Span(Duration::try_from_secs_f64(step.seconds).unwrap_or_default()).to_string();
        let line = format!("  {:<20}  {:>12}  {}", step.what, time, "█".repeat(bar.min(BAR)));
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// The steps that have begun. Of a task of an older version only those with a known begin.
fn steps(record: &Record, now: Timestamp) -> Vec<Step> {
    let begun = |phase: Phase| record.times.begun.get(&phase).copied();
    let ended = record.ending.as_ref().map(|ending| ending.at);
    let ran_from = record.ending.as_ref().and_then(|ending| {
        let ran_for = SignedDuration::try_from_secs_f64(ending.duration_secs).ok()?;
        ending.at.checked_sub(ran_for).ok().filter(|_| ending.duration_secs > 0.0)
    });
    let points = [
        ("accepting it", Some(record.offered.at)),
        ("fetching its input", begun(Phase::Accepted)),
        ("in its container", begun(Phase::Prepared).or(ran_from)),
        ("sending its results", begun(Phase::Exited).or(ended)),
        ("reporting its end", begun(Phase::Uploaded)),
        ("", begun(Phase::Settled).or(record.settled_at)),
    ];
    let points: Vec<(&str, Timestamp)> = points.into_iter().filter_map(|(what, at)| Some((what, at?))).collect();
    let ends = points.iter().skip(1).map(|(_, at)| *at).chain([now]);
    let steps = points.iter().zip(ends).filter(|((what, _), _)| !what.is_empty());
    steps
        .map(|(&(what, began), end)| Step { what, began, seconds: end.duration_since(began).as_secs_f64().max(0.0) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{add_steps, steps};
    use crate::server::protocol::FinalStatus;
    use crate::server::protocol::Task;
    use crate::task::{Ending, Phase, Record};
    use jiff::{SignedDuration, Timestamp};

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn seconds(record: &Record) -> Vec<(&'static str, f64)> {
        steps(record, at(100)).into_iter().map(|step| (step.what, step.seconds)).collect()
    }

    fn record() -> Record {
        let mut record = Record::from_offer(Task::default(), "s", "u");
        record.offered.at = at(0);
        record.times.begun.clear();
        record
    }

    #[test]
    fn steps_last_from_one_phase_to_the_next() {
        let mut record = record();
        let begun = [(Phase::Accepted, at(1)), (Phase::Prepared, at(3))];
        record.times.begun.extend(begun);
        let so_far = [("accepting it", 1.0), ("fetching its input", 2.0), ("in its container", 97.0)];
        assert_eq!(seconds(&record), so_far, "the container runs still");
        record.times.begun.extend([(Phase::Exited, at(10)), (Phase::Uploaded, at(12)), (Phase::Settled, at(13))]);
        let last = [("in its container", 7.0), ("sending its results", 2.0), ("reporting its end", 1.0)];
        assert_eq!(seconds(&record)[2..], last);
        let mut text = String::new();
        add_steps(&mut text, &steps(&record, at(100)));
        assert!(text.contains(&format!("  in its container             7.0 s  {}\n", "█".repeat(40))), "{text}");
        assert!(text.contains(&format!("  reporting its end            1.0 s  {}\n", "█".repeat(6))), "{text}");
    }

    #[test]
    fn steps_of_a_task_of_an_older_version_are_those_that_are_known() {
        let mut record = record();
        record.ending = Some(Ending {
            status: FinalStatus::Completed,
            exit_code: Some(0),
            error_message: None,
            duration_secs: 5.0,
            at: at(20),
        });
        record.settled_at = Some(at(22));
        let known = [("accepting it", 15.0), ("in its container", 5.0), ("sending its results", 2.0)];
        assert_eq!(seconds(&record), known);
    }
}
