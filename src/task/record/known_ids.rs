//! Ids of files that are on the Server: a digest of each, and of a bounded number of them, since a Server may list any
//! number, with ids of any length.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::os::digest::fnv;

/// How many ids are known, at most: a megabyte for all tasks of an agent with the usual capacity.
const KNOWN_MAX: usize = 10_000;

/// A digest of an id. A Server that makes two ids with the same one gets a file twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Digest(u64);

impl Digest {
    fn of(id: &str) -> Self {
        Self(fnv(id.bytes()))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DigestVisitor)
    }
}

struct DigestVisitor;

impl Visitor<'_> for DigestVisitor {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the digest of an id")
    }

    fn visit_u64<E: Error>(self, digest: u64) -> Result<Digest, E> {
        Ok(Digest(digest))
    }

    /// Older versions have written the ids themselves.
    fn visit_str<E: Error>(self, id: &str) -> Result<Digest, E> {
        Ok(Digest::of(id))
    }
}

/// The ids of files that the Server had for a task at some time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownIds {
    ids: BTreeSet<Digest>,
    /// Whether the Server had more files than can be known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

impl KnownIds {
    /// Where the Server's list can't be used: it may have had any file.
    pub fn any() -> Self {
        Self { more: true, ..Self::default() }
    }

    pub fn insert(&mut self, id: &str) {
        if self.ids.len() < KNOWN_MAX {
            self.ids.insert(Digest::of(id));
        } else {
            self.more = true;
        }
    }

    /// Whether the Server may have had a file with this id: where it had too many, any file may be one of them.
    pub fn may_have(&self, id: &str) -> bool {
        self.more || self.ids.contains(&Digest::of(id))
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, KNOWN_MAX, KnownIds};

    #[test]
    fn ids_are_known_until_there_are_too_many() {
        // A test vector of the digest's authors.
        assert_eq!(Digest::of("foobar"), Digest(0x8594_4171_f739_67e8));
        let mut known = KnownIds::default();
        (0..KNOWN_MAX).for_each(|number| known.insert(&number.to_string()));
        assert!(known.may_have("0") && known.may_have("9999") && !known.may_have("10000"));
        let again: KnownIds = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
        assert_eq!(again, known);
        known.insert("10000");
        assert!(known.may_have("10000") && known.may_have("10001"));
        assert!(serde_json::to_string(&known).unwrap().len() < 256 * 1024);
    }

    #[test]
    fn ids_of_older_versions_are_read() {
        let known: KnownIds = serde_json::from_str(r#"{"ids":["a","b"]}"#).unwrap();
        assert!(known.may_have("a") && known.may_have("b") && !known.may_have("c"));
    }
}
