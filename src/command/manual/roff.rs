//! Markdown to roff, for what the manual's pages use: headings, paragraphs, lists, tables, code blocks, and in a line
//! code, bold, italic and links.

use std::mem;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Converts a page's body. The title line (`# …`) is left out: the page's head names it.
pub fn from_markdown(markdown: &str) -> String {
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(tag) => page.start(tag),
            Event::End(tag) => page.end(tag),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => page.text(&text),
            Event::Code(code) => page.code(&code),
            Event::SoftBreak | Event::HardBreak => page.end_line(),
            _ => {}
        }
    }
    page.roff
}

/// Escapes what is printed as it is: `man` prints these characters so that they can be copied into a shell.
pub fn escape(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('`', "\\(ga")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti")
}

#[derive(Default)]
struct Page {
    roff: String,
    /// Where the text of the current heading or of the current cell of a table begins.
    mark: usize,
    /// The open lists, each with the number of its next item if its items are numbered.
    lists: Vec<Option<u64>>,
    /// Whether nothing of the current item has been written.
    begins_item: bool,
    /// The cells of the current row of a table.
    cells: Vec<String>,
    /// The labels of a table's columns.
    labels: Vec<String>,
    /// The address of the current link, if it is shown.
    address: Option<String>,
    /// How many open marks make the text bold and italic.
    bold: u32,
    italic: u32,
    font: (bool, bool),
}

impl Page {
    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { .. } => self.mark = self.roff.len(),
            Tag::Paragraph if mem::take(&mut self.begins_item) => {}
            Tag::Paragraph => self.request(".PP"),
            Tag::CodeBlock(_) => self.request(".PP\n.RS 2\n.nf"),
            Tag::List(number) => {
                if !self.lists.is_empty() {
                    self.request(".RS 2");
                }
                self.lists.push(number);
            }
            Tag::Item => self.start_item(),
            Tag::TableCell => {
                self.mark = self.roff.len();
                self.bold += u32::from(self.cells.is_empty());
            }
            Tag::Strong => self.bold += 1,
            Tag::Emphasis => self.italic += 1,
            Tag::Link { dest_url, .. } if dest_url.contains("://") => self.address = Some(dest_url.into_string()),
            Tag::Link { .. } => self.bold += 1,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.end_heading(level),
            TagEnd::Paragraph => self.end_line(),
            TagEnd::CodeBlock => self.request(".fi\n.RE"),
            TagEnd::List(_) => {
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.request(".RE");
                }
            }
            TagEnd::Item => {
                self.begins_item = false;
                self.end_line();
            }
            TagEnd::TableCell => {
                self.bold -= u32::from(self.cells.is_empty());
                self.set_font();
                self.cells.push(self.roff.split_off(self.mark));
            }
            TagEnd::TableHead => self.labels = mem::take(&mut self.cells),
            TagEnd::TableRow => self.end_row(),
            TagEnd::Strong => self.bold -= 1,
            TagEnd::Emphasis => self.italic -= 1,
            TagEnd::Link => match self.address.take() {
                Some(address) => self.text(&format!(" ({address})")),
                None => self.bold -= 1,
            },
            _ => {}
        }
        self.set_font();
    }

    fn start_item(&mut self) {
        match self.lists.last_mut() {
            Some(Some(number)) => {
                let request = format!(".IP {number}. 4");
                *number += 1;
                self.request(&request);
            }
            _ => self.request(".IP \\(bu 2"),
        }
        self.begins_item = true;
    }

    /// The page's title needs no request.
    fn end_heading(&mut self, level: HeadingLevel) {
        let heading = self.roff.split_off(self.mark).replace('"', "\\(dq");
        match level {
            HeadingLevel::H1 => {}
            HeadingLevel::H2 => self.request(&format!(".SH \"{heading}\"")),
            _ => self.request(&format!(".SS \"{heading}\"")),
        }
    }

    /// A row is an item with its first cell as the tag; the header's words stand before the cells of middle columns.
    fn end_row(&mut self) {
        let cells = mem::take(&mut self.cells);
        let is_pair = cells.len() == 2;
        let labelled = cells.iter().zip(&self.labels).skip(1).filter(|(cell, _)| !cell.is_empty());
        let parts: Vec<String> =
            labelled.map(|(cell, label)| if is_pair { cell.clone() } else { format!("{label}: {cell}") }).collect();
        self.request(&format!(".TP\n{}\n{}", cells[0], parts.join("; ")));
    }

    /// Adds text, of which roff must take no line for a request.
    fn text(&mut self, text: &str) {
        self.set_font();
        for line in text.split_inclusive('\n') {
            if line.starts_with('.') && self.is_at_line_start() {
                self.roff.push_str("\\&");
            }
            self.roff.push_str(&escape(line));
        }
    }

    /// Code is bold, as manual pages write what is to be typed.
    fn code(&mut self, code: &str) {
        self.bold += 1;
        self.text(code);
        self.bold -= 1;
        self.set_font();
    }

    fn set_font(&mut self) {
        let font = (self.bold > 0, self.italic > 0);
        if self.font != font {
            self.roff.push_str(match font {
                (true, _) => "\\fB",
                (false, true) => "\\fI",
                (false, false) => "\\fR",
            });
        }
        self.font = font;
    }

    fn request(&mut self, request: &str) {
        self.end_line();
        self.roff.push_str(request);
        self.roff.push('\n');
    }

    fn end_line(&mut self) {
        if !self.is_at_line_start() {
            self.roff.push('\n');
        }
    }

    fn is_at_line_start(&self) -> bool {
        self.roff.is_empty() || self.roff.ends_with('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::{escape, from_markdown};

    #[test]
    fn headings_become_sections_and_the_title_is_left_out() {
        assert_eq!(
            from_markdown("# Title\n\n## Part \"one\"\n### Of it\n"),
            ".SH \"Part \\(dqone\\(dq\"\n.SS \"Of it\"\n"
        );
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
}
