//! The answer of a poll: a cancellation, and an offered task as the Server wrote it, with what of it is taken.
//!
//! serde's own errors quote a text that stands in the place of another type, whole and escaped: of 8 MiB they make 50,
//! and the log would show a text of the Server of any length. So nothing here lets serde expect another type where a long text
//! may stand.

mod salvage;

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::limits::{CutText, LongName, RawId, Scalar, ShortText};
use super::protocol::{InputFile, Task, or_default};

/// How many input files a task may have.
pub const INPUTS_MAX: usize = 10_000;

/// Answer of `poll`.
#[derive(Debug, Default)]
pub struct PollAnswer {
    /// The oldest pending task, which isn't reserved for this agent (PROTOCOL 1). It is parsed later: an offer of the
    /// wrong shape must not hide a cancellation beside it.
    pub offer: Option<Offer>,
    /// A task of the service to be stopped, perhaps another agent's (PROTOCOL 2).
    pub cancel: Option<RawId>,
    /// What of the answer can't be read; the rest of it counts.
    pub flaw: Option<String>,
}

/// The fields of a poll's answer, which are independent of each other on the wire.
#[derive(Default, Deserialize)]
struct PollFields<'b> {
    /// Whether `task` counts.
    #[serde(default)]
    has_task: Scalar,
    #[serde(borrow)]
    task: Option<&'b RawValue>,
    /// Whether `cancel_task_id` counts.
    #[serde(default)]
    should_cancel: Scalar,
    #[serde(borrow)]
    cancel_task_id: Option<&'b RawValue>,
}

impl PollAnswer {
    /// Parses an answer. Its offer stays in the memory of the answer's body.
    pub fn read(body: Vec<u8>) -> serde_json::Result<Self> {
        let fields = match body.trim_ascii_start().first() {
            // `null` is an answer without content.
            Some(b'n') => serde_json::from_slice::<()>(&body).map(|()| PollFields::default())?,
            _ if std::str::from_utf8(&body).is_err() => {
                const NOT_UTF8: &str = "it isn't UTF-8";
                return Self::salvage(&body, NOT_UTF8).ok_or_else(|| serde_json::Error::custom(NOT_UTF8));
            }
            _ => read_object(&body, "the answer")?,
        };
        let has_task = fields.has_task.is_set("has_task");
        let should_cancel = fields.should_cancel.is_set("should_cancel");
        let named = fields.cancel_task_id.filter(|_| matches!(should_cancel, Ok(true)));
        let cancel = named.map(|id| serde_json::from_str::<RawId>(id.get())).transpose();
        let task = fields.task.filter(|_| matches!(has_task, Ok(true))).map(RawValue::get);
        let flaws = [
            has_task.as_ref().err().map(ToString::to_string),
            should_cancel.as_ref().err().map(ToString::to_string),
            cancel.as_ref().err().map(|error| format!("`cancel_task_id`: {error}")),
        ];
        let (cancel, flaw) = (cancel.unwrap_or_default(), flaws.into_iter().flatten().next());
        let range = task.map(|task| (task.as_ptr() as usize - body.as_ptr() as usize, task.len()));
        let offer = range.map(|(begin, length)| Offer::cut_out(body, begin, length));
        Ok(Self { offer, cancel, flaw })
    }

    /// What is left of an answer that can't be read as a whole, for this reason: the id of its offer, if that can be found.
    /// Under its id the task can be refused, so that it doesn't hide those behind it.
    pub fn salvage(body: &[u8], why: &'static str) -> Option<Self> {
        let id = salvage::offered_id(body)?;
        let json = serde_json::json!({ "id": &*id }).to_string().into_bytes();
        Some(Self { offer: Some(Offer { json, flaw: Some(why) }), ..Self::default() })
    }
}

/// An offer that isn't parsed yet.
#[derive(Debug)]
pub struct Offer {
    json: Vec<u8>,
    /// Why nothing but its id is left of it.
    flaw: Option<&'static str>,
}

impl Offer {
    /// A part of an answer, without a copy of it.
    pub(super) fn cut_out(mut body: Vec<u8>, begin: usize, length: usize) -> Self {
        body.truncate(begin + length);
        body.drain(..begin);
        Self { json: body, flaw: None }
    }

    /// The task's id, which may be too long for a name.
    ///
    /// # Errors
    /// The offer is no object with an id under which it could be accepted.
    pub fn id(&self) -> serde_json::Result<String> {
        #[derive(Deserialize)]
        struct Named {
            id: RawId,
        }
        read_object::<Named>(&self.json, "the offer").map(|named| named.id.into_string())
    }

    /// How many bytes the offer has: its task needs about as much memory.
    pub fn size(&self) -> usize {
        self.json.len()
    }

    /// The task.
    ///
    /// # Errors
    /// The offer has another shape, too many input files, or ids that are too long. The middle of a file's name that is too
    /// long is left out: a submitter may give a file any name.
    pub fn parse(&self) -> serde_json::Result<Task> {
        match self.flaw {
            Some(why) => Err(serde_json::Error::custom(why)),
            None => read_object(&self.json, "the offer").map(OfferedTask::into_task),
        }
    }
}

