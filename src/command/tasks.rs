//! `tasks`: a line for each task that is kept here.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::failure::{CommandResult, Failure};
use super::find_task::Names;
use super::output::{OutputFormat, eprint_line, ignore_broken_pipe, print_output, to_json};
use super::style::{Colour, Style};
use super::table::{Cell, Table};
use super::task_view::{AgentState, TaskView, Tasks};
use super::time_range::TimeRange;
use crate::agent::status_file::State;
use crate::cli::TasksArgs;
use crate::config::Config;
use crate::data_dir::holder::find_holder;
use crate::data_dir::{DataDir, permissions};
use crate::os::terminal;
use crate::server::FinalStatus;
use crate::task::record::Phase;
use crate::task::{Store, TaskKey};
use crate::text::{begin, escape};
use crate::units::Span;

/// How much of a prompt is shown, at most.
const PROMPT_SHOWN: usize = 400;

/// Prints the tasks, from the youngest to the oldest; as JSON from the oldest to the youngest.
pub fn tasks(file: &Path, args: &TasksArgs) -> CommandResult {
    let range = TimeRange::parse(args.since.as_deref(), None)?;
    let (config, _) = Config::load_to_look(file)?;
    let data_dir = &config.paths.data_dir;
    permissions::find(data_dir)?;
    config.check_data_dir_is_there()?;
    let unreadable = Failure::with_path(data_dir, "can't be read");
    let names = Names::load(&config).map_err(&unreadable)?;
    if args.ids {
        print_output(names.all().iter().map(|name| format!("{name}\n")).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_wanted = |phase| !args.undelivered || (Phase::Exited..Phase::Settled).contains(&phase);
    let mut tasks = Tasks::load(data_dir, is_wanted).map_err(&unreadable)?;
    let kept = tasks.all.len();
    tasks.all.retain(|task| range.has(task.offered_at) && (!args.failed || task.outcome == Some(FinalStatus::Failed)));
    let first = args.number.map_or(0, |number| tasks.all.len().saturating_sub(number));
    tasks.all.drain(..first);
    let agent = add_state(data_dir, &mut tasks);
    ignore_broken_pipe(match OutputFormat::from_flag(args.json) {
        OutputFormat::Text if tasks.all.is_empty() => Ok(()),
        OutputFormat::Text => {
            tasks.all.reverse();
            print_table(&tasks.all, &TableOptions::new(data_dir, names, agent, args.no_trunc))
        }
        OutputFormat::Json => print_json(&tasks)?,
    })?;
    for (dir, error) in &tasks.damaged {
        eprint_line(format_args!("the record in `{}` can't be read: {error}", dir.display()));
    }
    if tasks.all.is_empty() && !args.json {
        eprint_line(nothing(data_dir, args, kept));
    }
    Ok(if tasks.damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What to say where no task is shown.
fn nothing(data_dir: &DataDir, args: &TasksArgs, kept: usize) -> String {
    match kept {
        0 if args.undelivered => format!("No undelivered result is kept in `{}`.", data_dir.display()),
        0 => format!("No task is kept in `{}`.", data_dir.display()),
        kept => format!("None of the {kept} task(s) that are kept in `{}` is such a one.", data_dir.display()),
    }
}

/// Adds the reasons that the running agent has published. Returns whether an agent runs.
pub fn add_state(data_dir: &DataDir, tasks: &mut Tasks) -> AgentState {
    let agent = find_holder(data_dir).ok().flatten().filter(|holder| holder.is_agent());
    let Some(agent) = agent else { return AgentState::NotRunning };
    if let Some(state) = State::load(data_dir).filter(|state| agent.pid == Some(state.pid)) {
        tasks.add_state(&state);
    }
    AgentState::Running
}

fn print_json(tasks: &Tasks) -> Result<io::Result<()>, Failure> {
    let lines = tasks.all.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
    let mut out = io::stdout().lock();
    Ok(lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush()))
}

/// How the table is shown.
pub struct TableOptions<'d> {
    data_dir: &'d DataDir,
    names: Names,
    agent: AgentState,
    /// The columns of the terminal; `None` where nothing is cut.
    room: Option<usize>,
}

impl<'d> TableOptions<'d> {
    /// For standard output: whole with `is_whole`, and where that is no terminal.
    pub fn new(data_dir: &'d DataDir, names: Names, agent: AgentState, is_whole: bool) -> Self {
        Self { data_dir, names, agent, room: terminal::width().filter(|_| !is_whole) }
    }
}

fn print_table(tasks: &[TaskView], options: &TableOptions<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let lines = table_lines(tasks, options);
    lines.iter().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush())
}

/// The lines of a table of these tasks, with its heading.
pub fn table_lines(tasks: &[TaskView], options: &TableOptions<'_>) -> Vec<String> {
    let mut table = Table::new([
        Cell::new("ID"),
        Cell::new("STATE"),
        Cell::right("AGE"),
        Cell::right("TOOK"),
        Cell::right("FILES"),
        Cell::new("REASON/PROMPT"),
    ]);
    let now = Timestamp::now();
    let span = |from: Timestamp, to: Timestamp| {
        // A clock that was set back makes no negative span.
        Duration::try_from(to.duration_since(from)).map_or_else(|_| "-".to_owned(), |time| Span(time).to_string())
    };
    for task in tasks {
        let name = if options.room.is_some() { options.names.shorten(&task.key) } else { &task.key };
        let files = match task.files_left_out {
            0 => task.files_sent.to_string(),
            left_out => format!("{}/{}", task.files_sent, task.files_sent.saturating_add(left_out)),
        };
        table.push([
            Cell::new(name),
            Cell::coloured(task.describe(options.agent), colour(task)),
            Cell::right(span(task.offered_at, now)),
            Cell::right(task.ended_at.map_or_else(|| "-".to_owned(), |ended| span(task.offered_at, ended))),
            Cell::right(files),
            Cell::new(format!("{} {}", task.shown_id(), words(task, options.data_dir)).trim_start()),
        ]);
    }
    table.lines(Style::of_stdout(), options.room)
}

fn colour(task: &TaskView) -> Option<Colour> {
    match (task.outcome, task.phase) {
        (Some(FinalStatus::Failed), _) => Some(Colour::Bad),
        (_, Phase::Settled) => Some(Colour::Good).filter(|_| task.outcome == Some(FinalStatus::Completed)),
        _ => Some(Colour::Notice).filter(|_| task.held_up_by.is_some() || task.waits),
    }
}

/// What holds the task up, why it failed, or else what it was asked for.
fn words(task: &TaskView, data_dir: &DataDir) -> String {
    let words = match (&task.held_up_by, task.reason()) {
        (Some(why), _) => format!("held up: {why}"),
        (None, Some(why)) => why.to_owned(),
        (None, None) => load_prompt(data_dir, &task.key).unwrap_or_else(|| "-".to_owned()),
    };
    escape(&words)
}

/// The begin of a task's prompt on one line, while its offer is kept.
fn load_prompt(data_dir: &DataDir, key: &str) -> Option<String> {
    let files = Store::open(data_dir).ok()?.task(&TaskKey::parse(key)?);
    // One that can't be read is no reason to show nothing of the task.
    let prompt = files.load_offer().ok()??.task_prompt;
    let words: Vec<&str> = begin(&prompt, PROMPT_SHOWN).split_whitespace().collect();
    Some(words.join(" ")).filter(|words| !words.is_empty())
}
