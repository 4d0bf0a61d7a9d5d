//! Commands as lines that can be pasted into a POSIX shell.

#[cfg(test)]
mod properties;

use std::borrow::Cow;
use std::path::Path;

use crate::text::{escape, is_mark, is_seen};

/// A command in one line that a POSIX shell reads back as the same words.
///
/// Quoting keeps every character, but the log escapes those that aren't seen, and counts many spaces in a row. A line with
/// such characters is therefore written as octal numbers for `printf`, and read by `eval`.
pub fn shell_line<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let quote = |(index, word): (usize, &'w str)| {
        // The library quotes every `=`, which only the first word needs: there it would be an assignment.
        let is_option = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=./:,@%+".contains(&byte));
        if index > 0 && is_option && !word.is_empty() {
            return Cow::Borrowed(word);
        }
        // The only character that can't be quoted is NUL, and no command line can hold one.
        shlex::try_quote(word).unwrap_or_default()
    };
    let quoted: Vec<_> = words.into_iter().enumerate().map(quote).collect();
    let line = quoted.join(" ");
    if line.chars().all(is_seen) && escape(&line) == line {
        return line;
    }
    let (mut spelled, mut before) = (String::new(), None);
    for c in line.chars() {
        let is_second_space = before.replace(c) == Some(' ') && c == ' ';
        if !is_seen(c) || is_mark(c) || is_second_space || matches!(c, '\'' | '\\' | '%') {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                spelled.push_str(&format!("\\{byte:03o}"));
            }
        } else {
            spelled.push(c);
        }
    }
    format!(r#"eval "$(printf '{spelled}')""#)
}

/// A command of this program for a configuration file, such as `["status"]`. All commands that a message suggests are made
/// here: without `--config` they would be about another file.
pub fn agent_command(config_file: &Path, words: &[&str]) -> String {
    let file = config_file.to_string_lossy();
    shell_line(["agent-core", "--config", &*file].into_iter().chain(words.iter().copied()))
}

/// The command that registers the agent of a configuration file. A person puts the token in the place of `rt_…`.
pub fn register_command(config_file: &Path, earlier: Earlier) -> String {
    let words: &[&str] = match earlier {
        Earlier::None => &["register", "--token"],
        Earlier::Replaced => &["register", "--replace", "--token"],
    };
    agent_command(config_file, words) + " rt_…"
}

/// What a command that registers an agent finds in the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// No registration.
    None,
    /// One that it replaces.
    Replaced,
}

#[cfg(all(test, unix))]
mod tests {
    use super::shell_line;
    use crate::text::escape;

    #[test]
    fn a_shell_splits_the_line_into_the_same_words() {
        let words = [
            "",
            "plain",
            "a b",
            "it's",
            "$HOME `id` \\ \"q\"",
            "two\nlines\n\n",
            "\t%s\\n\u{1b}[31m",
            "ü€",
            "left\u{200f} \u{202e}right",
            "-n",
            "!x",
            "a=b",
            "--x=%1,2",
            "many            spaces",
            "e\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}",
            "no\u{a0}break می\u{200c}خواهم 世\u{3000}界",
        ];
        let line = shell_line(["printf", "%s\\0"].into_iter().chain(words));
        assert_eq!(escape(&line), line);
        let printed = std::process::Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        let expected: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(String::from_utf8_lossy(&printed.stdout), String::from_utf8_lossy(&expected));
    }
}
