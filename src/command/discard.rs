//! `discard`: gives up a result that waits for its delivery, also while an agent tries to deliver it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::failure::{CommandResult, Failure};
use super::find_task::find_task;
use super::output::{eprint_line, print_line};
use super::prompt;
use crate::cli::DiscardArgs;
use crate::config::{Config, Secret};
use crate::data_dir::holder::Role;
use crate::data_dir::instance::{Instance, InstanceError};
use crate::ledger::Ledger;
use crate::server::Client;
use crate::task;
use crate::task::record::{DiscardRequests, Discarded, Phase, Record, TaskFiles};
use crate::text::escape;

/// How long a running agent may take: it looks every second, and a call to a Server that doesn't answer ends in less.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(200);

/// Gives a result up. The agent that has it does that, or where none runs, this command.
pub fn discard(file: &Path, args: &DiscardArgs) -> CommandResult {
    let config = Config::load(file)?;
    let (files, record) = find_task(&config, &args.id)?;
    check_undelivered(&record)?;
    if !args.yes {
        confirm(&args.id)?;
    }
    let discarded = give_up(&config, &args.id, &files)?;
    let shown = escape(&args.id);
    match discarded.unreported {
        None => print_line(format_args!("Discarded; the Server knows that task {shown} failed.")),
        Some(why) => print_line(format_args!("Discarded; the Server doesn't know: {}", escape(&why))),
    }
    print_line(format_args!(
        "Its files stay in {} until their time is over.",
        config.paths.data_dir.workspaces().join(files.key().as_str()).display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn check_undelivered(record: &Record) -> Result<(), Failure> {
    let id = escape(&record.task.id);
    match record.phase {
        Phase::Exited | Phase::Uploaded => Ok(()),
        Phase::Settled => Err(Failure::new(format!("task {id} is settled: there is nothing to discard"))),
        _ => Err(Failure::new(format!(
            "task {id} hasn't ended: cancel it on the Server, or end all with `agent-core stop --abort`"
        ))),
    }
}

fn confirm(id: &str) -> Result<(), Failure> {
    if !prompt::is_terminal() {
        return Err(Failure::usage("`discard` asks on a terminal only; say `--yes` elsewhere"));
    }
    let question = format!("Give up the result of task {}? The Server is told that it failed (yes/no)", escape(id));
    let answer = prompt::ask(&question, Some("no"), |answer| match answer.to_ascii_lowercase().as_str() {
        "yes" | "y" => Ok(true),
        "no" | "n" => Ok(false),
        _ => Err("Please answer yes or no.".to_owned()),
    });
    match answer.map_err(|error| Failure::new(format!("nothing was discarded: {error}")))? {
        true => Ok(()),
        false => Err(Failure::new("nothing was discarded")),
    }
}

/// Asks a running agent and waits for it. One that ends meanwhile leaves the rest to us.
fn give_up(config: &Config, id: &str, files: &TaskFiles) -> Result<Discarded, Failure> {
    let discards = DiscardRequests::new(&config.paths.data_dir);
    let (mut asked, deadline) = (false, Instant::now() + PATIENCE);
    loop {
        match Instance::acquire(&config.paths.data_dir, Role::Discard) {
            Ok(_instance) => {
                // Things may have changed since.
                let (_, record) = find_task(config, id)?;
                let discarded = match record.discarded.clone() {
                    Some(discarded) if record.phase == Phase::Settled => discarded,
                    _ => discard_here(config, files, record)?,
                };
                return match discards.remove(files.key()) {
                    Ok(()) => Ok(discarded),
                    Err(error) => Err(Failure::new(format!("discarded, but its note can't be removed: {error}"))),
                };
            }
            Err(InstanceError::Held(_)) => {}
            Err(error) => return Err(Failure::new(error.to_string())),
        }
        let (_, record) = find_task(config, id)?;
        if record.phase == Phase::Settled {
            return record
                .discarded
                .ok_or_else(|| Failure::new(format!("task {} was settled before it could be discarded", escape(id))));
        }
        if !asked {
            let unasked = |error| Failure::new(format!("the running agent can't be asked to discard it: {error}"));
            discards.add(files.key()).map_err(unasked)?;
            asked = true;
            eprint_line("The running agent is asked to give it up …");
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "the running agent hasn't discarded it within {} s, and does so as soon as it can; its log says what \
                 keeps it",
                PATIENCE.as_secs()
            )));
        }
        thread::sleep(LOOK);
    }
}

/// For whoever holds the data_dir.
fn discard_here(config: &Config, files: &TaskFiles, mut record: Record) -> Result<Discarded, Failure> {
    check_undelivered(&record)?;
    let credentials = config.agent.credentials.clone().filter(|ours| ours.service_id == record.service_id);
    let key = credentials.as_ref().map_or_else(|| Secret::new(""), |credentials| credentials.api_key.clone());
    let ledger = Ledger::new(&config.paths.data_dir, key, Arc::default());
    let client = credentials.map(|credentials| Client::new(&config.server, credentials, Arc::default()));
    task::discard(&ledger, client.as_ref(), files, &mut record)
        .map_err(|error| Failure::new(format!("task {} can't be discarded: {error}", escape(&record.task.id))))
}
