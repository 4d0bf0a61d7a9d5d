//! Colours of what commands print: on a terminal that shows them, unless `NO_COLOR` is set.

use crate::os::terminal;

/// A colour by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// All is well.
    Good,
    /// Something waits, or needs a look.
    Notice,
    /// Something has failed.
    Bad,
    /// Less important than what is beside it.
    Faint,
}

/// How standard output shows texts.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    has_colours: bool,
}

impl Style {
    /// That of standard output.
    pub fn of_stdout() -> Self {
        Self { has_colours: terminal::has_colours() }
    }

    /// Without colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { has_colours: false }
    }

    /// A text that is escaped already, in this colour.
    pub fn paint(self, text: &str, colour: Option<Colour>) -> String {
        let code = match colour.filter(|_| self.has_colours && !text.is_empty()) {
            None => return text.to_owned(),
            Some(Colour::Good) => "32",
            Some(Colour::Notice) => "33",
            Some(Colour::Bad) => "31",
            Some(Colour::Faint) => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::{Colour, Style};

    #[test]
    fn a_colour_ends_behind_its_text() {
        let style = Style { has_colours: true };
        assert_eq!(style.paint("no", Some(Colour::Bad)), "\u{1b}[31mno\u{1b}[0m");
        assert_eq!((style.paint("x", None), style.paint("", Some(Colour::Bad))), ("x".to_owned(), String::new()));
        assert_eq!(Style::plain().paint("no", Some(Colour::Bad)), "no");
    }
}
