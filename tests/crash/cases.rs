//! The matrix: the points at which the agent can be killed, with the kinds of task and with events while no agent runs.
//!
//! The removal of the container has no variant at points where no container exists. A cancellation while no agent runs
//! is tried at every point before the container's end, with a container that would wait for ever.

use crate::case::{Act, Case, Kind};
use crate::expected::{Expected, Message};
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
        cases.extend(after_a_restart(kind));
        cases.extend(in_doubt_twice(kind));
        cases.extend(replaced(kind));
    }
    cases.extend(fetched());
    cases.extend(noted());
    cases.extend(archived());
    cases.extend(half_done());
    cases.extend(cancelled_while_running());
    cases.extend(cancelled_without_an_agent());
    cases
}

fn request(call: Call, when: &[When]) -> Vec<Point> {
    when.iter().map(|when| Point::Request(call, *when)).collect()
}

fn docker(verb: Verb, number: usize, how: &[How]) -> Vec<Point> {
    how.iter().map(|how| Point::Docker(verb, number, *how)).collect()
}

/// For a docker call that only reads: whether the client is killed with the agent makes no difference.
const ASKED: [How; 2] = [How::Before, How::After];
/// For a docker call that changes something.
const ORDERED: [How; 3] = [How::Instead, How::Before, How::After];
const TAKES_EFFECT: [When; 3] = [Before, Unanswered, After];

fn expected(kind: Kind) -> Expected {
    match kind {
        Kind::Success | Kind::Guarded => Expected::success(),
        Kind::Failure => Expected::failure(),
        Kind::Noted => Expected::noted(),
        Kind::Archived => Expected::archived(),
        Kind::Cancel => Expected::cancelled(),
        Kind::Timeout => Expected::timed_out(),
    }
}

/// The number of the `inspect` that finds the exit status. What was never started isn't looked for.
const OUTCOME: usize = 1;
/// The same after a restart, whose first `inspect` finds the running container.
const OUTCOME_OF_FOLLOWED: usize = 2;
/// The number of the `inspect` that looks for a container that an earlier copying has left. The one before finds that the
/// task's own is removed.
const FETCH: usize = 3;
/// The number of the `rm` that removes the container out of which results were copied.
const FETCH_RM: usize = 2;

fn points_before_the_container() -> Vec<Point> {
    let mut points = request(Heartbeat, &[Before, After]);
    points.extend(docker(Verb::Version, 1, &ASKED));
    points.extend(docker(Verb::Sweep, 1, &ASKED));
    points.extend(points_of_the_offer());
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
    let case = |point| Case { kind, held: false, acts: vec![Act::Kill(point), Act::Restart], expected: expected(kind) };
    let mut cases: Vec<Case> = points_before_the_container().into_iter().map(case).collect();
    for point in after_an_unfinished_start() {
        let acts = vec![Act::Kill(UNFINISHED_START), Act::Kill(point), Act::Restart];
        cases.push(Case { kind, held: false, acts, expected: expected(kind) });
    }
    cases
}

/// The client of `docker run` dies with the agent and has done nothing.
const UNFINISHED_START: Point = Point::Docker(Verb::Run, 1, How::Instead);

/// The points at which the next agent finds out that there is no container.
fn after_an_unfinished_start() -> Vec<Point> {
    [Verb::Inspect, Verb::Absent].into_iter().flat_map(|verb| docker(verb, 1, &ASKED)).collect()
}

