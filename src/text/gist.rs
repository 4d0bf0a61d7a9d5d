//! What a message says, so that a log has it once for as long as it stays the same.

use std::borrow::Cow;

/// Units behind a number that may be another one each time.
const UNITS: [&str; 16] =
    ["B", "KB", "MB", "GB", "KiB", "MiB", "GiB", "TiB", "bytes", "s", "ms", "min", "minutes", "h", "hours", "days"];

/// A message without what may differ each time although it says the same: ids, addresses, ports, times and sizes. Short
/// numbers, such as an exit status, stay.
pub fn gist(message: &str) -> String {
    let mut words = message.split_whitespace().peekable();
    let mut gist: Vec<Cow<'_, str>> = Vec::new();
    while let Some(word) = words.next() {
        let is_size = is_number(word) && words.next_if(|next| UNITS.contains(&bare(next))).is_some();
        gist.push(match () {
            () if is_size => "#".into(),
            () if word.contains('/') && !is_number(bare(word)) => path_gist(word).into(),
            () if varies(bare(word)) => "#".into(),
            () => word.into(),
        });
    }
    gist.join(" ")
}

/// A path, or an address with one, without the parts that look like an id or an address: `/mnt/disk001` isn't `/mnt/disk002`.
fn path_gist(word: &str) -> String {
    let gist = |part| if is_id(bare(part)) { "#" } else { part };
    word.split('/').map(gist).collect::<Vec<_>>().join("/")
}

/// Whether a part of a path is an id, an address or a time.
fn is_id(part: &str) -> bool {
    let digits = part.chars().filter(char::is_ascii_digit).count();
    let is_hash = part.len() >= 7 && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    digits >= 6 || digits >= 3 && is_hash
}

/// A word without the marks around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// Whether the word has digits and marks only.
fn is_number(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || c.is_ascii_punctuation())
}

/// Whether the word may be another one when the message comes again.
fn varies(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let marks = word.len().saturating_sub(digits);
    // Of a hash, a path with one, or a time.
    digits >= 6
        // Of an address, or a number that is no exit status and no HTTP status.
        || is_number(word) && (marks >= 2 || digits >= 4)
        // Of a short id, as in the name of a network interface.
        || digits >= 3 && word.len() >= 7
}

#[cfg(test)]
mod tests {
    use super::gist;

    #[test]
    fn a_message_says_the_same_with_other_ids_and_addresses() {
        let same = [
            [
                "error creating overlay mount to /var/lib/docker/overlay2/9f86d081884c7d65/merged: no space left",
                "error creating overlay mount to /var/lib/docker/overlay2/60303ae22b998861/merged: no space left",
            ],
            [
                "failed to create the host (veth3a2f1c0) and sandbox (vethb90144d) pair interfaces",
                "failed to create the host (veth77d01e2) and sandbox (veth0c55a19) pair interfaces",
            ],
            ["dial tcp 10.0.0.3:40112->10.0.0.9:443: reset", "dial tcp 10.0.0.3:51876->10.0.0.9:443: reset"],
            [
                "task `7d444840-9dc0-11d1-b245-5ffdce74fad2` waits: it needs 3.1 GiB",
                "task `0b2f31aa-77c1-4e0e-9d1b-c0ffee01d00d` waits: it needs 12 MiB",
            ],
            ["open /srv/workspaces/a1b2c3d/output: denied", "open /srv/workspaces/0f9e8d7/output: denied"],
            ["GET http://10.0.0.3:40112/x: EOF", "GET http://10.0.0.3:40113/x: EOF"],
            ["time=\"2026-12-01T09:11:24Z\" level=error", "time=\"2026-12-02T10:00:01Z\" level=error"],
        ];
        for [one, other] in same {
            assert_eq!(gist(one), gist(other));
        }
    }

    #[test]
    fn a_message_about_another_thing_says_another_thing() {
        let others = [
            ["ended at once with status 1", "ended at once with status 126"],
            ["answered 502", "answered 503"],
            ["the mount `/mnt/data1` is missing", "the mount `/mnt/data2` is missing"],
            ["the mount `/mnt/disk001` is missing", "the mount `/mnt/disk002` is missing"],
            ["`/data/2025/run7` gives no answer", "`/data/2026/run7` gives no answer"],
            ["network lab not found", "network office not found"],
            ["", "docker gave no reason"],
        ];
        for [one, other] in others {
            assert_ne!(gist(one), gist(other));
        }
    }
}
