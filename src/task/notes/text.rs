//! The texts of notes: Markdown, in which nothing that a task printed or named is taken for markup.

use std::fmt::Write;

use crate::server::protocol::LeftOut;
use crate::task::Ending;
use crate::text::{cut, escape, plain};

/// How many undelivered files a note names, and how many bytes of names and reasons it has.
const NAMED: usize = 100;
const NAMED_BYTES: usize = 16 * 1024;
/// How much of each output a note shows, in bytes. Escaping makes it longer.
pub const SHOWN_OUTPUT: u64 = 8 * 1024;
const SHOWN_BYTES: usize = 16 * 1024;
/// What is more than any note of a failure, or of what stayed here, has in bytes.
pub const LONGEST: u64 = 256 * 1024;

/// What stayed on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Stayed<'s> {
    pub files: &'s [LeftOut],
    /// How many more there are.
    pub unnamed: u64,
}

impl Stayed<'_> {
    pub fn is_empty(self) -> bool {
        self.files.is_empty() && self.unnamed == 0
    }
}

/// Why a task failed, what stayed here, and the ends of what its container printed.
pub fn failure(ending: &Ending, stayed: Stayed<'_>, stdout: &str, stderr: &str) -> String {
    let message = ending.error_message.as_deref().unwrap_or("no reason is known");
    let mut note = format!("# The task failed\n\n{}\n", fenced(message));
    let (status, seconds) = (ending.exit_code, ending.duration_secs);
    let _ = match status {
        Some(status) => writeln!(note, "Exit status of the container: {status}, after {seconds} s."),
        None => writeln!(note, "The container did not run to an end of its own."),
    };
    if !stayed.is_empty() {
        note += &format!("\n## Files that are not delivered\n\n{}", list(stayed));
    }
    for (what, output) in [("standard error", stderr), ("standard output", stdout)] {
        if !output.trim().is_empty() {
            note += &format!("\n## The end of {what}\n\n{}", fenced(output));
        }
    }
    if stdout.trim().is_empty() && stderr.trim().is_empty() {
        note += "\nThe container printed nothing.\n";
    }
    note
}

/// What a task that was completed left, and its submitter doesn't get; `flaw` is what may be wrong with the rest.
pub fn not_delivered(stayed: Stayed<'_>, flaw: Option<&str>) -> String {
    let mut note = "# Files that are not delivered\n\nThe task was completed.".to_owned();
    if let Some(flaw) = flaw {
        note += &format!(" But not all may be there:\n\n{}", fenced(flaw));
    }
    if !stayed.is_empty() {
        note += if flaw.is_some() { "\n" } else { " " };
        note += &format!("These files stayed on the machine that did it:\n\n{}", list(stayed));
    }
    note
}

/// What a container printed, as the answer of a task that left no file.
pub fn printed(stdout: &str, is_cut: bool) -> String {
    let begin = if is_cut { "*The begin of a longer output is left out here.*\n\n" } else { "" };
    format!("{begin}{}", plain(stdout))
}

fn list(stayed: Stayed<'_>) -> String {
    let (mut lines, mut named) = (String::new(), 0);
    for left in stayed.files.iter().take(NAMED) {
        let line = format!("{}: {}\n", escape(&left.file), escape(&left.reason));
        if lines.len() + line.len() > NAMED_BYTES {
            break;
        }
        lines += &line;
        named += 1;
    }
    let more = stayed.unnamed.saturating_add((stayed.files.len() - named) as u64);
    if more > 0 {
        lines += &match named {
            0 => format!("{more} files\n"),
            _ => format!("and {more} more\n"),
        };
    }
    fenced(&lines)
}