fn with_the_container(kind: Kind) -> Vec<Case> {
    let mut cases = Vec::new();
    let how = [How::Before, How::Created, How::CreatedOn, How::Started, How::StartedOn, How::After];
    let mut points = docker(Verb::Run, 1, &how);
    points.extend(docker(Verb::Inspect, OUTCOME, &ASKED));
    // The call that finds out what stopped the container.
    points.extend(docker(Verb::Events, 1, &ASKED));
    if kind != Kind::Success {
        // A failed client may have added its own message to the container's output.
        points.extend(docker(Verb::Logs, 1, &ORDERED));
    }
    for point in points {
        let runs = matches!(point, Point::Docker(_, _, How::Started | How::StartedOn));
        let never_runs = matches!(point, Point::Docker(_, _, How::Created));
        let mut acts = vec![Act::Kill(point), Act::Restart];
        if runs {
            acts.extend([Act::Followed, Act::Release]);
        }
        cases.push(Case { kind, held: runs, acts, expected: expected(kind) });
        if never_runs {
            let acts = vec![Act::Kill(point), Act::Prune, Act::Restart];
            let expected = Expected { begun: 0..=0, files: Some(&[]), ..Expected::lost() };
            cases.push(Case { kind, held: false, acts, expected });
        } else {
            let acts = vec![Act::Kill(point), Act::Release, Act::Ended, Act::Prune, Act::Restart];
            cases.push(Case { kind, held: runs, acts, expected: Expected::lost() });
        }
    }
    cases
}

fn after_the_outcome(kind: Kind) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in removal() {
        cases.extend(known(kind, vec![Act::Kill(point)], false));
    }
    // After a restart the worker looks for the container itself.
    let sending = Act::Kill(Point::Request(Upload(1), Before));
    for point in docker(Verb::Inspect, 1, &ASKED) {
        let acts = vec![sending, Act::Kill(point), Act::Restart];
        cases.push(Case { kind, held: false, acts, expected: expected(kind) });
    }
    let mut points = request(List, &[Before, After]);
    for number in [1, 2] {
        points.extend(request(Upload(number), &[Sending, Before, Unanswered, After]));
    }
    points.extend(request(Complete, &TAKES_EFFECT));
    for point in points {
        cases.push(Case { kind, held: false, acts: vec![Act::Kill(point), Act::Restart], expected: expected(kind) });
    }
    cases
}

/// The points during the removal of a container whose outcome is recorded.
fn removal() -> Vec<Point> {
    docker(Verb::Rm, 1, &ORDERED)
}

/// After these steps the outcome is recorded, so it makes no difference whether the container still exists.
fn known(kind: Kind, acts: Vec<Act>, held: bool) -> Vec<Case> {
    let with = |more: &[Act]| Case { kind, held, acts: [&acts, more].concat(), expected: expected(kind) };
    let mut cases = vec![with(&[Act::Restart])];
    if !acts.last().is_some_and(removes) {
        cases.push(with(&[Act::Prune, Act::Restart]));
    }
    cases
}

/// Whether the client removes the container although the agent is killed.
fn removes(act: &Act) -> bool {
    let (Act::Kill(point) | Act::KillCancelled(point) | Act::KillReleased(point)) = act else { return false };
    matches!(point, Point::Docker(Verb::Rm, _, How::Before | How::After))
}

/// The agent is killed, finds the running or exited container after its restart, and is killed again.
fn after_a_restart(kind: Kind) -> Vec<Case> {
    let mut cases = Vec::new();
    let started = Act::Kill(Point::Docker(Verb::Run, 1, How::StartedOn));
    let mut points = docker(Verb::Inspect, 1, &ASKED);
    points.extend(docker(Verb::Follow, 1, &[How::Instead, How::Before, How::Midway]));
    for point in points {
        let again = Act::Kill(point);
        let acts = vec![started, again, Act::Restart, Act::Followed, Act::Release];
        cases.push(Case { kind, held: true, acts, expected: expected(kind) });
        let acts = vec![started, again, Act::Release, Act::Ended, Act::Prune, Act::Restart];
        cases.push(Case { kind, held: true, acts, expected: Expected::lost() });
    }
    let mut points = docker(Verb::Follow, 1, &[How::After]);
    points.extend(docker(Verb::Inspect, OUTCOME_OF_FOLLOWED, &ASKED));
    points.extend(docker(Verb::Events, 1, &ASKED));
    for point in points {
        let acts = vec![started, Act::KillReleased(point)];
        cases.extend(unknown(kind, acts, true));
    }
    for point in removal() {
        cases.extend(known(kind, vec![started, Act::KillReleased(point)], true));
    }

    let ended = Act::Kill(Point::Docker(Verb::Run, 1, How::After));
    let mut points = docker(Verb::Inspect, 1, &ASKED);
    points.extend(docker(Verb::Logs, 1, &ORDERED));
    points.extend(docker(Verb::Events, 1, &ASKED));
    for point in points {
        cases.extend(unknown(kind, vec![ended, Act::Kill(point)], false));
    }
    for point in removal() {
        cases.extend(known(kind, vec![ended, Act::Kill(point)], false));
    }
    cases
}