/// Parses an object. Anything else is an error that doesn't quote it.
pub(super) fn read_object<'j, T: Deserialize<'j>>(json: &'j [u8], what: &str) -> serde_json::Result<T> {
    match json.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(json),
        _ => Err(serde_json::Error::custom(format_args!("{what} isn't an object"))),
    }
}

/// A [`Task`] within limits. The task in a record may be from an older version, which had none.
#[derive(Deserialize)]
struct OfferedTask {
    id: ShortText,
    #[serde(default, deserialize_with = "or_default")]
    task_prompt: String,
    #[serde(default)]
    output_prompt: Option<String>,
    #[serde(default)]
    session_id: Option<ShortText>,
    #[serde(default)]
    input_files: Inputs,
}

#[derive(Deserialize)]
struct OfferedFile {
    id: ShortText,
    filename: LongName,
    #[serde(default)]
    mime_type: Option<CutText>,
    size_bytes: Scalar,
}

impl OfferedTask {
    fn into_task(self) -> Task {
        Task {
            id: self.id.into_string(),
            task_prompt: self.task_prompt,
            output_prompt: self.output_prompt,
            session_id: self.session_id.map(ShortText::into_string),
            input_files: self.input_files.0,
        }
    }
}

impl OfferedFile {
    fn read(json: &RawValue) -> serde_json::Result<InputFile> {
        let file: Self = read_object(json.get().as_bytes(), "an input file")?;
        let Scalar::Count(size_bytes) = file.size_bytes else {
            return Err(serde_json::Error::custom("the `size_bytes` of an input file isn't a number of bytes"));
        };
        Ok(InputFile {
            id: file.id.into_string(),
            filename: file.filename.0,
            // One that is so long says nothing.
            mime_type: file.mime_type.and_then(|mime_type| mime_type.whole().map(str::to_owned)),
            size_bytes,
        })
    }
}

/// At most [`INPUTS_MAX`] input files.
#[derive(Default)]
struct Inputs(Vec<InputFile>);

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputsVisitor)
    }
}

struct InputsVisitor;

