//! `discard`: gives up a result that can't be delivered, also while a running agent tries to deliver it.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::find_task::{find_task, find_whole_name, reload};
use super::output::{eprint_line, print_line};
use super::prompt;
use crate::cli::DiscardArgs;
use crate::config::{Config, Secret};
use crate::data_dir::AGENT_LOG;
use crate::data_dir::holder::Role;
use crate::data_dir::instance::{Instance, InstanceError};
use crate::data_dir::permissions;
use crate::ledger::Ledger;
use crate::logging::LogFile;
use crate::server::Client;
use crate::shell::agent_command;
use crate::task;
use crate::task::record::{DiscardRequests, Discarded, Phase, Record, TaskFiles, TaskKey};
use crate::text::escape;

/// How long a running agent may take: it looks for requests every second, and its calls to the Server end sooner.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(200);

/// Discards a task's result: the running agent does it, or this command where none runs.
pub fn discard(file: &Path, args: &DiscardArgs, log_file: &LogFile) -> Result<(), Failure> {
    let config = Config::load(file)?;
    permissions::find(&config.paths.data_dir)?;
    config.check_data_dir_is_there()?;
    // Without the question, which shows the whole name, a name is taken as it is.
    let find = if args.yes { find_whole_name } else { find_task };
    let (files, record) = find(&config, &args.id)?;
    let key = files.key();
    check_undelivered(&config, key, &record)?;
    if !args.yes {
        confirm(key)?;
    }
    let discarded = discard_by_holder(&config, &files, log_file)?;
    match discarded.unreported {
        None => print_line(format_args!("Discarded; the Server knows that task {key} failed.")),
        Some(why) => {
            print_line(format_args!("Discarded; the Server doesn't know that task {key} failed: {}", escape(&why)));
        }
    }
    let workspace = config.paths.data_dir.workspaces().join(files.key().as_str());
    let hours = config.paths.retention_hours.map(|hours| format!(" for {hours} h (`paths.retention_hours`)"));
    print_line(format_args!("Its files are kept in {}{}.", workspace.display(), hours.unwrap_or_default()));
    Ok(())
}

fn check_undelivered(config: &Config, key: &TaskKey, record: &Record) -> Result<(), Failure> {
    match record.phase {
        Phase::Exited | Phase::Uploaded => Ok(()),
        Phase::Settled => Err(Failure::new(format!("task {key} is settled: there is nothing to discard"))),
        _ => Err(Failure::new(format!(
            "task {key} hasn't ended: cancel it on the Server, or stop all tasks with `{}`",
            agent_command(&config.file, &["stop", "--abort"])
        ))),
    }
}

fn confirm(key: &TaskKey) -> Result<(), Failure> {
    if !prompt::is_terminal() {
        return Err(Failure::usage("`discard` needs a terminal to confirm; pass `--yes` instead"));
    }
    let question = format!("Discard the result of task {key}? The Server gets a report that it failed (yes/no)");
    let answer = prompt::ask(&question, Some("no"), |answer| match answer.to_ascii_lowercase().as_str() {
        "yes" | "y" => Ok(true),
        "no" | "n" => Ok(false),
        _ => Err("Please answer yes or no.".to_owned()),
    });
    match answer.map_err(Failure::context("nothing was discarded"))? {
        true => Ok(()),
        false => Err(Failure::new("nothing was discarded")),
    }
}

/// Asks the running agent and waits until it has discarded the result. If no agent runs, or the agent ends first, this
/// command does it.
fn discard_by_holder(config: &Config, files: &TaskFiles, log_file: &LogFile) -> Result<Discarded, Failure> {
    let requests = DiscardRequests::new(&config.paths.data_dir);
    let (mut is_asked, deadline) = (false, Instant::now() + PATIENCE);
    loop {
        match Instance::acquire(&config.paths.data_dir, Role::Discard) {
            Ok(instance) => {
                if let Err(error) = log_file.open(instance.folder(), AGENT_LOG) {
                    log::warn!("what is done here can't be written to {AGENT_LOG}: {error}");
                }
                let discarded = discard_here(config, &instance, files)?;
                log::warn!(task:% = files.key(); "discarded by the operator");
                requests
                    .remove(files.key())
                    .map_err(Failure::context("discarded, but the request can't be removed"))?;
                return Ok(discarded);
            }
            Err(InstanceError::Held(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let record = reload(files)?;
        if record.phase == Phase::Settled {
            return record
                .discarded
                .ok_or_else(|| Failure::new(format!("task {} was settled before it could be discarded", files.key())));
        }
        if !is_asked {
            requests.add(files.key()).map_err(Failure::context("the running agent can't be asked to discard it"))?;
            is_asked = true;
            eprint_line("Asked the running agent to discard it; waiting …");
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "the running agent hasn't discarded the result within {} s and will do so as soon as it can; its log says \
                 what it waits for",
                PATIENCE.as_secs()
            )));
        }
        thread::sleep(LOOK);
    }
}

/// Discards the result in this process, which holds the data_dir, unless an agent has done it by now.
fn discard_here(config: &Config, instance: &Instance, files: &TaskFiles) -> Result<Discarded, Failure> {
    let mut record = reload(files)?;
    if let (Phase::Settled, Some(discarded)) = (record.phase, &record.discarded) {
        return Ok(discarded.clone());
    }
    check_undelivered(config, files.key(), &record)?;
    let credentials = config.agent.credentials.clone().filter(|ours| ours.service_id == record.service_id);
    let key = credentials.as_ref().map_or_else(|| Secret::new(""), |credentials| credentials.api_key.clone());
    let ledger = Ledger::new(instance.folder(), key, Arc::default());
    let client = credentials.map(|credentials| Client::new(&config.server, credentials, Arc::default()));
    task::discard(&ledger, client.as_ref().ok_or(task::OTHER_REGISTRATION), files, &mut record)
        .map_err(Failure::context(format!("task {} can't be discarded", files.key())))
}
