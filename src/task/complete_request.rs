//! The report of a task's end, built from its record and files.

use super::outcome::tail;
use super::{Ending, TaskFiles, Uploads};
use crate::server::FinalStatus;
use crate::server::protocol::{CompleteRequest, LeftOut, Output};

/// How many bytes of each output stream are sent.
pub const OUTPUT_TAIL: u64 = 64 * 1024;
/// How many undelivered files a report names; the log names all of them.
const NAMED: usize = 100;
/// What stands for U+0000, which some databases don't take in texts.
const REPLACEMENT: &str = "\u{fffd}";

/// What a report says beside the task and its status.
#[derive(Debug, Clone, Default)]
pub struct Content {
    pub output: Output,
    pub error_message: Option<String>,
    file_ids: Vec<String>,
}

impl Content {
    /// All that there is to say. Of a cancelled task nothing is delivered, so that its report can't be refused for what
    /// the task has written: the Server offers no task to any agent before it has that report (PROTOCOL 2).
    pub fn full(files: &TaskFiles, ending: &Ending, uploads: &Uploads) -> Self {
        if ending.status == FinalStatus::Cancelled {
            return Self::without_output(ending, uploads);
        }
        let left_out = &uploads.left_out;
        let text = |text: &str| text.replace('\0', REPLACEMENT);
        let named = |left: &LeftOut| LeftOut { file: text(&left.file), reason: text(&left.reason) };
        let bare = Self::without_output(ending, uploads);
        let output = Output {
            files: uploads.done.iter().map(|(name, _)| text(name)).collect(),
            stdout: Some(text(&tail(files, &files.stdout(), OUTPUT_TAIL))),
            stderr: Some(text(&tail(files, &files.stderr(), OUTPUT_TAIL))),
            left_out: left_out.iter().take(NAMED).map(named).collect(),
            left_out_count: (left_out.len() > NAMED || uploads.unnamed > 0).then(|| uploads.left_out_count()),
            ..bare.output
        };
        Self { output, ..bare }
    }

    /// The same without what the container has printed, and without the names of files.
    pub fn without_output(ending: &Ending, uploads: &Uploads) -> Self {
        let output = Output { exit_code: ending.exit_code, duration_secs: ending.duration_secs, ..Output::default() };
        Self {
            output,
            error_message: ending.error_message.as_ref().map(|message| message.replace('\0', REPLACEMENT)),
            file_ids: uploads.done.iter().map(|(_, id)| id.clone()).collect(),
        }
    }

    /// Removes the least important part that is left, down to the bare status. Returns whether there was one.
    pub fn shrink(&mut self) -> bool {
        let output = &mut self.output;
        if !output.left_out.is_empty() {
            output.left_out_count.get_or_insert(output.left_out.len() as u64);
            output.left_out.clear();
            return true;
        }
        let texts = [output.stdout.take(), output.stderr.take()];
        if texts.iter().flatten().any(|text| !text.is_empty()) || self.error_message.take().is_some() {
            return true;
        }
        // The report has the ids of the files, too, from which the Server knows the names.
        if !output.files.is_empty() {
            output.files.clear();
            return true;
        }
        let had_ids = !self.file_ids.is_empty();
        self.file_ids.clear();
        had_ids
    }

    pub fn request<'a>(&'a self, task_id: &'a str, status: FinalStatus) -> CompleteRequest<'a> {
        CompleteRequest {
            task_id,
            status,
            output: self.output.clone(),
            error_message: self.error_message.as_deref(),
            file_ids: self.file_ids.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Content;
    use crate::data_dir::DataDir;
    use crate::server::FinalStatus;
    use crate::server::protocol::{LeftOut, Output, Task};
    use crate::task::record::{Record, Store, TaskKey};
    use crate::task::{Ending, Uploads};
    use jiff::Timestamp;
    use std::fs;

    #[test]
    fn a_report_shrinks_to_the_bare_status() {
        let left = LeftOut { file: "f".to_owned(), reason: "r".to_owned() };
        let output = Output {
            files: vec!["f".to_owned()],
            stdout: Some("x".to_owned()),
            stderr: Some("y".to_owned()),
            left_out: vec![left],
            exit_code: Some(3),
            ..Output::default()
        };
        let error_message = Some("why".to_owned());
        let mut content = Content { output, error_message, file_ids: vec!["1".to_owned()] };
        let mut sizes = vec![content.request("t", FinalStatus::Failed).encode().body.len()];
        while content.shrink() {
            sizes.push(content.request("t", FinalStatus::Failed).encode().body.len());
        }
        assert!(sizes.len() == 6 && sizes.windows(2).all(|pair| pair[0] > pair[1]), "{sizes:?}");
        assert_eq!(content.output, Output { exit_code: Some(3), left_out_count: Some(1), ..Output::default() });
        let mut silent = Content { output: Output { stdout: Some(String::new()), ..Output::default() }, ..content };
        assert!(!silent.shrink(), "nothing was printed");
    }

    #[test]
    fn no_text_of_a_report_has_a_zero_and_a_cancelled_one_has_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&DataDir::new(dir.path())).unwrap();
        let task = Task { id: "t".to_owned(), ..Task::default() };
        let files = store.create(&TaskKey::from_id("t").unwrap(), &Record::from_offer(task, "s", "u")).unwrap();
        fs::write(files.stdout(), "out\0put").unwrap();
        fs::write(files.stderr(), "\0").unwrap();
        let mut ending = Ending {
            status: FinalStatus::Failed,
            exit_code: Some(1),
            error_message: Some("a\0b".to_owned()),
            duration_secs: 1.0,
            at: Timestamp::now(),
        };
        let left = LeftOut { file: "f\0".to_owned(), reason: "r\0".to_owned() };
        let mut uploads = Uploads::default();
        uploads.left_out.push(left);
        let content = Content::full(&files, &ending, &uploads);
        assert_eq!(content.output.stdout.as_deref(), Some("out\u{fffd}put"));
        let sent = String::from_utf8(content.request("t", FinalStatus::Failed).encode().body).unwrap();
        assert!(sent.matches('\u{fffd}').count() == 5 && !sent.contains("u0000"), "{sent}");
        ending.status = FinalStatus::Cancelled;
        let output = Content::full(&files, &ending, &uploads).output;
        assert_eq!(output, Output { exit_code: Some(1), duration_secs: 1.0, ..Output::default() });
    }
}
