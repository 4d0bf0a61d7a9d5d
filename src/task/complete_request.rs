//! The report of a task's end, built from its record and files.

use super::outcome::tail;
use super::{Ending, TaskFiles, Uploads};
use crate::server::protocol::{CompleteRequest, Output};

/// How many bytes of each output stream are sent.
pub const OUTPUT_TAIL: u64 = 64 * 1024;
/// How many undelivered files a report names; the log names all of them.
const NAMED: usize = 100;

/// The report of an ending.
pub fn build<'a>(task_id: &'a str, ending: &'a Ending, uploads: &Uploads, output: Output) -> CompleteRequest<'a> {
    CompleteRequest {
        task_id,
        status: ending.status,
        output,
        error_message: ending.error_message.as_deref(),
        file_ids: uploads.done.iter().map(|(_, id)| id.clone()).collect(),
    }
}

/// The output of a report that leaves nothing out.
pub fn full_output(files: &TaskFiles, ending: &Ending, uploads: &Uploads) -> Output {
    let left_out = &uploads.left_out;
    Output {
        files: uploads.done.iter().map(|(name, _)| name.clone()).collect(),
        stdout: Some(tail(files, &files.stdout(), OUTPUT_TAIL)),
        stderr: Some(tail(files, &files.stderr(), OUTPUT_TAIL)),
        exit_code: ending.exit_code,
        duration_secs: ending.duration_secs,
        left_out: left_out.iter().take(NAMED).cloned().collect(),
        left_out_count: (left_out.len() > NAMED || uploads.unnamed > 0).then(|| uploads.left_out_count()),
    }
}

/// Removes the least important part that is left. Returns whether there was one.
pub fn shrink(output: &mut Output) -> bool {
    if !output.left_out.is_empty() {
        output.left_out_count.get_or_insert(output.left_out.len() as u64);
        output.left_out.clear();
        return true;
    }
    if output.stdout.take().is_some() | output.stderr.take().is_some() {
        return true;
    }
    // The report has the ids of the files, too, from which the Server knows the names.
    let had_files = !output.files.is_empty();
    output.files.clear();
    had_files
}

#[cfg(test)]
mod tests {
    use super::shrink;
    use crate::server::protocol::{LeftOut, Output};

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
        assert!(shrink(&mut output));
        assert_eq!((output.left_out.len(), output.left_out_count, output.stdout.is_some()), (0, Some(1), true));
        assert!(shrink(&mut output));
        assert_eq!((output.stdout.clone(), output.stderr.clone(), output.files.len()), (None, None, 1));
        assert!(shrink(&mut output));
        assert!(output.files.is_empty());
        assert!(!shrink(&mut output));
    }
}
