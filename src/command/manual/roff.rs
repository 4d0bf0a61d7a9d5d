//! Markdown to roff, for what the manual's pages use: headings, paragraphs, lists, tables, code blocks, and in a line
//! code, bold, italic and links. A test compares every page with what a complete reader of Markdown makes of it.

mod inline;

use std::mem;

/// Converts a page's body. The title line (`# …`) is left out: the page's head names it.
pub fn from_markdown(markdown: &str) -> String {
    let mut page = Page::default();
    page.blocks(&markdown.lines().collect::<Vec<_>>());
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
    /// How many lists are open.
    lists: usize,
    /// Whether nothing of the current item has been written.
    begins_item: bool,
    /// How many open marks make the text bold and italic.
    bold: u32,
    italic: u32,
    font: (bool, bool),
}

/// What a line begins.
enum Begin<'l> {
    Nothing,
    Heading(usize, &'l str),
    Code,
    Table,
    /// An item, with its number if it has one, and the width of its mark.
    Item(Option<u64>, usize),
    Paragraph,
}

impl Begin<'_> {
    fn of(line: &str) -> Begin<'_> {
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        let digits = line.bytes().take_while(u8::is_ascii_digit).count();
        if line.trim().is_empty() {
            Begin::Nothing
        } else if level > 0 && line[level..].starts_with(' ') {
            Begin::Heading(level, line[level..].trim())
        } else if line.starts_with("```") {
            Begin::Code
        } else if line.starts_with('|') {
            Begin::Table
        } else if line.starts_with("- ") {
            Begin::Item(None, 2)
        } else if digits > 0 && line[digits..].starts_with(". ") {
            Begin::Item(line[..digits].parse().ok(), digits + 2)
        } else {
            Begin::Paragraph
        }
    }
}

impl Page {
    /// Converts lines, whose indentation within a list is removed.
    fn blocks(&mut self, mut lines: &[&str]) {
        while let Some(line) = lines.first() {
            let count = match Begin::of(line) {
                Begin::Nothing => 1,
                Begin::Heading(level, text) => self.heading(level, text),
                Begin::Code => self.code_block(&lines[1..]) + 1,
                Begin::Table => self.table(lines),
                Begin::Item(number, _) => self.list(lines, number),
                Begin::Paragraph => self.paragraph(lines),
            };
            lines = &lines[count.min(lines.len())..];
        }
    }

    /// The page's title needs no request.
    fn heading(&mut self, level: usize, text: &str) -> usize {
        let heading = self.apart(|page| page.inline(text)).replace('"', "\\(dq");
        match level {
            1 => {}
            2 => self.request(&format!(".SH \"{heading}\"")),
            _ => self.request(&format!(".SS \"{heading}\"")),
        }
        1
    }

    /// Returns the number of its lines, with that of its end.
    fn code_block(&mut self, lines: &[&str]) -> usize {
        self.request(".PP\n.RS 2\n.nf");
        let code = lines.iter().take_while(|line| !line.starts_with("```"));
        let count = code.clone().map(|line| self.text(&format!("{line}\n"))).count();
        self.request(".fi\n.RE");
        count + 1
    }

    fn paragraph(&mut self, lines: &[&str]) -> usize {
        // A number may begin a line of a paragraph; only a list's first item has the number 1.
        let is_part = |line: &&str| matches!(Begin::of(line), Begin::Paragraph | Begin::Item(Some(2..), _));
        let text: Vec<&str> = lines.iter().map(|line| line.trim()).take_while(is_part).collect();
        if !mem::take(&mut self.begins_item) {
            self.request(".PP");
        }
        self.inline(&text.join("\n"));
        self.end_line();
        text.len()
    }

    fn list(&mut self, lines: &[&str], mut number: Option<u64>) -> usize {
        let is_numbered = number.is_some();
        if self.lists > 0 {
            self.request(".RS 2");
        }
        self.lists += 1;
        let mut at = 0;
        while let Some(Begin::Item(of, width)) = lines.get(at).map(|line| Begin::of(line)) {
            if of.is_some() != is_numbered {
                break;
            }
            let rest = &lines[at + 1..];
            let is_within = |line: &&&str| line.trim().is_empty() || line.starts_with(&" ".repeat(width));
            let mut item = vec![&lines[at][width..]];
            item.extend(rest.iter().take_while(is_within).map(|line| line.get(width..).unwrap_or_default()));
            at += item.len();
            match &mut number {
                Some(number) => {
                    self.request(&format!(".IP {number}. 4"));
                    *number += 1;
                }
                None => self.request(".IP \\(bu 2"),
            }
            self.begins_item = true;
            self.blocks(&item);
            self.begins_item = false;
            self.end_line();
        }
        self.lists -= 1;
        if self.lists > 0 {
            self.request(".RE");
        }
        at
    }

    fn table(&mut self, lines: &[&str]) -> usize {
        let mut rows = lines.iter().take_while(|line| line.starts_with('|')).map(|line| cells(line));
        let count = rows.clone().count();
        let labels = rows.next().map(|row| self.row(&row)).unwrap_or_default();
        for row in rows.skip(1) {
            let row = self.row(&row);
            self.table_row(&row, &labels);
        }
        count
    }

    /// A row is an item with its first cell as the tag; the header's words stand before the cells of middle columns.
    fn table_row(&mut self, cells: &[String], labels: &[String]) {
        let is_pair = cells.len() == 2;
        let labelled = cells.iter().zip(labels).skip(1).filter(|(cell, _)| !cell.is_empty());
        let parts: Vec<String> =
            labelled.map(|(cell, label)| if is_pair { cell.clone() } else { format!("{label}: {cell}") }).collect();
        self.request(&format!(".TP\n{}\n{}", cells[0], parts.join("; ")));
    }

    /// The cells of a row. The first one is bold.
    fn row(&mut self, cells: &[String]) -> Vec<String> {
        let cell = |(index, cell): (usize, &String)| {
            let bold = u32::from(index == 0);
            self.apart(|page| {
                page.bold += bold;
                page.inline(cell);
                page.bold -= bold;
                page.set_font();
            })
        };
        cells.iter().enumerate().map(cell).collect()
    }

    /// What is written, apart from the page.
    fn apart(&mut self, write: impl FnOnce(&mut Self)) -> String {
        let mark = self.roff.len();
        write(self);
        self.roff.split_off(mark)
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

/// The cells of a row `| a | b |`. A `\|` is no end of a cell.
fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line).replace("\\|", "\0");
    line.split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

#[cfg(test)]
mod tests;
