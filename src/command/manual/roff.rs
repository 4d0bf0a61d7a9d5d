//! Markdown to roff, for the subset that the manual's pages use: headings, paragraphs, lists, tables, code blocks, and in
//! a line code, bold, italic and links. One page is one string, so this works line by line and keeps no tree.

/// Converts a page's body. The title line (`# …`) is left out: the page's head names it.
pub fn from_markdown(markdown: &str) -> String {
    let mut page = Page::default();
    for line in markdown.lines() {
        page.add(line);
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

/// What the current line continues.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Block {
    #[default]
    None,
    Paragraph,
    /// A list's item whose text begins at this column.
    Item(usize),
    Table,
    Code,
}

#[derive(Default)]
struct Page {
    roff: String,
    block: Block,
    /// A table's header: the labels of its middle columns.
    labels: Vec<String>,
    /// Whether the current list lies in another list's item.
    is_nested: bool,
}

impl Page {
    fn add(&mut self, line: &str) {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim();
        if self.block == Block::Code || text.starts_with("```") {
            self.add_code(line, text);
        } else if text.is_empty() {
            self.leave_nested(0);
            self.block = Block::None;
        } else if let Some((request, heading)) = heading(line) {
            if !request.is_empty() {
                self.request(&format!("{request} \"{}\"", inline(heading).replace('"', "\\(dq")));
            }
            self.block = Block::None;
        } else if text.starts_with('|') {
            self.add_row(text);
        } else if let Some((mark, rest)) = item(text) {
            self.leave_nested(indent);
            if indent > 0 && !self.is_nested {
                self.request(".RS 2");
                self.is_nested = true;
            }
            self.request(&if mark == "-" { ".IP \\(bu 2".to_owned() } else { format!(".IP {mark} 4") });
            self.text(&inline(rest));
            self.block = Block::Item(indent + mark.len() + 1);
        } else {
            let continues = match self.block {
                Block::Paragraph => true,
                Block::Item(column) => indent >= column,
                _ => false,
            };
            if !continues {
                self.request(".PP");
                self.block = Block::Paragraph;
            }
            self.text(&inline(text));
        }
    }

    fn add_code(&mut self, line: &str, text: &str) {
        match (self.block, text.starts_with("```")) {
            (Block::Code, true) => {
                self.request(".fi\n.RE");
                self.block = Block::None;
            }
            (Block::Code, false) => self.text(&escape(line)),
            _ => {
                self.request(".PP\n.RS 2\n.nf");
                self.block = Block::Code;
            }
        }
    }

    /// A row is an item with its first cell as the tag; the header's words stand before the cells of middle columns.
    fn add_row(&mut self, row: &str) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        if self.block != Block::Table {
            self.block = Block::Table;
            self.labels = cells.into_iter().map(str::to_owned).collect();
            return;
        }
        if cells.iter().all(|cell| cell.trim_matches(['-', ':']).is_empty() && !cell.is_empty()) {
            return;
        }
        self.request(".TP");
        self.text(&inline(&format!("**{}**", cells.first().unwrap_or(&""))));
        let is_pair = cells.len() == 2;
        let labelled = cells.iter().zip(&self.labels).skip(1).filter(|(cell, _)| !cell.is_empty());
        let parts: Vec<String> = labelled
            .map(|(cell, label)| if is_pair { (*cell).to_owned() } else { format!("{label}: {cell}") })
            .collect();
        self.text(&inline(&parts.join("; ")));
    }

    fn leave_nested(&mut self, indent: usize) {
        if self.is_nested && indent == 0 {
            self.request(".RE");
            self.is_nested = false;
        }
    }

    /// Adds a line of text, which roff must not take for a request.
    fn text(&mut self, line: &str) {
        if line.starts_with('.') {
            self.roff.push_str("\\&");
        }
        self.request(line);
    }

    fn request(&mut self, line: &str) {
        self.roff.push_str(line);
        self.roff.push('\n');
    }
}

/// The request for a heading, and its text. The page's title needs none.
fn heading(line: &str) -> Option<(&'static str, &str)> {
    let (marks, text) = line.split_once(' ')?;
    match marks {
        "#" => Some(("", text)),
        "##" => Some((".SH", text)),
        "###" => Some((".SS", text)),
        _ => None,
    }
}

/// A list's mark (`-` or `1.`), and the text behind it.
fn item(text: &str) -> Option<(&str, &str)> {
    let (mark, rest) = text.split_once(' ')?;
    let number = mark.strip_suffix('.').unwrap_or_default();
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (mark == "-" || is_number).then_some((mark, rest))
}

/// One line's text with its fonts. Code and bold are bold, as manual pages write what is to be typed.
fn inline(text: &str) -> String {
    let mut roff = String::new();
    let mut font = Font::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let next = &rest[c.len_utf8()..];
        match c {
            '`' => {
                let (code, after) = next.split_once('`').unwrap_or((next, ""));
                font.set(&mut roff, Font { bold: true, ..font });
                roff.push_str(&escape(code));
                font.set(&mut roff, Font { bold: font.outer_bold, ..font });
                rest = after;
            }
            '*' if next.starts_with('*') => {
                let outer_bold = !font.outer_bold;
                font.set(&mut roff, Font { bold: outer_bold, outer_bold, ..font });
                rest = &next[1..];
            }
            '*' => {
                font.set(&mut roff, Font { italic: !font.italic, ..font });
                rest = next;
            }
            '[' => match link(next) {
                Some((label, address, after)) => {
                    if address.contains("://") {
                        roff.push_str(&format!("{} ({})", inline(label), escape(address)));
                    } else {
                        roff.push_str(&inline(&format!("**{label}**")));
                    }
                    rest = after;
                }
                None => {
                    roff.push('[');
                    rest = next;
                }
            },
            _ => {
                let end = rest.find(['`', '*', '[']).unwrap_or(rest.len());
                roff.push_str(&escape(&rest[..end]));
                rest = &rest[end..];
            }
        }
    }
    roff
}

/// `label](address)` and what follows it.
fn link(text: &str) -> Option<(&str, &str, &str)> {
    let (label, rest) = text.split_once("](")?;
    let (address, after) = rest.split_once(')')?;
    (!label.contains(['[', ']', '`'])).then_some((label, address, after))
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Font {
    bold: bool,
    /// What holds outside of code.
    outer_bold: bool,
    italic: bool,
}

impl Font {
    fn set(&mut self, roff: &mut String, new: Self) {
        if (self.bold, self.italic) != (new.bold, new.italic) {
            roff.push_str(match (new.bold, new.italic) {
                (true, _) => "\\fB",
                (false, true) => "\\fI",
                (false, false) => "\\fR",
            });
        }
        *self = new;
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
