//! The name of a task in files and containers.

use std::fmt;

use super::digest::Digest;
use crate::task::file_name::is_windows_device;

/// A task's name in files and containers: the Server's id where that is harmless, else an encoding of it (P4). Where the
/// Server gives an id to a second task while the first is still kept, the second has a number in its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey(String);

const CONTAINER_PREFIX: &str = "open-aaas-task-";
/// With a prefix or a number, a key of this length is still a container name, and a file name, which has 143 bytes at most
/// on eCryptfs.
const KEY_MAX: usize = 128;
/// What a key with a number begins with: no encoding of an id does, since `_` is followed there by the two digits of a byte
/// or by another character than `_`.
const NUMBERED: &str = "__r";
/// What the key of an id begins with that is too long for a key: its digest follows.
const DIGEST: &str = "__d";
/// The longest number before a key, with what stands around it.
const NUMBER_MAX: usize = "__r4294967295-".len();

impl TaskKey {
    /// The key of an id, or `None` for an empty one.
    ///
    /// Two ids that have room in a key never share one: plain ids begin with a letter or digit, encoded ones with an
    /// underscore.
    pub fn from_id(id: &str) -> Option<Self> {
        if id.is_empty() {
            return None;
        }
        let key = if is_plain(id) { id.to_owned() } else { encode(id) };
        if key.len() <= KEY_MAX {
            return Some(Self(key));
        }
        let mut digest = Digest::new();
        digest.add(id);
        Some(Self(format!("{DIGEST}{:032x}", digest.finish())))
    }

    /// Whether the id of the task has no room in its key.
    pub fn is_digest(&self) -> bool {
        self.split().1.starts_with(DIGEST)
    }

    /// Reads a key back from a container's or folder's name.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        let key = Self(text.to_owned());
        let length_max = if key.split().0 == 1 { KEY_MAX } else { KEY_MAX + NUMBER_MAX };
        (allowed && !text.is_empty() && !text.starts_with(['.', '-']) && text.len() <= length_max).then_some(key)
    }

    /// The key of a later task with the same id: its number is 2 or more.
    pub fn with_number(&self, number: u32) -> Self {
        Self(format!("{NUMBERED}{number}-{}", self.split().1))
    }

    /// Which of the tasks with the same id this is, from 1 on.
    pub fn number(&self) -> u32 {
        self.split().0
    }

    /// Whether a task with this id has this key.
    pub fn is_of(&self, id: &str) -> bool {
        Self::from_id(id).is_some_and(|first| first.0 == self.split().1)
    }

    /// The number, and the key of the first task with the same id.
    fn split(&self) -> (u32, &str) {
        let numbered = self.0.strip_prefix(NUMBERED).and_then(|rest| rest.split_once('-'));
        let number = |(number, first): (&str, _)| number.parse().ok().filter(|number| *number > 1).zip(Some(first));
        numbered.and_then(number).unwrap_or((1, &self.0))
    }

    pub fn container_name(&self) -> String {
        format!("{CONTAINER_PREFIX}{}", self.0)
    }

    /// The key of the task that a container of this name belongs to.
    pub fn from_container_name(name: &str) -> Option<Self> {
        name.strip_prefix(CONTAINER_PREFIX).and_then(Self::parse)
    }

    /// The text, made of `A-Z a-z 0-9 _ . -`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(id: &str) -> bool {
    let allowed = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let begins_well = id.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    // Windows drops dots at a name's end.
    allowed && begins_well && !id.ends_with('.') && !is_windows_device(id)
}

fn encode(id: &str) -> String {
    let mut key = "_".to_owned();
    for byte in id.bytes().take(KEY_MAX + 1) {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            key.push(char::from(byte));
        } else {
            key.push_str(&format!("_{byte:02x}"));
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::TaskKey;
    use std::collections::HashSet;

    #[test]
    fn harmless_ids_are_their_own_keys_and_all_keys_differ() {
        let ids =
            ["t1", "A.b-c_9", "_t1", "t 1", "t_201", "../x", "..", "NUL", "nul.txt", "com1", "t1.", "t/1", "ü", "-v"];
        let keys: Vec<String> = ids.iter().map(|id| TaskKey::from_id(id).unwrap().as_str().to_owned()).collect();
        assert_eq!(keys[..2], ["t1", "A.b-c_9"]);
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), ids.len(), "{keys:?}");
        for key in &keys {
            assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)), "{key}");
            assert!(!key.starts_with(['.', '-']) && !key.ends_with('.'), "{key}");
        }
    }

    #[test]
    fn very_long_ids_have_keys_that_say_so_and_empty_ones_have_none() {
        assert!(TaskKey::from_id("").is_none());
        let longest = TaskKey::from_id(&"x".repeat(128)).unwrap();
        assert!(longest.with_number(u32::MAX).as_str().len() <= 143 && !longest.is_digest());
        let long = ["x".repeat(129), "x".repeat(130), "/".repeat(50), "/".repeat(4096)];
        let keys: HashSet<TaskKey> = long.iter().map(|id| TaskKey::from_id(id).unwrap()).collect();
        assert_eq!(keys.len(), long.len());
        for key in keys {
            assert!(key.is_digest() && key.with_number(2).is_digest(), "{key}");
            assert_eq!((TaskKey::parse(key.as_str()).as_ref(), key.number()), (Some(&key), 1));
        }
        assert!(TaskKey::from_id(&long[0]).unwrap().with_number(3).is_of(&long[0]));
    }
}
