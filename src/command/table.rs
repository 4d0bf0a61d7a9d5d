//! Columns of texts, as wide as the widest of each, cut to the width of the terminal.

use super::style::{Colour, Style};
use crate::text::{fit, width};

/// Between two columns.
const GAP: usize = 2;
/// What the last column has at least, however narrow the terminal is.
const LAST_MIN: usize = 12;

/// One text of a table, escaped.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    pub text: String,
    pub colour: Option<Colour>,
    /// Whether it stands at the right end of its column.
    pub is_right: bool,
}

impl Cell {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// For numbers.
    pub fn right(text: impl Into<String>) -> Self {
        Self { is_right: true, ..Self::new(text) }
    }

    pub fn coloured(text: impl Into<String>, colour: Option<Colour>) -> Self {
        Self { colour, ..Self::new(text) }
    }
}

/// The rows of a table, without its heading.
#[derive(Debug)]
pub struct Table<const N: usize> {
    heading: [Cell; N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub fn new(heading: [Cell; N]) -> Self {
        Self { heading: heading.map(|cell| Cell { colour: Some(Colour::Faint), ..cell }), rows: Vec::new() }
    }

    pub fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The lines, each cut to so many columns, if any.
    pub fn lines(&self, style: Style, room: Option<usize>) -> Vec<String> {
        let rows = || std::iter::once(&self.heading).chain(&self.rows);
        let widths: [usize; N] =
            std::array::from_fn(|column| rows().map(|row| width(&row[column].text)).max().unwrap_or_default());
        let before: usize = widths.iter().take(N - 1).map(|width| width + GAP).sum();
        let last = room.map(|room| room.saturating_sub(before).max(LAST_MIN));
        let line = |row: &[Cell; N]| {
            let mut line = String::new();
            for (column, (cell, room)) in row.iter().zip(widths).enumerate() {
                let is_last = column + 1 == N;
                let text = match last.filter(|_| is_last) {
                    Some(room) => fit(&cell.text, room),
                    None => cell.text.clone(),
                };
                let pad = " ".repeat(room.saturating_sub(width(&text)));
                let text = style.paint(&text, cell.colour);
                match (cell.is_right, is_last) {
                    (true, _) => line += &(pad + &text),
                    (false, true) => line += &text,
                    (false, false) => line += &(text + &pad),
                }
                if !is_last {
                    line += &" ".repeat(GAP);
                }
            }
            line.truncate(line.trim_end().len());
            line
        };
        rows().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Table};
    use crate::command::style::Style;

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let mut table = Table::new(["ID", "N", "WHY"].map(Cell::new));
        table.push([Cell::new("世界"), Cell::right("1"), Cell::new("a longer reason")]);
        table.push([Cell::new("t"), Cell::right("100"), Cell::new("")]);
        let expected = ["ID    N    WHY", "世界    1  a longer reason", "t     100"];
        assert_eq!(table.lines(Style::plain(), None), expected);
        assert_eq!(table.lines(Style::plain(), Some(24))[1], "世界    1  a longer rea…");
        assert_eq!(table.lines(Style::plain(), Some(5))[1], "世界    1  a longer re…", "the reason keeps some room");
    }
}
