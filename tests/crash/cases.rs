//! The matrix: every point at which the agent can be killed, crossed with the kinds of task and with what may happen
//! while the agent is away.
//!
//! Where the container is known to be gone, or was never there, there is nothing to remove behind the agent's back, so
//! those points have no such variant. A cancellation while the agent is away is tried at every point before the
//! container's end, with a container that would wait for ever.

use crate::case::{Act, Case, Kind};
use crate::expected::{Due, Message};
use crate::point::Call::{
    Accept, AcceptAfterRefusal, CancellingPoll, Complete, Download, Heartbeat, List, Poll, Upload,
};
use crate::point::When::{After, Before, Receiving, Sending, Unanswered};
use crate::point::{Call, How, Point, When};
use crate::stand_in::Verb;

/// All cases, the longest first.
pub fn all() -> Vec<Case> {
    let mut cases = timeouts();
    for kind in [Kind::Success, Kind::Failure] {
        cases.extend(before_the_container(kind));
        cases.extend(with_the_container(kind));
        cases.extend(after_the_outcome(kind));
        cases.extend(in_a_second_life(kind));
        cases.extend(in_doubt_twice(kind));
        cases.extend(replaced(kind));
    }
    cases.extend(fetched());
    cases.extend(half_done());
    cases.extend(cancelled_while_running());
    cases.extend(cancelled_while_away());
    cases
}

fn request(call: Call, when: &[When]) -> Vec<Point> {
    when.iter().map(|when| Point::Request(call, *when)).collect()
}

fn docker(verb: Verb, number: usize, how: &[How]) -> Vec<Point> {
    how.iter().map(|how| Point::Docker(verb, number, *how)).collect()
}

/// A question to docker: dying with it or leaving it running makes no difference.
const ASKED: [How; 2] = [How::Before, How::After];
/// An order to docker.
const ORDERED: [How; 3] = [How::Instead, How::Before, How::After];
const TAKES_EFFECT: [When; 3] = [Before, Unanswered, After];

fn due(kind: Kind) -> Due {
    match kind {
        Kind::Success | Kind::Guarded => Due::success(),
        Kind::Failure => Due::failure(),
        Kind::Cancel => Due::cancelled(),
        Kind::Timeout => Due::timed_out(),
    }
}

/// The `inspect` of a life that finds the exit status, after the one that looks whether the container is there.
const OUTCOME: usize = 2;
/// The one that looks whose container it is before removing it.
const REMOVAL: usize = 3;
/// As [`REMOVAL`], where results were fetched before: that takes a look of its own, after the outcome's.
const REMOVAL_AFTER_FETCH: usize = 4;
const FETCH: usize = 3;

fn points_before_the_container() -> Vec<Point> {
    let mut points = request(Heartbeat, &[Before, After]);
    points.extend(docker(Verb::Version, 1, &ASKED));
    points.extend(docker(Verb::Sweep, 1, &ASKED));
    points.extend(points_of_the_offer());
    points.extend(docker(Verb::Inspect, 1, &ASKED));
    points.extend(docker(Verb::Absent, 1, &ASKED));
    points.extend(docker(Verb::Run, 1, &[How::Instead]));
    points
}

fn points_of_the_offer() -> Vec<Point> {
    let mut points = request(Poll, &[Before, After]);
    points.extend(request(Accept(1), &TAKES_EFFECT));
    for number in [1, 2] {
        let when: &[When] = if number == 1 { &[Before, After] } else { &[Before, Receiving, After] };
        points.extend(request(Download(number), when));
    }
    points
}

fn before_the_container(kind: Kind) -> Vec<Case> {
    let case = |point| Case { kind, held: false, acts: vec![Act::Kill(point), Act::Revive], due: due(kind) };
    points_before_the_container().into_iter().map(case).collect()
}

fn with_the_container(kind: Kind) -> Vec<Case> {
    let mut cases = Vec::new();
    let how = [How::Before, How::Created, How::CreatedOn, How::Started, How::StartedOn, How::After];
    let mut points = docker(Verb::Run, 1, &how);
    points.extend(docker(Verb::Inspect, OUTCOME, &ASKED));
    // Whether somebody else has ended it.
    points.extend(docker(Verb::Events, 1, &ASKED));
    if kind != Kind::Success {
        // A client that failed may have left words of its own with the container's.
        points.extend(docker(Verb::Logs, 1, &ORDERED));
    }
    for point in points {
        let runs = matches!(point, Point::Docker(_, _, How::Started | How::StartedOn));
        let never_runs = matches!(point, Point::Docker(_, _, How::Created));
        let mut acts = vec![Act::Kill(point), Act::Revive];
        if runs {
            acts.extend([Act::Followed, Act::Release]);
        }
        cases.push(Case { kind, held: runs, acts, due: due(kind) });
        if never_runs {
            let acts = vec![Act::Kill(point), Act::Prune, Act::Revive];
            let due = Due { begun: 0..=0, files: Some(&[]), ..Due::lost() };
            cases.push(Case { kind, held: false, acts, due });
        } else {
            let acts = vec![Act::Kill(point), Act::Release, Act::Ended, Act::Prune, Act::Revive];
            cases.push(Case { kind, held: runs, acts, due: Due::lost() });
        }
    }
    cases
}

