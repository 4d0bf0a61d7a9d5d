//! What is wrong where a file isn't TOML, in words for a person who doesn't know the parser's.

use std::ops::Range;

/// Quotes that a word processor or a web page puts in the place of straight ones.
const CURLED: [char; 6] = ['“', '”', '„', '‘', '’', '«'];

/// The words about a mistake at this place; `message` is the parser's.
pub fn explain(text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let plain = message.replace('\n', ", ");
    let Some(span) = span.filter(|span| text.is_char_boundary(span.start)) else { return plain };
    let line = line_at(text, span.start);
    if message.starts_with("duplicate key") {
        return explain_duplicate(text, &span);
    }
    if let Some(quote) = line.split('#').next().unwrap_or_default().chars().find(|c| CURLED.contains(c)) {
        return format!("`{quote}` is no straight quote; write `\"` before and behind the text");
    }
    if message.contains("string values must be quoted") {
        return "a text must stand in straight quotes: `\"` before and behind it".to_owned();
    }
    if message.contains("invalid basic string") {
        return "the quote (`\"`) at the end of this text is missing, or a `\\` in it has to be written as `\\\\`"
            .to_owned();
    }
    plain
}

/// The line that this byte is in.
fn line_at(text: &str, at: usize) -> &str {
    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[begin..].lines().next().unwrap_or_default()
}

/// Names the first place of a key or section that stands there twice.
fn explain_duplicate(text: &str, span: &Range<usize>) -> String {
    let key = text.get(span.clone()).unwrap_or_default().trim();
    let number = text[..span.start].matches('\n').count();
    let lines: Vec<&str> = text.lines().take(number).map(str::trim).collect();
    let is_section = line_at(text, span.start).trim_start().starts_with('[');
    let first = if is_section {
        let header = line_at(text, span.start).split('#').next().unwrap_or_default().trim();
        lines.iter().position(|line| line.split('#').next().unwrap_or_default().trim() == header)
    } else {
        let section = lines.iter().rposition(|line| line.starts_with('[')).map_or(0, |header| header + 1);
        let is_key = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
        lines[section..].iter().position(is_key).map(|line| section + line)
    };
    let what = if is_section { "the section" } else { "the key" };
    let place = first.map_or_else(|| "above".to_owned(), |line| format!("in line {}", line + 1));
    format!("{what} `{key}` stands {place} already; keep one of them")
}

/// Whether a line of a file may hold something that no message shows: a key, a value of `[executor.env]`, a password in an
/// address.
pub fn may_be_secret(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let header = lines.iter().rev().find(|line| line.trim_start().starts_with('['));
    let is_in_env = header.is_some_and(|header| header.contains("env") || header.contains("agent"));
    is_in_env
        || lines
            .last()
            .is_none_or(|line| ["api_key", "ak_", "env", "@", "proxy"].iter().any(|sign| line.contains(sign)))
}

#[cfg(test)]
mod tests {
    use super::{explain, may_be_secret};
    use crate::config::Config;
    use std::path::Path;

    fn mistakes(text: &str) -> String {
        Config::parse(Path::new("/c.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_in_the_syntax_are_named_in_plain_words() {
        let quoted = mistakes("[server]\nbase_url = “http://h”\n");
        assert!(quoted.starts_with("/c.toml:2:12: `“` is no straight quote; write `\"`"), "{quoted}");
        let bare = mistakes("[server]\nbase_url = http://h\n");
        assert!(bare.contains("/c.toml:2:12: a text must stand in straight quotes"), "{bare}");
        let open = mistakes("[server]\nbase_url = \"http://h\n");
        assert!(open.contains("the quote (`\"`) at the end of this text is missing"), "{open}");
    }

    #[test]
    fn a_key_or_section_that_stands_there_twice_is_named_with_its_first_place() {
        let text = "[server]\nbase_url = 'http://h'\n[executor]\ncapacity = 2\nimage = 'i'\ncapacity = 3\n";
        assert_eq!(mistakes(text), "/c.toml:6:1: the key `capacity` stands in line 4 already; keep one of them");
        let text = "[server]\nbase_url = 'http://h'\n[paths]\n[server]\n";
        assert!(
            mistakes(text).contains("the section `server` stands in line 1 already; keep one of them"),
            "{}",
            mistakes(text)
        );
    }

    #[test]
    fn other_mistakes_keep_the_parsers_words() {
        assert_eq!(explain("a = ]", Some(4..5), "extra `]`"), "extra `]`");
        assert_eq!(explain("", None, "one\ntwo"), "one, two");
    }

    #[test]
    fn lines_with_secrets_are_known() {
        let text = "[server]\nbase_url = 'http://u:p@h'\npoll = 1\n[executor.env]\nA = 1\n[agent]\nx = 2\n";
        let secret: Vec<usize> = (1..=7).filter(|line| may_be_secret(text, *line)).collect();
        assert_eq!(secret, [2, 4, 5, 6, 7]);
        assert!(may_be_secret("", 1));
    }
}