/// A block of text as it is. Its fence is longer than any row of backticks in the text, so the text can't end it
/// (CommonMark 0.31, 4.5).
fn fenced(text: &str) -> String {
    let text = plain(text);
    let text = cut(text.trim_end(), SHOWN_BYTES);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}text\n{text}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, NAMED, Stayed, failure, fenced, not_delivered, printed};
    use crate::server::protocol::{FinalStatus, LeftOut};
    use crate::task::Ending;
    use jiff::Timestamp;
    use pulldown_cmark::{Event, Parser, Tag};

    fn ending(exit_code: Option<i32>, message: &str) -> Ending {
        let (status, error_message) = (FinalStatus::Failed, Some(message.to_owned()));
        Ending { status, exit_code, error_message, duration_secs: 1.5, at: Timestamp::UNIX_EPOCH }
    }

    const NOTHING: Stayed<'_> = Stayed { files: &[], unnamed: 0 };

    #[test]
    fn a_failure_names_status_reason_and_the_ends_of_both_outputs() {
        let files = [LeftOut { file: "output/a".to_owned(), reason: "too\nlarge".to_owned() }];
        let note = failure(&ending(Some(3), "no column"), Stayed { files: &files, unnamed: 2 }, "out\n", "err\n");
        let expected = "# The task failed\n\n```text\nno column\n```\n\nExit status of the container: 3, after 1.5 s.\n\n\
                        ## Files that are not delivered\n\n```text\noutput/a: too\\nlarge\nand 2 more\n```\n\n\
                        ## The end of standard error\n\n```text\nerr\n```\n\n\
                        ## The end of standard output\n\n```text\nout\n```\n";
        assert_eq!(note, expected);
        let silent = failure(&ending(None, "no image"), NOTHING, "", " \n");
        assert!(
            silent.ends_with("The container did not run to an end of its own.\n\nThe container printed nothing.\n")
        );
    }

    #[test]
    fn nothing_that_was_printed_is_markup_or_ends_its_block() {
        for text in
            ["```\n# Done\n", "a ````` b\n``````\n![x](http://h/y)", "~~~\n<script>", "`", "\u{1b}[31m```\r\n- x"]
        {
            let note = failure(&ending(Some(1), text), NOTHING, text, text);
            let mut headings = 0;
            let mut blocks = 0;
            for event in Parser::new(&note) {
                match event {
                    Event::Start(Tag::Heading { .. }) => headings += 1,
                    Event::Start(Tag::CodeBlock(_)) => blocks += 1,
                    Event::Start(Tag::Image { .. } | Tag::Link { .. } | Tag::List(_)) | Event::Html(_) => {
                        panic!("{event:?} in {note}")
                    }
                    _ => {}
                }
            }
            assert_eq!((headings, blocks), (3, 3), "{note}");
            assert!(!note.contains('\u{1b}'), "{note:?}");
        }
    }

    #[test]
    fn notes_have_a_bounded_length() {
        let files = vec![LeftOut { file: "f".repeat(1000), reason: "`".repeat(1000) }; 5000];
        let stayed = Stayed { files: &files, unnamed: u64::MAX };
        let long = "\u{7}`".repeat(20_000);
        let note = failure(&ending(Some(1), &long), stayed, &long, &long);
        assert!((note.len() as u64) < LONGEST, "{} bytes", note.len());
        let few = vec![LeftOut { file: "f".to_owned(), reason: "r".to_owned() }; NAMED + 7];
        assert!(not_delivered(Stayed { files: &few, unnamed: 1 }, None).contains("\nand 8 more\n"));
        assert!(not_delivered(Stayed { files: &[], unnamed: 5 }, None).contains("\n5 files\n"));
    }

    #[test]
    fn a_completed_task_that_a_full_disk_has_cut_says_so() {
        let flaw = "the disk was full";
        let expected = "# Files that are not delivered\n\nThe task was completed. But not all may be there:\n\n\
                        ```text\nthe disk was full\n```\n";
        assert_eq!(not_delivered(NOTHING, Some(flaw)), expected);
        let both = not_delivered(Stayed { files: &[], unnamed: 5 }, Some(flaw));
        assert_eq!(
            both,
            format!("{expected}\nThese files stayed on the machine that did it:\n\n```text\n5 files\n```\n")
        );
    }

    #[test]
    fn what_was_printed_is_the_answer_without_what_a_terminal_obeys() {
        assert_eq!(printed("# Yes\r\n\u{1b}[1mBold\u{1b}[0m\n", false), "# Yes\nBold\n");
        assert_eq!(printed("end\n", true), "*The begin of a longer output is left out here.*\n\nend\n");
        assert_eq!(fenced(""), "```text\n\n```\n");
    }
}
