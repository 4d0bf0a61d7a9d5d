use super::{Failure, Item, Patience, Verdict, Way};
use crate::server::ClientError;
use std::time::{Duration, Instant};

fn refused(status: u16, by_server: bool) -> ClientError {
    ClientError::Refused { status, message: "no".to_owned(), by_server, retry_after: None }
}

struct Case {
    patience: Patience,
    start: Instant,
}

impl Case {
    fn new() -> Self {
        Self { patience: Patience::default(), start: Instant::now() }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn heartbeat(&self, second: u64) {
        self.patience.note_heartbeat(self.at(second));
    }

    /// A try that begins and fails within this second.
    fn fails(&self, item: &Item, error: &ClientError, second: u64) -> Verdict {
        let began = self.at(second);
        self.patience.note_failure(item, Failure { error, is_unsent: false, began }, began + Duration::from_millis(1))
    }
}

fn file(way: Way, name: &str) -> Item {
    Item::new(way, "t", name)
}

#[test]
fn the_servers_own_refusal_decides_after_two_minutes_and_a_heartbeat() {
    let (case, file) = (Case::new(), file(Way::Upload, "a"));
    case.heartbeat(0);
    let again = Verdict::LetOthersPass(Duration::from_secs(120));
    assert_eq!(case.fails(&file, &refused(413, false), 1), again);
    assert_eq!(case.fails(&file, &refused(413, false), 119), again, "too soon");
    assert_eq!(case.fails(&file, &refused(413, false), 130), again, "no heartbeat since");
    assert!(case.patience.waits(&file, case.at(131)).is_some() && case.patience.waits(&file, case.at(260)).is_none());
    case.heartbeat(131);
    assert_eq!(case.fails(&file, &refused(413, false), 260), Verdict::GiveUp);
    assert_eq!(case.fails(&file, &refused(404, true), 300), again, "it begins anew");
}

#[test]
fn a_reset_instead_of_the_same_refusal_is_the_same_refusal() {
    let (case, file) = (Case::new(), file(Way::Upload, "a"));
    let error = ClientError::Lost("reset".to_owned());
    let reset = |second| {
        let failure = Failure { error: &error, is_unsent: true, began: case.at(second) };
        case.patience.note_failure(&file, failure, case.at(second))
    };
    assert_eq!(reset(0), Verdict::TryAgain(Duration::from_secs(5)), "it says nothing alone");
    case.fails(&file, &refused(413, false), 5);
    case.heartbeat(100);
    assert_eq!(reset(126), Verdict::GiveUp);
}

#[test]
fn a_gateways_refusal_decides_only_after_hours_and_another_files_arrival() {
    for error in [refused(404, false), refused(403, false), refused(500, true), ClientError::Lost("cut".to_owned())] {
        let (case, bad, good) = (Case::new(), file(Way::Upload, "bad"), file(Way::Upload, "good"));
        for second in (0..12 * 3600).step_by(30) {
            case.heartbeat(second + 1);
            assert_ne!(case.fails(&bad, &error, second), Verdict::GiveUp, "{error} after {second} s");
        }
        case.patience.note_success(&good, case.at(13 * 3600));
        assert_eq!(case.fails(&bad, &error, 13 * 3600 + 1), Verdict::GiveUp);
    }
}

#[test]
fn a_file_is_tried_again_after_the_last_success() {
    let (case, bad) = (Case::new(), file(Way::Download, "bad"));
    let error = refused(502, false);
    case.fails(&bad, &error, 0);
    case.heartbeat(4000);
    case.patience.note_success(&file(Way::Download, "good"), case.at(5001));
    let failure = Failure { error: &error, is_unsent: false, began: case.at(5000) };
    let verdict = case.patience.note_failure(&bad, failure, case.at(5002));
    assert_ne!(verdict, Verdict::GiveUp, "the try began before the other file arrived");
    assert_eq!(case.fails(&bad, &error, 5003), Verdict::GiveUp);
}

#[test]
fn a_server_that_can_not_be_reached_says_nothing_about_a_file() {
    let (case, file) = (Case::new(), file(Way::Upload, "a"));
    for (number, error) in [ClientError::NotSent("down".to_owned()), refused(401, true), refused(429, false)]
        .iter()
        .cycle()
        .take(300)
        .enumerate()
    {
        assert_ne!(case.fails(&file, error, number as u64 * 60), Verdict::GiveUp);
        case.heartbeat(number as u64 * 60 + 1);
    }
    assert_eq!(case.patience.trouble(case.at(18_000)), None);
}

/// Its task would wait without end for what only this file is answered.
#[test]
fn a_download_that_is_only_postponed_is_given_up_when_others_arrive() {
    for status in [429, 401] {
        let (case, file) = (Case::new(), file(Way::Download, "a"));
        for second in (0..7200).step_by(60) {
            case.heartbeat(second + 1);
            assert_ne!(case.fails(&file, &refused(status, true), second), Verdict::GiveUp);
        }
        case.patience.note_success(&Item::new(Way::Download, "other", "b"), case.at(7200));
        assert_eq!(case.fails(&file, &refused(status, true), 7201), Verdict::GiveUp);
    }
}

#[test]
fn a_direction_is_in_trouble_until_a_file_arrives() {
    let (case, bad, other) = (Case::new(), file(Way::Download, "bad"), file(Way::Download, "other"));
    let error = refused(503, false);
    case.fails(&bad, &error, 0);
    case.fails(&bad, &error, 20);
    assert_eq!(case.patience.trouble(case.at(29)), None, "it may be over soon");
    let why = case.patience.trouble(case.at(40)).unwrap();
    assert!(why.starts_with("no input file can be fetched: ") && why.contains("503"), "{why}");
    case.patience.note_success(&other, case.at(50));
    assert_eq!(case.patience.trouble(case.at(51)), None);
    case.fails(&bad, &error, 60);
    case.fails(&bad, &error, 120);
    assert_eq!(case.patience.trouble(case.at(130)), None, "it is the file's own trouble");
}

#[test]
fn pauses_grow_and_old_failures_let_others_pass() {
    let (case, file) = (Case::new(), file(Way::Upload, "a"));
    let error = refused(500, true);
    let secs = Duration::from_secs;
    let all: Vec<Verdict> = [0, 5, 15, 35, 75, 135, 300].into_iter().map(|at| case.fails(&file, &error, at)).collect();
    let young = [5, 10, 20, 40, 60, 60].map(|pause| Verdict::TryAgain(secs(pause)));
    assert_eq!((&all[..6], all[6]), (&young[..], Verdict::LetOthersPass(secs(300))));
    case.patience.forget("t");
    assert_eq!(case.fails(&file, &error, 400), young[0]);
}