fn after_the_outcome(kind: Kind) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in removal(REMOVAL) {
        cases.extend(known(kind, vec![Act::Kill(point)], false));
    }
    let mut points = request(List, &[Before, After]);
    for number in [1, 2] {
        points.extend(request(Upload(number), &[Sending, Before, Unanswered, After]));
    }
    points.extend(request(Complete, &TAKES_EFFECT));
    for point in points {
        cases.push(Case { kind, held: false, acts: vec![Act::Kill(point), Act::Revive], due: due(kind) });
    }
    cases
}

/// The removal of a container whose outcome is recorded.
fn removal(inspection: usize) -> Vec<Point> {
    let mut points = docker(Verb::Inspect, inspection, &ASKED);
    points.extend(docker(Verb::Rm, 1, &ORDERED));
    points
}

/// After these acts the outcome is recorded: whether the container is still there makes no difference.
fn known(kind: Kind, acts: Vec<Act>, held: bool) -> Vec<Case> {
    let is_gone = acts.last().is_some_and(removes);
    let with = |more: &[Act]| Case { kind, held, acts: [&acts, more].concat(), due: due(kind) };
    let mut cases = vec![with(&[Act::Revive])];
    if !is_gone {
        cases.push(with(&[Act::Prune, Act::Revive]));
    }
    cases
}

/// Whether the agent is killed while its client removes the container all the same.
fn removes(act: &Act) -> bool {
    let (Act::Kill(point) | Act::KillCancelled(point) | Act::KillReleased(point)) = act else { return false };
    matches!(point, Point::Docker(Verb::Rm, _, How::Before | How::After))
}

/// The agent is killed, finds the container again, running or ended, and is killed again.
fn in_a_second_life(kind: Kind) -> Vec<Case> {
    let mut cases = Vec::new();
    let started = Act::Kill(Point::Docker(Verb::Run, 1, How::StartedOn));
    let mut points = docker(Verb::Inspect, 1, &ASKED);
    points.extend(docker(Verb::Follow, 1, &[How::Instead, How::Before, How::Midway]));
    for point in points {
        let again = Act::Kill(point);
        let acts = vec![started, again, Act::Revive, Act::Followed, Act::Release];
        cases.push(Case { kind, held: true, acts, due: due(kind) });
        let acts = vec![started, again, Act::Release, Act::Ended, Act::Prune, Act::Revive];
        cases.push(Case { kind, held: true, acts, due: Due::lost() });
    }
    let mut points = docker(Verb::Follow, 1, &[How::After]);
    points.extend(docker(Verb::Inspect, OUTCOME, &ASKED));
    points.extend(docker(Verb::Events, 1, &ASKED));
    for point in points {
        let acts = vec![started, Act::KillReleased(point)];
        cases.extend(unknown(kind, acts, true));
    }
    for point in removal(REMOVAL) {
        cases.extend(known(kind, vec![started, Act::KillReleased(point)], true));
    }

    let ended = Act::Kill(Point::Docker(Verb::Run, 1, How::After));
    let mut points = docker(Verb::Inspect, 1, &ASKED);
    points.extend(docker(Verb::Logs, 1, &ORDERED));
    points.extend(docker(Verb::Events, 1, &ASKED));
    for point in points {
        cases.extend(unknown(kind, vec![ended, Act::Kill(point)], false));
    }
    for point in removal(2) {
        cases.extend(known(kind, vec![ended, Act::Kill(point)], false));
    }
    cases
}

/// After these acts the container has ended and its outcome isn't recorded.
fn unknown(kind: Kind, acts: Vec<Act>, held: bool) -> Vec<Case> {
    let with = |more: &[Act], due| Case { kind, held, acts: [&acts, more].concat(), due };
    vec![with(&[Act::Revive], due(kind)), with(&[Act::Ended, Act::Prune, Act::Revive], Due::lost())]
}

