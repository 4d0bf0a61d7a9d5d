use super::super::{COMMON, TOPICS};
use super::{Page, escape, from_markdown};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::mem;

#[test]
fn headings_become_sections_and_the_title_is_left_out() {
    assert_eq!(from_markdown("# Title\n\n## Part \"one\"\n### Of it\n"), ".SH \"Part \\(dqone\\(dq\"\n.SS \"Of it\"\n");
}

#[test]
fn paragraphs_are_filled_and_separate() {
    assert_eq!(from_markdown("one\ntwo\n\nthree\n"), ".PP\none\ntwo\n.PP\nthree\n");
}

#[test]
fn inline_marks_become_fonts() {
    assert_eq!(
        from_markdown("a `--flag` and **bold `code` bold** and *it*\n"),
        ".PP\na \\fB\\-\\-flag\\fR and \\fBbold code bold\\fR and \\fIit\\fR\n"
    );
}

#[test]
fn links_to_pages_become_bold_and_others_keep_their_address() {
    assert_eq!(
        from_markdown("see [config](config.md), [jq](https://jqlang.org) and [server]\n"),
        ".PP\nsee \\fBconfig\\fR, jq (https://jqlang.org) and [server]\n"
    );
}

#[test]
fn lists_are_items_with_their_continued_lines() {
    assert_eq!(
        from_markdown("- one\n  more\n  - inner\n- two\n\nafter\n"),
        ".IP \\(bu 2\none\nmore\n.RS 2\n.IP \\(bu 2\ninner\n.RE\n.IP \\(bu 2\ntwo\n.PP\nafter\n"
    );
    assert_eq!(from_markdown("1. one\n   more\n"), ".IP 1. 4\none\nmore\n");
}

#[test]
fn code_blocks_stay_as_they_are() {
    assert_eq!(
        from_markdown("```bash\n.x 'a' \\\n\n# b | c\n```\n"),
        ".PP\n.RS 2\n.nf\n\\&.x \\(aqa\\(aq \\e\n\n# b | c\n.fi\n.RE\n"
    );
}

#[test]
fn rows_of_a_table_are_tagged_and_middle_columns_are_labelled() {
    assert_eq!(from_markdown("| A | B |\n|---|---|\n| `x` | y |\n"), ".TP\n\\fBx\\fR\ny\n");
    assert_eq!(
        from_markdown("| Key | Default | Example |\n|--|--|--|\n| `x` | 5 | `6` |\n| `y` |  | 7 |\n"),
        ".TP\n\\fBx\\fR\nDefault: 5; Example: \\fB6\\fR\n.TP\n\\fBy\\fR\nExample: 7\n"
    );
}

#[test]
fn no_line_of_text_is_taken_for_a_request() {
    assert_eq!(from_markdown("a\n.b\n`.c` d\n'e\n"), ".PP\na\n\\&.b\n\\fB.c\\fR d\n\\(aqe\n");
    assert_eq!(escape("\\~^`"), "\\e\\(ti\\(ha\\(ga");
}

#[test]
fn what_begins_nothing_is_itself() {
    assert_eq!(from_markdown("2 * 3 ` [x] **\n"), ".PP\n2 * 3 \\(ga [x] **\n");
    assert_eq!(from_markdown("a ``b ` c`` [d](e\n"), ".PP\na \\fBb \\(ga c\\fR [d](e\n");
}

/// The pages may be written with any Markdown; this reader knows a part of it.
#[test]
fn every_page_is_read_as_by_a_complete_reader() {
    for text in TOPICS.iter().map(|topic| topic.markdown).chain([COMMON]) {
        let title = text.lines().next().unwrap_or_default();
        let (ours, theirs) = (from_markdown(text), Complete::read(text));
        for (ours, theirs) in ours.lines().zip(theirs.lines()) {
            assert_eq!(ours, theirs, "{title}");
        }
        assert_eq!(ours.len(), theirs.len(), "{title}");
    }
}

/// What the parts of a page become, by a complete reader of Markdown.
#[derive(Default)]
struct Complete {
    page: Page,
    /// Where the text of the current heading or of the current cell of a table begins.
    mark: usize,
    /// The open lists, each with the number of its next item if its items are numbered.
    lists: Vec<Option<u64>>,
    cells: Vec<String>,
    labels: Vec<String>,
    address: Option<String>,
}

impl Complete {
    fn read(markdown: &str) -> String {
        let mut complete = Self::default();
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(tag) => complete.start(tag),
                Event::End(tag) => {
                    complete.end(tag);
                    complete.page.set_font();
                }
                Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => complete.page.text(&text),
                Event::Code(code) => {
                    complete.page.bold += 1;
                    complete.page.text(&code);
                    complete.page.bold -= 1;
                    complete.page.set_font();
                }
                _ => complete.page.end_line(),
            }
        }
        complete.page.roff
    }

    fn start(&mut self, tag: Tag<'_>) {
        let page = &mut self.page;
        match tag {
            Tag::Heading { .. } => self.mark = page.roff.len(),
            Tag::Paragraph if mem::take(&mut page.begins_item) => {}
            Tag::Paragraph => page.request(".PP"),
            Tag::CodeBlock(_) => page.request(".PP\n.RS 2\n.nf"),
            Tag::List(number) => {
                if !self.lists.is_empty() {
                    page.request(".RS 2");
                }
                self.lists.push(number);
            }
            Tag::Item => {
                match self.lists.last_mut() {
                    Some(Some(number)) => {
                        page.request(&format!(".IP {number}. 4"));
                        *number += 1;
                    }
                    _ => page.request(".IP \\(bu 2"),
                }
                page.begins_item = true;
            }
            Tag::TableCell => {
                self.mark = page.roff.len();
                page.bold += u32::from(self.cells.is_empty());
            }
            Tag::Strong => page.bold += 1,
            Tag::Emphasis => page.italic += 1,
            Tag::Link { dest_url, .. } if dest_url.contains("://") => self.address = Some(dest_url.into_string()),
            Tag::Link { .. } => page.bold += 1,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        let page = &mut self.page;
        match tag {
            TagEnd::Heading(level) => {
                let heading = page.roff.split_off(self.mark).replace('"', "\\(dq");
                match level {
                    HeadingLevel::H1 => {}
                    HeadingLevel::H2 => page.request(&format!(".SH \"{heading}\"")),
                    _ => page.request(&format!(".SS \"{heading}\"")),
                }
            }
            TagEnd::Paragraph => page.end_line(),
            TagEnd::CodeBlock => page.request(".fi\n.RE"),
            TagEnd::List(_) => {
                self.lists.pop();
                if !self.lists.is_empty() {
                    page.request(".RE");
                }
            }
            TagEnd::Item => {
                page.begins_item = false;
                page.end_line();
            }
            TagEnd::TableCell => {
                page.bold -= u32::from(self.cells.is_empty());
                page.set_font();
                self.cells.push(page.roff.split_off(self.mark));
            }
            TagEnd::TableHead => self.labels = mem::take(&mut self.cells),
            TagEnd::TableRow => {
                let cells = mem::take(&mut self.cells);
                page.table_row(&cells, &self.labels);
            }
            TagEnd::Strong => page.bold -= 1,
            TagEnd::Emphasis => page.italic -= 1,
            TagEnd::Link => match self.address.take() {
                Some(address) => page.text(&format!(" ({address})")),
                None => page.bold -= 1,
            },
            _ => {}
        }
    }
}
