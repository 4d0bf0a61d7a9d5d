//! In which order what a task left is sent, and where the agent's own notes stand: [`super::upload`] sends one file, this
//! file says which is next.

use std::collections::HashSet;

use super::StepError;
use super::archive::{is_wanted, pack, plan};
use super::notes::{Notes, Stayed};
use super::outputs::OutputFile;
use super::outputs::sending::{ANSWER, SAME_AS_ANSWER};
use super::record::Packed;
use super::results::Results;
use super::upload::Upload;
use crate::config::OutputsConfig;
use crate::server::LeftOut;

/// Sends the results of a task that hasn't been cancelled, and ends the delivery. It is interrupted after a file that was
/// sent where `is_turn_over` says so.
pub fn deliver(
    mut upload: Upload<'_>,
    results: &Results,
    limits: &OutputsConfig,
    is_turn_over: impl Fn() -> bool,
) -> Result<(), StepError> {
    let notes = Notes::new(upload.task, limits, &results.left, upload.left_out().0);
    let (files, answers) = results.split();
    let mut turn = Turn { upload: &mut upload, is_over: &is_turn_over };
    let archived = send_archives(&mut turn, results, limits)?;
    // What no archive has brought there.
    for file in files.iter().filter(|file| !archived.contains(&file.name)) {
        turn.send(file)?;
    }
    // Only then is it known what the Server doesn't take, and whether it has the answer, of which no copy is sent.
    upload.check_held()?;
    send_note(&mut upload, &notes, Notes::not_delivered)?;
    for answer in answers {
        upload.send(answer)?;
    }
    upload.check_held()?;
    send_note(&mut upload, &notes, |notes, _| notes.printed())?;
    if let Some(copy) = &results.copy {
        if upload.has(ANSWER) {
            upload.skip_equal(&copy.name, SAME_AS_ANSWER)?;
        } else {
            upload.send(copy)?;
            upload.check_held()?;
        }
    }
    // An answer that the Server doesn't take is known only now.
    send_note(&mut upload, &notes, Notes::not_delivered)?;
    send_note(&mut upload, &notes, Notes::failure)?;
    upload.finish(results.files.iter().chain(&results.copy))
}

/// Gives up the archives of an earlier run that hold what isn't to be delivered any more, as after a change of
/// `outputs.exclude` or of a limit. To be called before it is written down what isn't sent.
pub fn give_up_outdated(upload: &mut Upload<'_>, results: &Results) -> Result<(), StepError> {
    let wanted: HashSet<&str> = results.files.iter().chain(&results.copy).map(|file| file.name.as_str()).collect();
    upload.give_up_archives(|packed| !packed.members.iter().all(|member| wanted.contains(member.file.as_str())))
}

/// An upload that is interrupted where its worker's turn is over.
struct Turn<'u, 't> {
    upload: &'u mut Upload<'t>,
    is_over: &'u dyn Fn() -> bool,
}

impl Turn<'_, '_> {
    fn send(&mut self, file: &OutputFile) -> Result<(), StepError> {
        self.upload.send(file)?;
        self.check()
    }

    fn send_archive(&mut self, packed: &Packed) -> Result<(), StepError> {
        self.upload.send_archive(packed)?;
        self.check()
    }

    fn check(&self) -> Result<(), StepError> {
        if self.upload.has_sent() && (self.is_over)() { Err(StepError::TurnOver) } else { Ok(()) }
    }
}

/// Sends results in archives, where that is wanted, and before them what no archive can hold. Returns the names of the
/// results that the Server has in archives. An archive that the Server doesn't take is the last one: no file waits for it.
fn send_archives(
    turn: &mut Turn<'_, '_>,
    results: &Results,
    limits: &OutputsConfig,
) -> Result<HashSet<String>, StepError> {
    for packed in turn.upload.open_archives() {
        turn.send_archive(&packed)?;
    }
    if is_wanted(limits, results.files.len()) && turn.upload.takes_archives() {
        let archived = turn.upload.archived();
        let is_free = |file: &&OutputFile| turn.upload.is_free(file) && !archived.contains(&file.name);
        let is_used = |name: &str| turn.upload.is_name_used(name) || results.files.iter().any(|file| file.name == name);
        let plan = plan(results.files.iter().filter(is_free), limits, is_used);
        let packed: HashSet<&str> =
            plan.iter().flat_map(|planned| &planned.files).map(|file| file.name.as_str()).collect();
        let alone = |file: &&OutputFile| !packed.contains(file.name.as_str()) && !archived.contains(&file.name);
        for file in results.split().0.iter().filter(alone) {
            turn.send(file)?;
        }
        if !plan.is_empty() {
            turn.upload.clear_archives();
        }
        // Clients that look for a zip take the newest: the first one has the answer.
        for planned in plan.iter().rev() {
            if turn.upload.is_cancelled() || !turn.upload.takes_archives() {
                break;
            }
            let keep_free = turn.upload.keep_free();
            let Some(packed) = pack(turn.upload.task, planned, keep_free)? else { break };
            turn.upload.note_packed(packed.clone())?;
            turn.send_archive(&packed)?;
        }
    }
    Ok(turn.upload.archived())
}

fn send_note<'n>(
    upload: &mut Upload<'_>,
    notes: &Option<Notes<'n>>,
    note: impl FnOnce(&Notes<'n>, Stayed<'_>) -> Option<OutputFile>,
) -> Result<(), StepError> {
    let Some(notes) = notes.as_ref().filter(|_| !upload.is_cancelled()) else { return Ok(()) };
    let (left_out, unnamed) = upload.left_out();
    let missing: Vec<LeftOut> = left_out.iter().filter(|left| left.reason != SAME_AS_ANSWER).cloned().collect();
    match note(notes, Stayed { files: &missing, unnamed }) {
        Some(note) => upload.send_note(&note),
        None => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests;