/// After these steps the container has exited and its outcome isn't recorded.
fn unknown(kind: Kind, acts: Vec<Act>, held: bool) -> Vec<Case> {
    let with = |more: &[Act], expected| Case { kind, held, acts: [&acts, more].concat(), expected };
    vec![with(&[Act::Restart], expected(kind)), with(&[Act::Ended, Act::Prune, Act::Restart], Expected::lost())]
}

/// A second kill while the agent finds out whether an unanswered request took effect.
fn in_doubt_twice(kind: Kind) -> Vec<Case> {
    let mut pairs = Vec::new();
    for first in [Before, Unanswered] {
        let first = Point::Request(Upload(1), first);
        for second in request(List, &[Before, After]).into_iter().chain(request(Upload(1), &TAKES_EFFECT)) {
            pairs.push((first, second));
        }
    }
    // The report is refused, and the agent uses `accept` to find out why.
    let first = Point::Request(Complete, Unanswered);
    for second in request(Complete, &TAKES_EFFECT).into_iter().chain(request(AcceptAfterRefusal, &TAKES_EFFECT)) {
        pairs.push((first, second));
    }
    // The first `accept` may or may not have taken effect.
    for first in [Before, Unanswered] {
        for second in request(Accept(1), &TAKES_EFFECT) {
            pairs.push((Point::Request(Accept(1), first), second));
        }
    }
    let case = |(first, second)| {
        let acts = vec![Act::Kill(first), Act::Kill(second), Act::Restart];
        Case { kind, held: false, acts, expected: expected(kind) }
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
        let acts = vec![created, Act::Kill(point), Act::Restart];
        Case { kind, held: false, acts, expected: expected(kind) }
    };
    let mut cases: Vec<Case> = points.into_iter().map(case).collect();
    // The container is started between the `inspect` and the removal.
    for how in [How::Raced, How::RacedOn] {
        let raced = Act::Kill(Point::Docker(Verb::Rm, 1, how));
        let acts = vec![created, raced, Act::Restart, Act::Followed, Act::Release];
        cases.push(Case { kind, held: true, acts, expected: expected(kind) });
    }
    let raced_on = Act::Kill(Point::Docker(Verb::Rm, 1, How::RacedOn));
    let acts = vec![created, raced_on, Act::Release, Act::Ended, Act::Prune, Act::Restart];
    cases.push(Case { kind, held: true, acts, expected: Expected::lost() });
    let raced = Act::Kill(Point::Docker(Verb::Rm, 1, How::Raced));
    for point in docker(Verb::Logs, 1, &ORDERED) {
        let acts = vec![created, raced, Act::Release, Act::Ended, Act::Kill(point)];
        cases.extend(unknown(kind, acts, true));
    }
    cases
}

/// The agent can't read the outputs in the workspace, and copies them from a container that shows the workspace.
fn fetched() -> Vec<Case> {
    let kind = Kind::Guarded;
    let with = |acts: Vec<Act>| Case { kind, held: false, acts, expected: expected(kind) };
    let mut points = docker(Verb::Inspect, FETCH, &ASKED);
    for (verb, number) in [(Verb::Create, 1), (Verb::Cp, 1), (Verb::Rm, FETCH_RM)] {
        points.extend(docker(verb, number, &ORDERED));
    }
    let mut cases = Vec::new();
    for point in points {
        let killed = Act::Kill(point);
        cases.push(with(vec![killed, Act::Restart]));
        for again in docker(Verb::Cp, 1, &ORDERED) {
            // When all was copied, nothing is copied again.
            if !matches!(point, Point::Docker(Verb::Rm, ..)) {
                cases.push(with(vec![killed, Act::Kill(again), Act::Restart]));
            }
        }
    }
    for point in removal() {
        cases.extend(known(kind, vec![Act::Kill(point)], false));
    }
    let uploads = [1, 2].into_iter().flat_map(|number| request(Upload(number), &[Sending, Before, Unanswered, After]));
    for point in uploads.chain(request(Complete, &TAKES_EFFECT)) {
        cases.push(with(vec![Act::Kill(point), Act::Restart]));
    }
    cases
}