/// A second kill while the agent finds out what became of a request whose answer it never got.
fn in_doubt_twice(kind: Kind) -> Vec<Case> {
    let mut pairs = Vec::new();
    for first in [Before, Unanswered] {
        let first = Point::Request(Upload(1), first);
        for second in request(List, &[Before, After]).into_iter().chain(request(Upload(1), &TAKES_EFFECT)) {
            pairs.push((first, second));
        }
    }
    // The report is refused, and `accept` tells why.
    let first = Point::Request(Complete, Unanswered);
    for second in request(Complete, &TAKES_EFFECT).into_iter().chain(request(AcceptAfterRefusal, &TAKES_EFFECT)) {
        pairs.push((first, second));
    }
    // The offer may or may not be ours.
    for first in [Before, Unanswered] {
        for second in request(Accept(1), &TAKES_EFFECT) {
            pairs.push((Point::Request(Accept(1), first), second));
        }
    }
    let case = |(first, second)| {
        let acts = vec![Act::Kill(first), Act::Kill(second), Act::Revive];
        Case { kind, held: false, acts, due: due(kind) }
    };
    pairs.into_iter().map(case).collect()
}

/// The container was created and never started; the agent is killed while it replaces it.
fn replaced(kind: Kind) -> Vec<Case> {
    let created = Act::Kill(Point::Docker(Verb::Run, 1, How::Created));
    let mut points = docker(Verb::Inspect, 1, &ASKED);
    points.extend(docker(Verb::Rm, 1, &ORDERED));
    points.extend(docker(Verb::Rm, 1, &[How::Late]));
    let case = |point| {
        let acts = vec![created, Act::Kill(point), Act::Revive];
        Case { kind, held: false, acts, due: due(kind) }
    };
    let mut cases: Vec<Case> = points.into_iter().map(case).collect();
    // Somebody has started it after all, between the look and the removal.
    for how in [How::Raced, How::RacedOn] {
        let raced = Act::Kill(Point::Docker(Verb::Rm, 1, how));
        let acts = vec![created, raced, Act::Revive, Act::Followed, Act::Release];
        cases.push(Case { kind, held: true, acts, due: due(kind) });
    }
    let raced_on = Act::Kill(Point::Docker(Verb::Rm, 1, How::RacedOn));
    let acts = vec![created, raced_on, Act::Release, Act::Ended, Act::Prune, Act::Revive];
    cases.push(Case { kind, held: true, acts, due: Due::lost() });
    let raced = Act::Kill(Point::Docker(Verb::Rm, 1, How::Raced));
    for point in docker(Verb::Logs, 1, &ORDERED) {
        let acts = vec![created, raced, Act::Release, Act::Ended, Act::Kill(point)];
        cases.extend(unknown(kind, acts, true));
    }
    cases
}

/// The outputs can't be read where they lie, and are fetched from the stopped container, one after the other.
fn fetched() -> Vec<Case> {
    let kind = Kind::Guarded;
    let with = |acts: Vec<Act>, due| Case { kind, held: false, acts, due };
    let mut points = docker(Verb::Inspect, FETCH, &ASKED);
    for number in [1, 2] {
        points.extend(docker(Verb::Cp, number, &ORDERED));
    }
    let mut cases = Vec::new();
    for point in points {
        let killed = Act::Kill(point);
        cases.push(with(vec![killed, Act::Revive], due(kind)));
        cases.push(with(vec![killed, Act::Prune, Act::Revive], Due::unfetched()));
        for again in docker(Verb::Cp, 2, &ORDERED) {
            cases.push(with(vec![killed, Act::Kill(again), Act::Revive], due(kind)));
        }
    }
    for point in removal(REMOVAL_AFTER_FETCH) {
        cases.extend(known(kind, vec![Act::Kill(point)], false));
    }
    let uploads = [1, 2].into_iter().flat_map(|number| request(Upload(number), &[Sending, Before, Unanswered, After]));
    for point in uploads.chain(request(Complete, &TAKES_EFFECT)) {
        cases.push(with(vec![Act::Kill(point), Act::Revive], due(kind)));
    }
    cases
}

/// What a kill has left half done is not needed any more.
fn half_done() -> Vec<Case> {
    let half_an_input = Act::Kill(Point::Request(Download(2), Receiving));
    let never_begun = |due: Due| Due { begun: 0..=0, files: Some(&[]), printed: false, ..due };
    let not_fetched = Due { message: Message::Contains("`data.bin` can't be fetched"), ..never_begun(Due::failure()) };
    let no_offer = Act::Kill(Point::Request(Poll, After));
    let rows = [
        (Kind::Failure, vec![half_an_input, Act::NoInputs, Act::Revive], not_fetched),
        (Kind::Cancel, vec![half_an_input, Act::SlowInputs, Act::Cancel, Act::Revive], never_begun(Due::cancelled())),
        (Kind::Success, vec![no_offer, Act::HalfRecord, Act::Revive], Due::success()),
        (
            Kind::Cancel,
            vec![no_offer, Act::HalfRecord, Act::Cancel, Act::Revive],
            Due { reports: 0, ..never_begun(Due::cancelled()) },
        ),
    ];
    rows.map(|(kind, acts, due)| Case { kind, held: false, acts, due }).into()
}

