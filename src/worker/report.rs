//! From `uploaded` to `settled`: the report.

use std::path::PathBuf;

use jiff::Timestamp;

use super::uploads::Uploads;
use super::{Halt, Happened, Run};
use crate::client::ClientError;
use crate::process::read_tail;
use crate::protocol::{CompleteRequest, Output};
use crate::record::{Ending, Phase};

/// How much of the container's output the Server gets, per stream.
const OUTPUT_TAIL: u64 = 64 * 1024;
/// How many files that were left out are named to the Server; the log names all.
const NAMED: usize = 100;

impl Run<'_> {
    /// Tells the Server how the task ended.
    pub(super) fn complete(&mut self) -> Result<(), Halt> {
        let events = self.files.uploads().map_err(|error| Halt::later(format!("uploads.jsonl: {error}")))?;
        let uploads = Uploads::of(events);
        let Some(ending) = self.record.ending.clone() else {
            return Err(Halt::later("the record names no ending"));
        };
        let mut output = self.output(&ending, &uploads);
        let (mut tries, mut ended) = (0, false);
        // A crash right after the call leaves nobody who knows of it but the record.
        let mut in_doubt = self.record.report_in_doubt;
        if !in_doubt {
            self.record.report_in_doubt = true;
            self.save()?;
        }
        loop {
            self.take_orders()?;
            self.wait_for_room_to_report()?;
            let request = CompleteRequest {
                task_id: &self.record.task.id,
                status: ending.status,
                output: output.clone(),
                error_message: ending.error_message.as_deref(),
                file_ids: uploads.done.iter().map(|(_, id)| id.clone()).collect(),
            };
            let error = match self.shop.client.complete(&request) {
                Ok(()) => {
                    log::info!(
                        "task {}: settled as {} with {} {}",
                        self.key(),
                        ending.status.as_str(),
                        uploads.done.len(),
                        if uploads.done.len() == 1 { "file" } else { "files" }
                    );
                    return self.settle();
                }
                Err(error) => error,
            };
            match error.status() {
                Some(413) if output.shrink() => {
                    log::warn!(
                        "task {}: the report is too large for the Server or its proxy; sending less",
                        self.key()
                    );
                }
                // Not running on the Server: requeued meanwhile, or ended by a call whose answer was lost. Accepting
                // it tells which (PROTOCOL 5).
                _ if error.is_wrong_state() && tries < 3 => {
                    tries += 1;
                    if ended {
                        self.note_ended(in_doubt, &error);
                        return self.settle();
                    }
                    self.wait_for_room_to_report()?;
                    match self.shop.client.accept(&self.record.task.id) {
                        Ok(()) => {
                            log::info!("task {}: had been requeued and is ours again", self.key());
                            self.tell(Happened::WasRequeued);
                        }
                        // The scheduler may have accepted it for us a moment ago, so the report is tried once more.
                        Err(refused) if refused.is_wrong_state() => ended = true,
                        Err(other) => return Err(other.into()),
                    }
                }
                _ => {
                    in_doubt |= error.may_have_arrived();
                    if !in_doubt {
                        self.record.report_in_doubt = false;
                        self.save()?;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    /// The Server neither takes a report nor gives the task out again: it has ended there.
    fn note_ended(&mut self, in_doubt: bool, error: &ClientError) {
        if in_doubt {
            log::info!("task {}: had ended on the Server already, by a report whose answer was lost", self.key());
        } else {
            log::warn!("task {}: had ended on the Server already, without this report ({error})", self.key());
            self.record.kept_back = true;
        }
    }

    fn settle(&mut self) -> Result<(), Halt> {
        // What was fetched has been sent; only what stayed here may still be wanted by somebody.
        if !self.record.kept_back {
            if let Err(error) = self.files.remove_fetched() {
                log::warn!("task {}: `{}` can't be removed: {error}", self.key(), self.files.fetched_dir().display());
            }
        }
        self.record.settled_at = Some(Timestamp::now());
        self.advance(Phase::Settled)
    }

    fn output(&self, ending: &Ending, uploads: &Uploads) -> Output {
        let tail = |path: PathBuf| {
            read_tail(&path, OUTPUT_TAIL).unwrap_or_else(|error| {
                log::warn!("task {}: `{}` can't be read: {error}", self.key(), path.display());
                String::new()
            })
        };
        let left_out = &uploads.left_out;
        Output {
            files: uploads.done.iter().map(|(name, _)| name.clone()).collect(),
            stdout: Some(tail(self.files.stdout())),
            stderr: Some(tail(self.files.stderr())),
            exit_code: ending.exit_code,
            duration_secs: ending.duration_secs,
            left_out: left_out.iter().take(NAMED).cloned().collect(),
            left_out_count: (left_out.len() > NAMED || uploads.unnamed > 0)
                .then(|| left_out.len() as u64 + uploads.unnamed),
        }
    }
}

impl Output {
    /// Leaves out what can be spared, the least important first. Returns whether there was anything.
    fn shrink(&mut self) -> bool {
        if !self.left_out.is_empty() {
            self.left_out_count.get_or_insert(self.left_out.len() as u64);
            self.left_out.clear();
            return true;
        }
        if self.stdout.take().is_some() | self.stderr.take().is_some() {
            return true;
        }
        // The Server knows the names of the files by their ids.
        let had_files = !self.files.is_empty();
        self.files.clear();
        had_files
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::{LeftOut, Output};

    #[test]
    fn a_report_shrinks_to_the_bare_status() {
        let left = LeftOut { file: "f".to_owned(), reason: "r".to_owned() };
        let mut output = Output {
            files: vec!["f".to_owned()],
            stdout: Some("x".to_owned()),
            stderr: Some("y".to_owned()),
            left_out: vec![left],
            ..Output::default()
        };
        assert!(output.shrink());
        assert_eq!((output.left_out.len(), output.left_out_count, output.stdout.is_some()), (0, Some(1), true));
        assert!(output.shrink());
        assert_eq!((output.stdout.clone(), output.stderr.clone(), output.files.len()), (None, None, 1));
        assert!(output.shrink());
        assert!(output.files.is_empty());
        assert!(!output.shrink());
    }
}
