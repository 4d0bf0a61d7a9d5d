use super::{Admission, Mode, NotAccepting};
use crate::agent::health::HostHealth;
use crate::server::Way;
use std::time::{Duration, Instant};

fn ready(now: Instant) -> Admission {
    let mut admission = Admission::new(Mode::Serve, now);
    assert!(!admission.note_health(&HostHealth::Ready, now));
    admission
}

fn secs(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn no_task_is_accepted_before_the_first_health_report() {
    let now = Instant::now();
    let mut admission = Admission::new(Mode::Serve, now);
    assert_eq!((admission.check(2, now), admission.announced(2, now)), (Err(NotAccepting::NotChecked), 0));
    assert!(!admission.note_health(&HostHealth::EngineDown("no socket".to_owned()), now));
    assert_eq!(admission.check(2, now), Err(NotAccepting::Unhealthy("no socket".to_owned())));
    assert!(!admission.note_health(&HostHealth::Ready, now));
    assert!(admission.note_health(&HostHealth::Ready, now));
    assert_eq!((admission.check(2, now), admission.announced(2, now)), (Ok(2), 2));
}

#[test]
fn health_is_unknown_after_three_minutes_without_a_report() {
    let now = Instant::now();
    let mut admission = ready(now);
    assert_eq!(admission.due(now), Some(now + secs(180)));
    assert_eq!(admission.check(1, now + secs(179)), Ok(1));
    assert_eq!(admission.check(1, now + secs(180)), Err(NotAccepting::HealthUnknown));
    assert_eq!(admission.announced(1, now + secs(180)), 0);
    assert!(admission.note_health(&HostHealth::Unchanged, now + secs(181)));
    assert_eq!(admission.check(1, now + secs(181)), Ok(1));
}

#[test]
fn failed_starts_pause_longer_before_one_task_is_tried() {
    let now = Instant::now();
    let mut admission = ready(now);
    for (failures, pause) in [(1, 10), (2, 20), (3, 40), (20, 300)] {
        while admission.starts.count < failures {
            admission.note_failed_start("no network\nand so on", now);
        }
        assert_eq!(admission.check(4, now), Err(NotAccepting::Rechecking("no network".to_owned())));
        admission.note_health(&HostHealth::Ready, now + secs(pause));
        let failed = NotAccepting::StartFailed("no network".to_owned());
        assert_eq!(admission.check(4, now + secs(pause - 1)), Err(failed));
        assert_eq!((admission.check(4, now + secs(pause)), admission.check(0, now + secs(pause))), (Ok(1), Ok(0)));
    }
    admission.note_program_ran();
    assert_eq!(admission.check(4, now), Ok(4));
}

#[test]
fn server_trouble_and_a_hold_are_not_reported_to_the_server() {
    let now = Instant::now();
    let mut admission = ready(now);
    admission.note_server(true);
    assert_eq!((admission.check(3, now), admission.announced(3, now)), (Err(NotAccepting::ServerTrouble), 3));
    admission.note_server(false);
    admission.hold(now);
    assert_eq!((admission.check(3, now), admission.announced(3, now)), (Err(NotAccepting::Reclaiming), 3));
    assert_eq!(admission.due(now), Some(now + secs(15)));
    assert_eq!(admission.check(3, now + secs(15)), Ok(3));
    admission.note_failed_start("why", now);
    admission.note_health(&HostHealth::Ready, now);
    assert_eq!(admission.announced(3, now), 0, "the pause after a failed start counts all the same");
}

#[test]
fn no_task_is_accepted_while_no_result_can_be_sent_but_one_now_and_then() {
    let now = Instant::now();
    let mut admission = ready(now);
    let why = || Some("no result can be sent: 500".to_owned());
    let note = |admission: &mut Admission, why, at| admission.note_transfers(Way::Upload, why, at);
    assert!(note(&mut admission, why(), now) && !note(&mut admission, why(), now));
    let refused = Err(NotAccepting::Uploads("no result can be sent: 500".to_owned()));
    let report = |admission: &mut Admission, at| admission.note_health(&HostHealth::Unchanged, at);
    assert_eq!((admission.check(4, now), admission.announced(4, now)), (refused.clone(), 0));
    report(&mut admission, now + secs(599));
    assert_eq!((admission.check(4, now + secs(599)), admission.check(4, now + secs(600))), (refused.clone(), Ok(1)));
    admission.note_accepted(false, now + secs(600));
    report(&mut admission, now + secs(1799));
    assert_eq!((admission.check(4, now + secs(1799)), admission.check(4, now + secs(1800))), (refused, Ok(1)));
    assert!(note(&mut admission, None, now + secs(1800)) && !note(&mut admission, None, now + secs(1800)));
    assert_eq!(admission.check(4, now + secs(1800)), Ok(4));
}

#[test]
fn tasks_without_inputs_are_accepted_while_none_can_be_fetched() {
    let now = Instant::now();
    let mut admission = ready(now);
    assert!(admission.note_transfers(Way::Download, Some("no input file can be fetched: 502".to_owned()), now));
    assert_eq!((admission.check(4, now), admission.announced(4, now)), (Ok(4), 4));
    let refused = Err(NotAccepting::Downloads("no input file can be fetched: 502".to_owned()));
    assert_eq!(
        (admission.check_inputs(now + secs(599)), admission.check_inputs(now + secs(600))),
        (refused.clone(), Ok(()))
    );
    admission.note_accepted(false, now + secs(600));
    assert_eq!(admission.check_inputs(now + secs(600)), Ok(()), "another task was accepted");
    admission.note_accepted(true, now + secs(600));
    assert_eq!((admission.check_inputs(now + secs(1799)), admission.check_inputs(now + secs(1800))), (refused, Ok(())));
}

#[test]
fn silent_ends_in_a_row_pause_longer_before_one_task_is_tried() {
    let now = Instant::now();
    let mut admission = ready(now);
    assert!(!admission.note_silent_end(1, now) && !admission.note_silent_end(1, now));
    admission.note_program_ran();
    assert!(!admission.note_silent_end(1, now) && !admission.note_silent_end(1, now));
    assert_eq!(admission.check(4, now), Ok(4), "one that printed something was in between");
    for (code, pause) in [(126, 60), (127, 120), (1, 240)] {
        assert!(admission.note_silent_end(code, now));
        let before = admission.check(4, now + secs(pause - 1));
        // No health report comes here.
        admission.note_health(&HostHealth::Unchanged, now + secs(pause));
        assert_eq!(before, Err(NotAccepting::SilentEnds(code)));
        assert_eq!((admission.announced(4, now), admission.check(4, now + secs(pause))), (0, Ok(1)));
    }
    (0..20).for_each(|_| assert!(admission.note_silent_end(1, now)));
    admission.note_health(&HostHealth::Unchanged, now + secs(1800));
    assert_eq!(admission.check(4, now + secs(1800)), Ok(1), "it never stays closed for good");
    admission.note_program_ran();
    assert_eq!(admission.check(4, now + secs(1800)), Ok(4));
}

#[test]
fn a_tried_task_is_the_only_one_until_its_program_runs() {
    let now = Instant::now();
    let closed_by: [fn(&mut Admission, Instant); 2] = [
        |admission, now| admission.note_failed_start("why", now),
        |admission, now| {
            (0..3).for_each(|_| assert!(admission.note_silent_end(1, now) || admission.silent_ends.count < 3))
        },
    ];
    for (close, pause) in closed_by.into_iter().zip([10, 60]) {
        let mut admission = ready(now);
        close(&mut admission, now);
        let tried = now + secs(pause);
        admission.note_health(&HostHealth::Ready, tried);
        assert_eq!(admission.check(4, tried), Ok(1));
        admission.note_accepted(false, tried);
        assert!(admission.check(3, tried).is_err(), "all slots would be lost to the same fault");
        assert_eq!(admission.check(3, tried + secs(pause)), Ok(1), "it may wait for its files");
        admission.note_program_ran();
        assert_eq!(admission.check(3, tried), Ok(3));
    }
}

#[test]
fn files_that_can_not_be_written_pause_until_they_can() {
    let now = Instant::now();
    let mut admission = ready(now);
    assert!(admission.note_failed_write("no space", now));
    assert!(!admission.note_failed_write("no space", now), "it is logged once");
    let id = |id: &str| format!("`/data/workspaces/{id}`: read-only");
    assert!(admission.note_failed_write(&id("t37ddd9-0001"), now));
    assert!(!admission.note_failed_write(&id("t37ddd9-0002"), now), "it says the same of another task");
    admission.note_written();
    assert!((0..2).map(|_| admission.note_failed_write("no space", now)).eq([true, false]));
    assert_eq!(admission.check(4, now + secs(19)), Err(NotAccepting::CantWrite("no space".to_owned())));
    assert_eq!(admission.check(4, now + secs(20)), Ok(1));
    admission.note_written();
    assert_eq!(admission.check(4, now), Ok(4));
    admission.note_failed_write("no space", now);
    admission.note_health(&HostHealth::NotReady("read-only".to_owned()), now);
    admission.note_health(&HostHealth::Ready, now);
    assert_eq!(admission.check(4, now), Ok(4), "the disk is in order again");
}

#[test]
fn a_draining_agent_accepts_no_task_in_any_health() {
    let now = Instant::now();
    let mut admission = ready(now);
    admission.drain();
    assert_eq!((admission.check(1, now), admission.announced(1, now)), (Err(NotAccepting::Draining), 0));
}

#[test]
fn a_reload_waits_for_a_look_and_ends_the_pauses_of_starts() {
    let now = Instant::now();
    for (may_repair, after) in [(true, Ok(4)), (false, Err(NotAccepting::StartFailed("why".to_owned())))] {
        let mut admission = ready(now);
        for _ in 0..3 {
            admission.note_silent_end(1, now);
        }
        admission.note_failed_start("why", now);
        admission.note_reloaded(may_repair);
        assert_eq!(admission.check(4, now), Err(NotAccepting::NotChecked), "mounts and image are others");
        admission.note_health(&HostHealth::Unchanged, now);
        assert_eq!(admission.check(4, now), Err(NotAccepting::NotChecked), "that report is of the look before");
        assert!(!admission.note_health(&HostHealth::Ready, now));
        assert_eq!(admission.check(4, now), after);
    }
}