/// A task that is cancelled while it runs, and an agent that is killed on the way to saying so.
fn cancelled_while_running() -> Vec<Case> {
    let kind = Kind::Cancel;
    let mut cases = Vec::new();
    for adopted in [false, true] {
        let started = Point::Docker(Verb::Run, 1, How::StartedOn);
        let before = if adopted { vec![Act::Kill(started)] } else { Vec::new() };
        let with = |more: &[Act]| Case { kind, held: true, acts: [&before, more].concat(), due: due(kind) };
        for point in request(CancellingPoll, &[Before, After]).into_iter().chain(request(Complete, &TAKES_EFFECT)) {
            cases.push(with(&[Act::KillCancelled(point), Act::Revive]));
        }
        for point in docker(Verb::Stop, 1, &ORDERED) {
            let killed = Act::KillCancelled(point);
            cases.push(with(&[killed, Act::Revive]));
            // Whether it was stopped or ended by itself, it had been cancelled.
            cases.push(with(&[killed, Act::Release, Act::Ended, Act::Revive]));
            cases.push(with(&[killed, Act::Release, Act::Ended, Act::Prune, Act::Revive]));
        }
        let mut points = docker(Verb::Inspect, OUTCOME, &ASKED);
        if !adopted {
            points.extend(docker(Verb::Logs, 1, &ORDERED));
        }
        points.extend(removal(REMOVAL));
        for point in points {
            let killed = Act::KillCancelled(point);
            cases.push(with(&[killed, Act::Revive]));
            if !removes(&killed) {
                cases.push(with(&[killed, Act::Ended, Act::Prune, Act::Revive]));
            }
        }
    }
    cases
}

/// A task that is cancelled while the agent is away.
fn cancelled_while_away() -> Vec<Case> {
    let kind = Kind::Cancel;
    let away = |before: &[Act], point: Point, due: Due| {
        let acts = [before, &[Act::Kill(point), Act::Cancel, Act::Revive]].concat();
        Case { kind, held: true, acts, due }
    };
    let mut cases = Vec::new();
    for point in points_of_the_offer() {
        match point {
            // Nobody has accepted it, so it ends at once and nobody is told.
            Point::Request(Poll, _) => {
                let due = Due { begun: 0..=0, reports: 0, ..due(kind) };
                cases.push(away(&[], point, due));
            }
            // The same, but the agent can't tell whether it had got the task (PROTOCOL 1), so it works in vain.
            Point::Request(Accept(_), Before) => {
                let due = Due { begun: 0..=1, reports: 0, files: None, ..due(kind) };
                cases.push(Case { held: false, ..away(&[], point, due) });
            }
            _ => cases.push(away(&[], point, Due { begun: 0..=1, ..due(kind) })),
        }
    }
    let how = [How::Instead, How::Before, How::Created, How::CreatedOn, How::Started, How::StartedOn];
    let mut points = docker(Verb::Inspect, 1, &ASKED);
    points.extend(docker(Verb::Absent, 1, &ASKED));
    points.extend(docker(Verb::Run, 1, &how));
    for point in points {
        cases.push(away(&[], point, Due { begun: 0..=1, ..due(kind) }));
    }
    let mut points = docker(Verb::Inspect, 1, &ASKED);
    points.extend(docker(Verb::Follow, 1, &[How::Instead, How::Before, How::Midway]));
    for point in points {
        let started = Act::Kill(Point::Docker(Verb::Run, 1, How::StartedOn));
        cases.push(away(&[started], point, Due { begun: 0..=1, ..due(kind) }));
    }
    cases
}

/// The container's minute is over, and the agent is killed while it stops it.
fn timeouts() -> Vec<Case> {
    let kind = Kind::Timeout;
    let mut cases = Vec::new();
    for point in docker(Verb::Stop, 1, &ORDERED) {
        let killed = Act::Kill(point);
        cases.push(Case { kind, held: true, acts: vec![killed, Act::Revive], due: due(kind) });
        // Whether it was stopped or ended by itself, and whether or not it is still there, its minute was over.
        let acts = vec![killed, Act::Release, Act::Ended, Act::Prune, Act::Revive];
        let files = match point {
            Point::Docker(_, _, How::Instead) => due(Kind::Success).files,
            Point::Docker(_, _, How::After) => due(kind).files,
            // Its end and its second result come at the same time.
            _ => None,
        };
        cases.push(Case { kind, held: true, acts, due: Due { files, ..due(kind) } });
    }
    cases
}
