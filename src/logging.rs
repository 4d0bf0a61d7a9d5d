//! The log: one line an event, with time and level.
//!
//! Only this program's own messages are written, whatever `RUST_LOG` says: an HTTP library at trace level would write
//! keys. Control characters are escaped, since much of what is logged comes from outside.

use std::io::Write;

use env_logger::{Builder, Target};
use jiff::Zoned;
use log::LevelFilter;

/// Sends log lines to standard error. `RUST_LOG` may name a level (`debug`, `agent_core=trace`); `info` is the default.
pub fn start() {
    let mut builder = Builder::new();
    builder.filter_level(LevelFilter::Off);
    builder.filter_module("agent_core", level(std::env::var("RUST_LOG").ok().as_deref()));
    builder.parse_write_style(&std::env::var("RUST_LOG_STYLE").unwrap_or_default());
    builder.target(Target::Stderr).format(|out, record| {
        let style = out.default_level_style(record.level());
        let now = Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
        let text = escape(&record.args().to_string());
        writeln!(out, "{now} {style}{:<5}{style:#} {text}", record.level())
    });
    builder.init();
}

/// The level that `RUST_LOG` asks of us: that of `agent_core=LEVEL`, or of a bare `LEVEL`.
fn level(variable: Option<&str>) -> LevelFilter {
    let mut chosen = LevelFilter::Info;
    for directive in variable.unwrap_or_default().split(',') {
        let (module, word) = directive.split_once('=').unwrap_or(("agent_core", directive));
        if let (true, Ok(level)) = (module.trim() == "agent_core", word.trim().parse()) {
            chosen = level;
        }
    }
    chosen
}

/// Makes control characters visible, and characters that change the direction of the text around them.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_shown(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}

/// Whether a character stands in the log as it is. A command that is to be pasted from there must have no other.
pub fn is_shown(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{escape, level};
    use log::LevelFilter;

    #[test]
    fn outside_text_can_not_forge_lines() {
        assert_eq!(escape("a\nINFO b\r\t\u{1b}[31m\u{202e}"), "a\\nINFO b\\r\\t\\u{1b}[31m\\u{202e}");
        assert_eq!(escape("héllo — 世界"), "héllo — 世界");
    }

    #[test]
    fn levels() {
        assert_eq!(level(None), LevelFilter::Info);
        assert_eq!(level(Some("debug")), LevelFilter::Debug);
        assert_eq!(level(Some("ureq=trace,agent_core=warn")), LevelFilter::Warn);
        assert_eq!(level(Some("ureq=trace")), LevelFilter::Info);
        assert_eq!(level(Some("nonsense")), LevelFilter::Info);
    }
}