impl<'de> Visitor<'de> for InputsVisitor {
    type Value = Inputs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {INPUTS_MAX} input files")
    }

    fn visit_unit<E: Error>(self) -> Result<Inputs, E> {
        Ok(Inputs::default())
    }

    fn visit_str<E: Error>(self, _text: &str) -> Result<Inputs, E> {
        Err(E::custom("`input_files` isn't a list"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inputs, A::Error> {
        let mut files = Vec::new();
        while let Some(file) = seq.next_element::<&RawValue>()? {
            if files.len() == INPUTS_MAX {
                return Err(A::Error::custom(format_args!("more than {INPUTS_MAX} input files")));
            }
            files.push(OfferedFile::read(file).map_err(A::Error::custom)?);
        }
        Ok(Inputs(files))
    }
}

#[cfg(test)]
mod tests {
    use super::{INPUTS_MAX, Offer, PollAnswer};
    use crate::server::protocol::Task;
    use serde_json::{Value, json};

    fn offer(value: &Value) -> Offer {
        Offer { json: value.to_string().into_bytes(), flaw: None }
    }

    #[test]
    fn an_offer_has_bounded_names_and_inputs() {
        let file = |name: &str| json!({"id": "f", "filename": name, "size_bytes": 1});
        let with = |files: Vec<Value>| offer(&json!({"id": "t", "input_files": files}));
        assert_eq!(with(vec![file("a"); INPUTS_MAX]).parse().unwrap().input_files.len(), INPUTS_MAX);
        let error = with(vec![file("a"); INPUTS_MAX + 1]).parse().unwrap_err().to_string();
        assert!(error.contains("more than 10000 input files"), "{error}");
        assert!(with(vec![file(&"n".repeat(512))]).parse().is_ok());
        let long = format!("{}.csv", "测".repeat(400));
        let cut = with(vec![file(&long)]).parse().unwrap().input_files.remove(0).filename;
        assert!(
            cut.len() <= 512 && cut.starts_with("测测") && cut.contains("测…测") && cut.ends_with("测.csv"),
            "{cut}"
        );
        let typed = json!({"id": "f", "filename": "a", "mime_type": "m".repeat(600), "size_bytes": 1});
        assert_eq!(with(vec![typed]).parse().unwrap().input_files[0].mime_type, None);
        assert!(offer(&json!({"id": "t", "session_id": "s".repeat(513)})).parse().is_err());
        let long = offer(&json!({"id": "t".repeat(600), "task_prompt": 7}));
        assert_eq!((long.id().unwrap().len(), long.parse().is_err()), (600, true));
        assert_eq!(with(Vec::new()).id().unwrap(), "t");
        for unusable in [json!(""), json!("t".repeat(4097)), json!(7), json!(null), json!(["t"])] {
            assert!(offer(&json!({ "id": unusable })).id().is_err());
        }
    }

    /// A text in the place of every other type: neither quoted nor multiplied.
    #[test]
    fn errors_do_not_quote_the_server() {
        let text = "\u{7f}secret".repeat(1000);
        let wrong = [
            json!(text),
            json!({"id": "t", "input_files": text}),
            json!({"id": "t", "input_files": [text]}),
            json!({"id": "t", "input_files": [{"id": "f", "filename": "n", "size_bytes": text}]}),
            json!({"id": "t", "input_files": [{"id": text, "filename": "n", "size_bytes": 1}]}),
            json!({"id": "t", "session_id": text}),
        ];
        for offered in &wrong {
            let error = offer(offered).parse().unwrap_err().to_string();
            assert!(error.len() < 200 && !error.contains("secret"), "{error}");
        }
        assert!(offer(&wrong[0]).id().unwrap_err().to_string().len() < 200);
        let error = PollAnswer::read(wrong[0].to_string().into_bytes()).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
        for answer in [json!({"has_task": text}), json!({"should_cancel": text})] {
            let flaw = PollAnswer::read(answer.to_string().into_bytes()).unwrap().flaw.unwrap();
            assert!(flaw.len() < 200 && !flaw.contains("secret"), "{flaw}");
        }
    }

    /// A wrong field of an answer hides neither an offer nor a cancellation beside it.
    #[test]
    fn what_can_be_read_of_an_answer_counts() {
        let read = |answer: Value| PollAnswer::read(answer.to_string().into_bytes()).unwrap();
        let task = json!({"id": "t"});
        for id in [json!(7), json!(["c"]), json!(""), json!("c".repeat(4097))] {
            let read = read(json!({"has_task": true, "task": task, "should_cancel": true, "cancel_task_id": id}));
            assert!(read.cancel.is_none() && read.flaw.unwrap().contains("cancel_task_id"));
            assert_eq!(read.offer.unwrap().id().unwrap(), "t");
        }
        let long = "c".repeat(600);
        let read = read(json!({"has_task": "yes", "task": task, "should_cancel": true, "cancel_task_id": long}));
        assert_eq!((read.cancel.as_deref(), read.offer.is_none()), (Some(&*long), true));
        assert!(read.flaw.unwrap().contains("has_task"));
    }

    #[test]
    fn an_offer_that_is_cut_or_no_utf8_has_an_id() {
        let begin = br#"{"server_time":[{"id":"no"}],"has_task":true,"task":{"x":{"id":"no"},"id":"t","task_prompt":""#;
        let cut = PollAnswer::salvage(begin, "it is cut").unwrap().offer.unwrap();
        assert_eq!((cut.id().unwrap().as_str(), cut.parse().unwrap_err().to_string().as_str()), ("t", "it is cut"));
        let latin1 = PollAnswer::read([&begin[..], b"\xe9\"}}"].concat()).unwrap().offer.unwrap();
        assert_eq!(latin1.id().unwrap(), "t");
        assert!(latin1.parse().unwrap_err().to_string().contains("UTF-8"));
        let others: [&[u8]; 6] = [
            b"\xff",
            br#"{"has_task":false,"task":{"id":"t"},"x":""#,
            br#"{"has_task":true,"task":{"task_prompt":""#,
            br#"{"has_task":true,"task":{"id":7,"x":""#,
            br#"{"has_task":true,"task":["id"#,
            b"<html>",
        ];
        for body in others {
            assert!(PollAnswer::salvage(body, "").is_none());
        }
    }

    #[test]
    fn null_absent_and_unknown_fields_are_accepted() {
        let answer = PollAnswer::read(
            br#" {"has_task":true,"should_cancel":null,"cancel_task_id":"t0","server_time":1,
                "task": {"id":"t1","task_prompt":"do","output_prompt":null,"input_files":null,"priority":3} }"#
                .to_vec(),
        )
        .unwrap();
        let task: Task = answer.offer.unwrap().parse().unwrap();
        assert_eq!((task.id.as_str(), task.task_prompt.as_str(), task.input_files.len()), ("t1", "do", 0));
        assert!(answer.cancel.is_none());
    }

    #[test]
    fn a_task_without_an_id_is_refused() {
        let body = br#"{"has_task":true,"task":{"task_prompt":"x"},"should_cancel":true,"cancel_task_id":"c"}"#;
        let answer = PollAnswer::read(body.to_vec()).unwrap();
        assert!(answer.offer.unwrap().parse().is_err());
        assert_eq!(answer.cancel.as_deref(), Some("c"));
        let without = [&b"null"[..], b"{}", br#"{"has_task":false,"task":{}}"#, br#"{"has_task":true,"task":null}"#];
        assert!(without.iter().all(|body| PollAnswer::read(body.to_vec()).unwrap().offer.is_none()));
    }
}
