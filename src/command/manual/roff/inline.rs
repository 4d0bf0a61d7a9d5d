//! What a line of Markdown may hold: code, bold, italic and links.

use super::Page;

impl Page {
    /// Converts the text of a paragraph, a heading or a cell.
    pub(super) fn inline(&mut self, mut text: &str) {
        while let Some(at) = text.find(['`', '*', '[', '\n']) {
            self.plain(&text[..at]);
            text = &text[at..];
            let length = match text.as_bytes()[0] {
                b'`' => self.code(text),
                b'*' => self.mark(text),
                b'[' => self.link(text),
                _ => {
                    self.end_line();
                    Some(1)
                }
            };
            // What begins nothing is itself.
            let length = length.unwrap_or_else(|| {
                self.plain(&text[..1]);
                1
            });
            text = &text[length..];
        }
        self.plain(text);
        self.set_font();
    }

    fn plain(&mut self, text: &str) {
        if !text.is_empty() {
            self.text(text);
        }
    }

    /// Code is bold, as manual pages write what is to be typed. Returns its length, if it has an end.
    fn code(&mut self, text: &str) -> Option<usize> {
        let fence = text.bytes().take_while(|byte| *byte == b'`').count();
        let rest = &text[fence..];
        let end = ends(rest, &text[..fence])
            .find(|end| !rest[..*end].ends_with('`') && !rest[end + fence..].starts_with('`'))?;
        let code = rest[..end].replace('\n', " ");
        let spaced = code.strip_prefix(' ').and_then(|code| code.strip_suffix(' '));
        self.bold += 1;
        self.text(spaced.filter(|code| !code.trim().is_empty()).unwrap_or(&code));
        self.bold -= 1;
        self.set_font();
        Some(end + 2 * fence)
    }

    /// `*italic*` or `**bold**`. Returns its length, if it is one.
    fn mark(&mut self, text: &str) -> Option<usize> {
        let mark = if text.starts_with("**") { "**" } else { "*" };
        let rest = &text[mark.len()..];
        if rest.starts_with(char::is_whitespace) {
            return None;
        }
        let end = ends(rest, mark).find(|end| *end > 0 && !rest[..*end].ends_with(char::is_whitespace))?;
        let count = if mark.len() == 2 { &mut self.bold } else { &mut self.italic };
        *count += 1;
        self.inline(&rest[..end]);
        let count = if mark.len() == 2 { &mut self.bold } else { &mut self.italic };
        *count -= 1;
        self.set_font();
        Some(end + 2 * mark.len())
    }

    /// A link to a page of the manual is bold; another one keeps its address. Returns its length, if it is one.
    fn link(&mut self, text: &str) -> Option<usize> {
        let (label, rest) = text[1..].split_once("](")?;
        let (address, _) = rest.split_once(')')?;
        if label.contains(']') {
            return None;
        }
        let is_outside = address.contains("://");
        self.bold += u32::from(!is_outside);
        self.inline(label);
        self.bold -= u32::from(!is_outside);
        if is_outside {
            self.text(&format!(" ({address})"));
        }
        self.set_font();
        Some(label.len() + address.len() + 4)
    }
}

fn ends<'t>(text: &'t str, mark: &'t str) -> impl Iterator<Item = usize> + 't {
    text.match_indices(mark).map(|(at, _)| at)
}
