//! Signals in docker's words. The numbers are those of Linux on all processors that docker has images for but MIPS.

/// The names in the order of their numbers, from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
/// Other names of the same signals.
const ALIASES: [(&str, u8); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];
/// The first and the last of the real-time signals, as docker counts them.
const REAL_TIME: [u8; 2] = [34, 64];

/// The number of a signal that is written as `15`, `TERM`, `SIGTERM`, `RTMIN+3` or `RTMAX-3`.
pub(super) fn number(word: &str) -> Option<u8> {
    let word = word.trim().to_ascii_uppercase();
    let name = word.strip_prefix("SIG").unwrap_or(&word);
    let [first, last] = REAL_TIME;
    let offset = |rest: &str, sign| if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse::<u8>().ok() };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        first.checked_add(offset(rest, '+')?)?
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        last.checked_sub(offset(rest, '-')?)?
    } else {
        let named = (1..).zip(NAMES).chain(ALIASES.map(|(name, number)| (number, name)));
        let named = named.into_iter().find(|(_, known)| *known == name).map(|(number, _)| number);
        named.or_else(|| name.parse().ok())?
    };
    (1..=last).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_are_known_in_all_of_dockers_words() {
        let table = [
            ("15", Some(15)),
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("sigusr1", Some(10)),
            ("QUIT", Some(3)),
            ("SIGWINCH", Some(28)),
            ("SYS", Some(31)),
            ("CLD", Some(17)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMIN+40", None),
            ("RTMIN3", None),
            ("0", None),
            ("", None),
            ("NOPE", None),
        ];
        for (word, expected) in table {
            assert_eq!(number(word), expected, "{word}");
        }
    }
}
