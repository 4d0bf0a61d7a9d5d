//! The list of a task's files, read as it arrives. It may have any number of them, and none is kept here.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use ureq::Body;
use ureq::http::Response;

use super::answer::{accept_success, unusable};
use super::error::ClientError;
use super::limits::{BoundedJson, LARGE_ANSWER};
use super::protocol::ListedFile;

/// What a caller does with each file of a list. An error ends the call.
pub type Each<'e> = &'e mut dyn FnMut(ListedFile) -> Result<(), String>;

/// Calls `each` with every file of the answer.
pub(super) fn read_list(response: Response<Body>, each: Each<'_>) -> Result<(), ClientError> {
    let response = accept_success(response)?;
    let status = response.status();
    let body = response.into_body().into_with_config().limit(LARGE_ANSWER).reader();
    read(body, each).map_err(|(begin, why)| unusable(status, begin, &why))
}

/// Reads the list. An error has the first byte, which tells a proxy's page from JSON.
fn read(body: impl Read, each: Each<'_>) -> Result<(), (Option<u8>, String)> {
    let mut reader = BufReader::new(BoundedJson::new(body));
    let begin = match reader.fill_buf() {
        Ok(bytes) => bytes.trim_ascii_start().first().copied(),
        Err(error) => return Err((None, error.to_string())),
    };
    let mut parser = serde_json::Deserializer::from_reader(reader);
    List(each).deserialize(&mut parser).and_then(|()| parser.end()).map_err(|error| (begin, error.to_string()))
}

/// `{"files":[…]}`. An answer without a list doesn't say that the Server has no file.
struct List<'e>(Each<'e>);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list of files")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_list = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key == "files" {
                map.next_value_seed(Files(&mut *self.0))?;
                has_list = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if has_list { Ok(()) } else { Err(A::Error::missing_field("files")) }
    }
}

/// The files.
struct Files<'e>(Each<'e>);

impl<'de> DeserializeSeed<'de> for Files<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Files<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(file) = seq.next_element()? {
            (self.0)(file).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    fn ids(text: &str) -> Result<Vec<String>, String> {
        let mut ids = Vec::new();
        let each = &mut |file: super::ListedFile| {
            ids.push(file.id.into_string());
            if ids.len() == 4 { Err("enough".to_owned()) } else { Ok(()) }
        };
        read(text.as_bytes(), each).map_err(|(_, why)| why)?;
        Ok(ids)
    }

    #[test]
    fn files_are_passed_on_one_by_one() {
        let two = r#"{"x":[1],"files":[{"id":"a","filename":null},{"id":"b","size_bytes":3,"new":{}}],"next":null}"#;
        assert_eq!(ids(two).unwrap(), ["a", "b"]);
        assert_eq!(ids(r#"{"files":[]}"#).unwrap(), [""; 0]);
    }

    #[test]
    fn other_shapes_are_errors() {
        let others = ["", "7", "[]", "null", "{}", r#"{"success":false}"#, r#"{"files":null}"#, r#"{"files":7}"#];
        let cut = [r#"{"files":[{}]}"#, r#"{"files":[]}x"#, r#"{"files":[{"id":"a"}"#];
        for wrong in others.into_iter().chain(cut) {
            assert!(ids(wrong).is_err(), "{wrong}");
        }
        let long = format!(r#"{{"files":[{{"id":"{}"}}]}}"#, "x".repeat(513));
        assert!(ids(&long).unwrap_err().contains("513 bytes"));
        let many = format!(r#"{{"files":[{}]}}"#, [r#"{"id":"a"}"#; 5].join(","));
        assert!(ids(&many).unwrap_err().contains("enough"));
    }
}