/// The agent's own note is the third file. It must be there once, and be the same after a kill.
fn noted() -> Vec<Case> {
    let kind = Kind::Noted;
    let with = |acts: Vec<Act>| Case { kind, held: false, acts, expected: expected(kind) };
    let mut cases = Vec::new();
    for number in [2, 3] {
        for point in request(Upload(number), &[Sending, Before, Unanswered, After]) {
            cases.push(with(vec![Act::Kill(point), Act::Restart]));
        }
    }
    for point in request(Complete, &TAKES_EFFECT) {
        cases.push(with(vec![Act::Kill(point), Act::Restart]));
    }
    for first in [Before, Unanswered] {
        let first = Act::Kill(Point::Request(Upload(3), first));
        for second in request(List, &[Before, After]).into_iter().chain(request(Complete, &TAKES_EFFECT)) {
            cases.push(with(vec![first, Act::Kill(second), Act::Restart]));
        }
    }
    cases
}

/// The archive is the only file. It must be there once, and be the same after a kill.
fn archived() -> Vec<Case> {
    let kind = Kind::Archived;
    let with = |acts: Vec<Act>| Case { kind, held: false, acts, expected: expected(kind) };
    let mut points = request(List, &[Before, After]);
    points.extend(request(Upload(1), &[Sending, Before, Unanswered, After]));
    points.extend(request(Complete, &TAKES_EFFECT));
    let mut cases: Vec<Case> = points.into_iter().map(|point| with(vec![Act::Kill(point), Act::Restart])).collect();
    for first in [Before, Unanswered] {
        let first = Act::Kill(Point::Request(Upload(1), first));
        for second in request(List, &[After]).into_iter().chain(request(Complete, &[Before])) {
            cases.push(with(vec![first, Act::Kill(second), Act::Restart]));
        }
    }
    cases
}

/// A kill leaves an unfinished step, and afterwards that step is not needed or can't succeed.
fn half_done() -> Vec<Case> {
    let half_an_input = Act::Kill(Point::Request(Download(2), Receiving));
    let never_begun = |expected: Expected| Expected { begun: 0..=0, files: Some(&[]), printed: false, ..expected };
    let not_fetched =
        Expected { message: Message::Contains("`data.bin` can't be fetched"), ..never_begun(Expected::failure()) };
    let no_offer = Act::Kill(Point::Request(Poll, After));
    let rows = [
        (Kind::Failure, vec![half_an_input, Act::NoInputs, Act::Restart], not_fetched),
        (
            Kind::Cancel,
            vec![half_an_input, Act::SlowInputs, Act::Cancel, Act::Restart],
            never_begun(Expected::cancelled()),
        ),
        (Kind::Success, vec![no_offer, Act::HalfRecord, Act::Restart], Expected::success()),
        (
            Kind::Cancel,
            vec![no_offer, Act::HalfRecord, Act::Cancel, Act::Restart],
            Expected { reports: 0, ..never_begun(Expected::cancelled()) },
        ),
    ];
    rows.map(|(kind, acts, expected)| Case { kind, held: false, acts, expected }).into()
}

