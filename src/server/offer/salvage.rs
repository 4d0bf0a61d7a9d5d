//! The id of the offered task in an answer that is cut off, or that isn't text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::server::limits::{RawId, Scalar};

/// The id, if it comes before the place where the answer can't be read any more.
pub(super) fn offered_id(body: &[u8]) -> Option<RawId> {
    let mut found = Found::default();
    // However it ends, what was found before is right.
    let _ = Fields(&mut found, Level::Answer).deserialize(&mut serde_json::Deserializer::from_slice(body));
    found.id.filter(|_| found.has_task.is_set("has_task").unwrap_or(false))
}

#[derive(Default)]
struct Found {
    has_task: Scalar,
    id: Option<RawId>,
}

/// Which object is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Answer,
    Task,
}

struct Fields<'f>(&'f mut Found, Level);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(found, level) = self;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match (level, &*key) {
                (Level::Answer, "has_task") => found.has_task = map.next_value()?,
                (Level::Answer, "task") => map.next_value_seed(Fields(&mut *found, Level::Task))?,
                (Level::Task, "id") => found.id = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
