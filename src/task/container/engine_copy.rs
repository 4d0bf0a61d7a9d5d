//! What the engine's copy of a container's output says about the log that a docker client has written.
//!
//! The log may hold the client's own words before and behind the container's (a pull's progress, "unexpected EOF"), and
//! may lack its end where the client lost the container. The engine's copy may lack lines, too: an engine whose disk is full
//! drops them. And it isn't byte for byte what was printed: what isn't UTF-8 is replaced in it. So the bytes of the log stay
//! wherever both have the same ASCII characters.

/// Where the client may have added words of its own. It does so on standard error only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientWords {
    Nowhere,
    /// Before the container's: a client that saw the container's end adds nothing.
    Before,
    BeforeAndBehind,
}

/// The first words of a client that pulls the image.
const PULLING: &str = "Unable to find image ";
/// The beginnings of other lines before the container's, and of those behind them.
const WARNINGS: [&str; 2] = ["WARNING: ", "docker: "];
const LOST: [&str; 10] = [
    "docker: ",
    "time=\"",
    "error waiting for container",
    "Error waiting for container",
    "error during connect",
    "Error response from daemon",
    "Cannot connect to the Docker daemon",
    "unexpected EOF",
    "context canceled",
    "read unix",
];

/// The container's output, made of the log and the engine's copy; `None` where they aren't known to be about the same
/// output, so that the log has to stay.
pub fn combine(log: &[u8], copy: &[u8], words: ClientWords) -> Option<Vec<u8>> {
    let (log, copy) = (Ascii::of(log), Ascii::of(copy));
    let lines = log.text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1);
    std::iter::once(0).chain(lines).find_map(|start| combine_from(start, &log, &copy, words))
}

fn combine_from(start: usize, log: &Ascii<'_>, copy: &Ascii<'_>, words: ClientWords) -> Option<Vec<u8>> {
    if !is_before(&log.text[..start], words) {
        return None;
    }
    let same = log.text[start..].iter().zip(&copy.text).take_while(|(one, other)| one == other).count();
    let (rest, more) = (&log.text[start + same..], &copy.text[same..]);
    let is_lost = words == ClientWords::BeforeAndBehind && !rest.is_empty() && all_begin(rest, &LOST);
    let (end, added) = match (rest.is_empty(), more.is_empty()) {
        _ if is_lost => (start + same, copy.from(same)),
        (true, _) => (log.text.len(), copy.from(same)),
        // The engine has lost the end.
        (false, true) if same > 0 || words == ClientWords::Nowhere => (log.text.len(), &[][..]),
        (false, _) => return None,
    };
    Some([log.between(start, end), added].concat())
}

fn is_before(text: &[u8], words: ClientWords) -> bool {
    text.is_empty()
        || words != ClientWords::Nowhere && (text.starts_with(PULLING.as_bytes()) || all_begin(text, &WARNINGS))
}

/// Whether each line begins with one of these.
fn all_begin(text: &[u8], beginnings: &[&str]) -> bool {
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.all(|line| beginnings.iter().any(|beginning| line.starts_with(beginning.as_bytes())))
}

/// The ASCII characters of some output, and where each of them is in it.
struct Ascii<'o> {
    output: &'o [u8],
    text: Vec<u8>,
    places: Vec<usize>,
}

impl<'o> Ascii<'o> {
    fn of(output: &'o [u8]) -> Self {
        let (places, text) = output.iter().enumerate().filter(|(_, byte)| byte.is_ascii()).unzip();
        Self { output, text, places }
    }

    /// The output between two of its ASCII characters, with all others before the first of them.
    fn between(&self, start: usize, end: usize) -> &'o [u8] {
        let from = start.checked_sub(1).map_or(0, |before| self.places[before] + 1);
        &self.output[from..self.places.get(end).copied().unwrap_or(self.output.len())]
    }

    fn from(&self, start: usize) -> &'o [u8] {
        &self.output[self.places.get(start).copied().unwrap_or(self.output.len())..]
    }
}

#[cfg(test)]
mod tests {
    use super::ClientWords::{Before, BeforeAndBehind, Nowhere};
    use super::{ClientWords, combine};

    fn combined(log: &str, copy: &str, words: ClientWords) -> Option<String> {
        combine(log.as_bytes(), copy.as_bytes(), words).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn same(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn lines_that_the_engine_has_lost_stay() {
        for words in [Nowhere, Before, BeforeAndBehind] {
            let log = "line 1\nline 2\nERROR: the reason\n";
            assert_eq!(combined(log, "line 1\n", words), same(log));
            assert_eq!(combined(log, "line 1\nERROR: the reason\n", words), None, "lost in the middle");
        }
        assert_eq!(combined("all is lost\n", "", Nowhere), same("all is lost\n"));
        assert_eq!(combined("all is lost\n", "", Before), None);
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_were_printed() {
        let (log, copy) = (b"caf\xe9\n\xff\nend\xe9".as_slice(), "caf\u{fffd}\n\u{fffd}\nend\u{fffd}");
        assert_eq!(combine(log, copy.as_bytes(), Before).unwrap(), log);
        let longer = combine(b"caf\xe9\n", "caf\u{fffd}\nmore \u{fffd}\n".as_bytes(), Before).unwrap();
        assert_eq!(longer, [b"caf\xe9\n".as_slice(), "more \u{fffd}\n".as_bytes()].concat());
    }

    #[test]
    fn the_clients_words_are_cut_off() {
        let pull = "Unable to find image 'a' locally\nlatest: Pulling from a\nStatus: Downloaded newer image for a\n";
        assert_eq!(combined(&format!("{pull}out\n"), "out\n", Before), same("out\n"));
        assert_eq!(combined(&format!("{pull}out\n"), "out\nmore\n", Before), same("out\nmore\n"));
        let lost = "time=\"2026\" level=error msg=\"error waiting for container: unexpected EOF\"\n";
        assert_eq!(combined(&format!("out\n{lost}"), "out\n", BeforeAndBehind), same("out\n"));
        assert_eq!(combined(&format!("out\n{lost}"), "out\nlast\n", BeforeAndBehind), same("out\nlast\n"));
        assert_eq!(combined(&format!("out\n{lost}"), "out\n", Before), same(&format!("out\n{lost}")));
        assert_eq!(combined(lost, "", BeforeAndBehind), same(""));
    }

    #[test]
    fn output_that_the_log_lacks_is_added() {
        assert_eq!(combined("", "out\n", Before), same("out\n"));
        assert_eq!(combined("a\nb\n", "a\nb\nc\n", Nowhere), same("a\nb\nc\n"));
        assert_eq!(combined("", "", BeforeAndBehind), same(""));
    }
}