/// The task is cancelled while it runs, and the agent is killed before it has reported that.
fn cancelled_while_running() -> Vec<Case> {
    let kind = Kind::Cancel;
    let mut cases = Vec::new();
    for adopted in [false, true] {
        let started = Point::Docker(Verb::Run, 1, How::StartedOn);
        let before = if adopted { vec![Act::Kill(started)] } else { Vec::new() };
        let with = |more: &[Act]| Case { kind, held: true, acts: [&before, more].concat(), expected: expected(kind) };
        for point in request(CancellingPoll, &[Before, After]).into_iter().chain(request(Complete, &TAKES_EFFECT)) {
            cases.push(with(&[Act::KillCancelled(point), Act::Restart]));
        }
        for point in docker(Verb::Stop, 1, &ORDERED) {
            let killed = Act::KillCancelled(point);
            cases.push(with(&[killed, Act::Restart]));
            // The task is cancelled, whether the container was stopped or exited by itself.
            cases.push(with(&[killed, Act::Release, Act::Ended, Act::Restart]));
            cases.push(with(&[killed, Act::Release, Act::Ended, Act::Prune, Act::Restart]));
        }
        let outcome = if adopted { OUTCOME_OF_FOLLOWED } else { OUTCOME };
        let mut points = docker(Verb::Inspect, outcome, &ASKED);
        if !adopted {
            points.extend(docker(Verb::Logs, 1, &ORDERED));
        }
        points.extend(removal());
        for point in points {
            let killed = Act::KillCancelled(point);
            cases.push(with(&[killed, Act::Restart]));
            if !removes(&killed) {
                cases.push(with(&[killed, Act::Ended, Act::Prune, Act::Restart]));
            }
        }
    }
    cases
}

/// The task is cancelled while no agent runs.
fn cancelled_without_an_agent() -> Vec<Case> {
    let kind = Kind::Cancel;
    let alone = |before: &[Act], point: Point, expected: Expected| {
        let acts = [before, &[Act::Kill(point), Act::Cancel, Act::Restart]].concat();
        Case { kind, held: true, acts, expected }
    };
    let mut cases = Vec::new();
    for point in points_of_the_offer() {
        match point {
            // No agent has accepted the task, so it ends at once and no agent reports it.
            Point::Request(Poll, _) => {
                let expected = Expected { begun: 0..=0, reports: 0, ..expected(kind) };
                cases.push(alone(&[], point, expected));
            }
            // The same, but the agent can't know whether its `accept` took effect (PROTOCOL 1), and runs the task.
            Point::Request(Accept(_), Before) => {
                let expected = Expected { begun: 0..=1, reports: 0, files: None, ..expected(kind) };
                cases.push(Case { held: false, ..alone(&[], point, expected) });
            }
            _ => cases.push(alone(&[], point, Expected { begun: 0..=1, ..expected(kind) })),
        }
    }
    let how = [How::Instead, How::Before, How::Created, How::CreatedOn, How::Started, How::StartedOn];
    for point in docker(Verb::Run, 1, &how) {
        cases.push(alone(&[], point, Expected { begun: 0..=1, ..expected(kind) }));
    }
    for point in after_an_unfinished_start() {
        cases.push(alone(&[Act::Kill(UNFINISHED_START)], point, Expected { begun: 0..=1, ..expected(kind) }));
    }
    let mut points = docker(Verb::Inspect, 1, &ASKED);
    points.extend(docker(Verb::Follow, 1, &[How::Instead, How::Before, How::Midway]));
    for point in points {
        let started = Act::Kill(Point::Docker(Verb::Run, 1, How::StartedOn));
        cases.push(alone(&[started], point, Expected { begun: 0..=1, ..expected(kind) }));
    }
    cases
}

/// The time limit is reached, and the agent is killed while it stops the container.
fn timeouts() -> Vec<Case> {
    let kind = Kind::Timeout;
    let mut cases = Vec::new();
    for point in docker(Verb::Stop, 1, &ORDERED) {
        let killed = Act::Kill(point);
        cases.push(Case { kind, held: true, acts: vec![killed, Act::Restart], expected: expected(kind) });
        // The task has timed out, whether the container was stopped or exited by itself, and whether it still exists.
        let acts = vec![killed, Act::Release, Act::Ended, Act::Prune, Act::Restart];
        let files = match point {
            Point::Docker(_, _, How::Instead) => expected(Kind::Success).files,
            Point::Docker(_, _, How::After) => expected(kind).files,
            // The container may be stopped before or after it writes the second result.
            _ => None,
        };
        cases.push(Case { kind, held: true, acts, expected: Expected { files, ..expected(kind) } });
    }
    cases
}
