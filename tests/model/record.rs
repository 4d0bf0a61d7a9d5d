//! That the model has what the program has: the fields of the record, and the answers to an `accept`.

use std::fs;
use std::path::Path;

use crate::claim::{Answer, Claim, Verdict, decide};

/// The fields of `Record`, and what stands for each in the model.
const FIELDS: [(&str, &str); 16] = [
    ("task", "its number"),
    ("service_id", "there is one service"),
    ("base_url", "there is one Server"),
    ("phase", "Record::phase"),
    ("times", "there are no times"),
    ("offered", "there are no times"),
    ("client", "Record::client"),
    ("start", "Record::replacing; its count of failures only bounds them"),
    ("stop", "Record::stop"),
    ("ending", "Record::ending"),
    ("report", "Record::report"),
    ("has_undelivered", "only decides how long a workspace is kept"),
    ("discarded", "there is no operator"),
    ("fetched", "the results are one file that the agent can read"),
    ("container_removed", "Record::removed"),
    ("settled_at", "there are no times"),
];

#[test]
fn every_field_of_the_record_is_modelled_or_explained() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/task/record.rs");
    let text = fs::read_to_string(file).expect("read the source of the record");
    let (_, rest) = text.split_once("pub struct Record {").expect("the record");
    let (body, _) = rest.split_once("\n}").expect("its end");
    let names = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    let known = FIELDS.map(|(name, _)| name);
    assert_eq!(names.collect::<Vec<_>>(), known, "what has changed must be modelled, too");
}

#[test]
fn only_an_unconfirmed_claim_makes_a_refusal_a_success() {
    use Answer::{Given, Lost, NotNow, NotPending, Refused};
    use Verdict::{AskAgain, Begin, Forget, GoOn};
    let verdicts = |claim| [Given, NotPending, Lost, NotNow, Refused].map(|answer| decide(claim, answer));
    assert_eq!(verdicts(Claim::New), [Begin, Forget, AskAgain, Forget, Forget]);
    assert_eq!(verdicts(Claim::Unconfirmed), [Begin, Begin, AskAgain, AskAgain, AskAgain]);
    assert_eq!(verdicts(Claim::Confirmed), [GoOn, GoOn, AskAgain, AskAgain, GoOn]);
}
