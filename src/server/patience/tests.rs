use super::{Failure, Item, Patience, Verdict, Way};
use crate::server::ClientError;
use std::ops::RangeInclusive;
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

    /// Heartbeats of an agent that the Server answers all the time.
    fn heartbeats(&self, seconds: RangeInclusive<u64>) {
        seconds.step_by(20).for_each(|second| self.patience.note_heartbeat(self.at(second)));
    }

    /// Another file of the same direction arrives.
    fn other_arrives(&self, way: Way, second: u64) {
        self.patience.note_success(&Item::new(way, "other", "other"), self.at(second));
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
fn the_servers_refusal_decides_in_two_minutes_and_a_heartbeat() {
    let (case, file) = (Case::new(), file(Way::Upload, "a"));
    case.heartbeats(0..=0);
    let again = Verdict::LetOthersPass(Duration::from_secs(120));
    assert_eq!(case.fails(&file, &refused(413, false), 1), again);
    assert_eq!(case.fails(&file, &refused(413, false), 119), again, "too soon");
    assert_eq!(case.fails(&file, &refused(413, false), 130), again, "no heartbeat since");
    assert!(case.patience.waits(&file, case.at(131)).is_some() && case.patience.waits(&file, case.at(260)).is_none());
    let (case, file) = (Case::new(), file);
    assert_eq!(case.fails(&file, &refused(413, false), 1), again);
    case.heartbeats(10..=250);
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
    case.heartbeats(20..=120);
    assert_eq!(reset(126), Verdict::GiveUp);
}

#[test]
fn a_gateways_refusal_decides_after_hours_if_others_arrive() {
    for error in [refused(404, false), refused(403, false), refused(500, true), ClientError::Lost("cut".to_owned())] {
        let (case, bad) = (Case::new(), file(Way::Upload, "bad"));
        case.heartbeats(0..=12 * 3600);
        for second in (0..12 * 3600).step_by(30) {
            assert_ne!(case.fails(&bad, &error, second), Verdict::GiveUp, "{error} after {second} s");
        }
        for second in [43_210, 43_230] {
            case.other_arrives(Way::Upload, second);
            assert_ne!(case.fails(&bad, &error, second + 1), Verdict::GiveUp, "the Server may just be coming back");
            assert_ne!(
                case.fails(&bad, &error, second + 2),
                Verdict::GiveUp,
                "no other has arrived since the last try"
            );
        }
        case.other_arrives(Way::Upload, 43_250);
        assert_eq!(case.fails(&bad, &error, 43_251), Verdict::GiveUp);
    }
}

/// A file that was slow to come before a disk of the Server was full.
#[test]
fn nothing_is_given_up_while_no_other_file_arrives() {
    let (case, bad) = (Case::new(), file(Way::Upload, "bad"));
    case.heartbeats(0..=9 * 3600);
    for second in (0..60).step_by(10) {
        case.fails(&bad, &refused(500, true), second);
        case.other_arrives(Way::Upload, second + 5);
    }
    for second in (60..9 * 3600).step_by(300).skip(1) {
        assert_ne!(case.fails(&bad, &refused(500, true), second), Verdict::GiveUp, "after {second} s");
    }
}

#[test]
fn a_file_is_tried_again_after_the_last_success() {
    let (case, bad) = (Case::new(), file(Way::Download, "bad"));
    let error = refused(502, false);
    case.heartbeats(0..=5000);
    for second in [0, 10] {
        case.fails(&bad, &error, second);
        case.other_arrives(Way::Download, second + 5);
    }
    case.fails(&bad, &error, 4000);
    case.other_arrives(Way::Download, 5001);
    let failure = Failure { error: &error, is_unsent: false, began: case.at(5000) };
    let verdict = case.patience.note_failure(&bad, failure, case.at(5002));
    assert_ne!(verdict, Verdict::GiveUp, "the try began before the other file arrived");
    case.other_arrives(Way::Download, 5003);
    assert_eq!(case.fails(&bad, &error, 5004), Verdict::GiveUp);
}

/// What fails in the first seconds after an outage has not failed for hours.
#[test]
fn the_time_of_an_outage_does_not_count() {
    let (before, after) = (0..=40, 8 * 3600..=8 * 3600 + 400);
    let away = ClientError::NotSent("down".to_owned());
    // The outage is seen at the file's own tries, or, where it isn't tried meanwhile, at the heartbeats.
    for is_tried in [true, false] {
        for way in [Way::Upload, Way::Download, Way::FirstList, Way::List, Way::Report] {
            let (case, bad) = (Case::new(), file(way, "bad"));
            case.heartbeats(before.clone());
            for second in [0, 10, 20, 30] {
                assert_ne!(case.fails(&bad, &refused(502, false), second), Verdict::GiveUp);
                case.other_arrives(way, second + 5);
            }
            if is_tried {
                (40..8 * 3600).step_by(60).for_each(|second| {
                    case.fails(&bad, &away, second);
                });
            }
            case.heartbeats(after.clone());
            case.other_arrives(way, 8 * 3600 + 1);
            let what = format!("{way:?}, tried: {is_tried}");
            assert_eq!(case.patience.waits(&bad, case.at(8 * 3600 + 2)), None, "{what}: it is due");
            let verdict = case.fails(&bad, &refused(502, false), 8 * 3600 + 2);
            let first = Duration::from_secs(if way == Way::Upload { 5 } else { 1 });
            assert_eq!(verdict, Verdict::LetOthersPass(first), "{what}: it has failed for long");
            let time = case.patience.failing_for(&bad, case.at(8 * 3600 + 40)).unwrap();
            assert!(time < Duration::from_secs(40), "{what}: {time:?}");
        }
        let (case, bad) = (Case::new(), file(Way::Upload, "bad"));
        case.heartbeats(before.clone());
        case.fails(&bad, &refused(404, true), 30);
        if is_tried {
            case.fails(&bad, &away, 1000);
        }
        case.heartbeats(after.clone());
        assert_ne!(case.fails(&bad, &refused(404, true), 8 * 3600 + 2), Verdict::GiveUp, "it may be being restored");
        assert_eq!(case.fails(&bad, &refused(404, true), 8 * 3600 + 130), Verdict::GiveUp);
    }
}

#[test]
fn a_list_that_was_read_meanwhile_has_not_failed_for_long() {
    for (way, patience) in [(Way::FirstList, 120), (Way::List, 600)] {
        let (case, list) = (Case::new(), file(way, "a"));
        case.heartbeats(0..=3000);
        case.fails(&list, &refused(502, false), 0);
        case.patience.note_success(&list, case.at(1000));
        assert_ne!(case.fails(&list, &refused(502, false), 2000), Verdict::GiveUp);
        assert_ne!(case.fails(&list, &refused(502, false), 1999 + patience), Verdict::GiveUp);
        assert_eq!(case.fails(&list, &refused(502, false), 2001 + patience), Verdict::GiveUp);
    }
}

/// Or it would be whole again every two minutes, and never small enough to be taken.
#[test]
fn the_time_of_a_refused_report_goes_on_until_it_is_taken() {
    let (case, report) = (Case::new(), file(Way::Report, ""));
    case.heartbeats(0..=3600);
    for second in (0..3600).step_by(30) {
        assert_ne!(case.fails(&report, &refused(403, true), second), Verdict::GiveUp);
        let time = case.patience.failing_for(&report, case.at(second + 1)).unwrap();
        assert_eq!(time.as_secs(), second, "{second}");
    }
    case.patience.note_unreached("t", case.at(3601));
    assert_eq!(case.patience.failing_for(&report, case.at(3602)), None);
}

#[test]
fn refusals_of_a_report_do_not_say_that_its_task_has_ended() {
    let (case, report, end) = (Case::new(), file(Way::Report, ""), file(Way::End, ""));
    case.heartbeats(0..=3600);
    case.fails(&report, &refused(403, true), 0);
    assert_ne!(case.fails(&end, &refused(400, true), 1000), Verdict::GiveUp);
    assert_eq!(case.fails(&end, &refused(400, true), 1121), Verdict::GiveUp);
    assert_eq!(case.fails(&end, &refused(400, true), 1122), Verdict::GiveUp, "where the record can't be written");
}

#[test]
fn a_server_that_can_not_be_reached_says_nothing_about_a_file() {
    let (case, file) = (Case::new(), file(Way::Upload, "a"));
    case.heartbeats(0..=18_000);
    for (number, error) in [ClientError::NotSent("down".to_owned()), refused(401, true), refused(429, false)]
        .iter()
        .cycle()
        .take(300)
        .enumerate()
    {
        assert_ne!(case.fails(&file, error, number as u64 * 60), Verdict::GiveUp);
    }
    case.fails(&Item::new(Way::Upload, "other", "b"), &ClientError::NotSent("down".to_owned()), 18_000);
    assert_eq!(case.patience.trouble(Way::Upload, case.at(18_030)), None);
}

/// Its task would wait without end for what only this file is answered.
#[test]
fn a_postponed_download_is_given_up_when_others_arrive() {
    for status in [429, 401] {
        let (case, file) = (Case::new(), file(Way::Download, "a"));
        case.heartbeats(0..=7300);
        for second in (0..3000).step_by(60) {
            assert_ne!(case.fails(&file, &refused(status, true), second), Verdict::GiveUp);
            case.other_arrives(Way::Download, second + 30);
        }
        assert_eq!(case.fails(&file, &refused(status, true), 7201), Verdict::GiveUp);
    }
}

#[test]
fn a_direction_is_in_trouble_until_a_file_arrives() {
    let (case, bad) = (Case::new(), file(Way::Download, "bad"));
    let of_another_task = Item::new(Way::Download, "u", "bad");
    let error = refused(503, false);
    let trouble = |second| case.patience.trouble(Way::Download, case.at(second));
    case.fails(&bad, &error, 0);
    case.fails(&of_another_task, &error, 20);
    assert_eq!(trouble(29), None, "it may be over soon");
    let why = trouble(40).unwrap();
    assert!(why.starts_with("no input file can be fetched: ") && why.contains("503"), "{why}");
    assert_eq!(case.patience.trouble(Way::Upload, case.at(40)), None, "results can be sent");
    case.other_arrives(Way::Download, 50);
    assert_eq!(trouble(51), None);
    for second in [60, 120] {
        case.fails(&bad, &error, second);
        case.fails(&of_another_task, &error, second);
    }
    assert_eq!(trouble(130), None, "it is each file's own trouble");
}

/// One task whose files a gateway doesn't like must not keep all others out.
#[test]
fn files_of_one_task_are_no_trouble_of_all() {
    let case = Case::new();
    for second in (0..600).step_by(10) {
        case.fails(&file(Way::Upload, if second % 20 == 0 { "a" } else { "b" }), &refused(403, false), second);
        assert_eq!(case.patience.trouble(Way::Upload, case.at(second)), None);
    }
    case.fails(&Item::new(Way::Upload, "u", "a"), &refused(403, false), 600);
    assert!(case.patience.trouble(Way::Upload, case.at(600)).is_some());
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
