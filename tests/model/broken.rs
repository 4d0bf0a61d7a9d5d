//! That the model can fail: each rule that is broken has a counterexample. And the two of agent-core as it is, which no
//! agent can prevent.

use crate::explore::explore;
use crate::sound::{alone, coarse, faults, twins};
use crate::world::{Broken, Goal, World};

/// Fails the test unless the world has a counterexample to this property, in which these things happen.
fn expect(world: World, budget: [u8; 6], property: &str, happens: &[&str]) {
    let world = World { faults: faults(budget), ..world };
    let found = match explore(&world) {
        Ok(summary) => panic!("{:?} is not found in {summary}", world.broken),
        Err(found) => found,
    };
    println!("{:?}: {found}", world.broken);
    assert!(found.property.contains(property), "{found}");
    let has = |word: &&str| found.trace.iter().any(|line| line.contains(*word));
    assert!(happens.iter().all(has), "{happens:?}\n{found}");
}

fn breaking(rule: Broken, world: World) -> World {
    World { broken: Some(rule), ..world }
}

const NEVER_ENDS: &str = "the end of every task can't be reached";

#[test]
fn a_container_started_before_its_record_can_run_twice() {
    let world = breaking(Broken::ClientUnrecorded, alone());
    expect(world, [0, 1, 0, 0, 0, 0], "started twice on one engine", &["is killed"]);
}

#[test]
fn a_container_removed_before_its_record_loses_its_result() {
    let world = breaking(Broken::RemovedUnrecorded, alone());
    expect(world, [0; 6], "it failed, and no start was refused", &["removed by another program"]);
}

#[test]
fn a_forgotten_doubt_leaves_a_task_running_for_ever() {
    let lost = [1, 0, 0, 0, 0, 0];
    expect(breaking(Broken::DoubtForgotten, alone()), lost, NEVER_ENDS, &["accept [AnswerLost]"]);
    let killed = [0, 1, 0, 0, 0, 0];
    expect(breaking(Broken::DoubtNotRecovered, alone()), killed, NEVER_ENDS, &["accept [KilledAfter]"]);
    expect(breaking(Broken::AcceptUnrecorded, alone()), killed, NEVER_ENDS, &["accept [KilledAfter]"]);
}

/// The call may be under way still, in a gateway or in the network, and arrive between the poll and the next `accept`.
#[test]
fn an_offer_that_ends_a_doubt_leaves_a_task_running_for_ever() {
    let world = breaking(Broken::OfferEndsDoubt, alone());
    let happens = ["accept [Late]", "its task is offered, so its accept didn't arrive", "a late call arrives"];
    expect(world, [0, 0, 1, 0, 0, 0], NEVER_ENDS, &happens);
}

#[test]
fn a_doubt_about_a_call_that_was_not_sent_is_found() {
    let world = breaking(Broken::NotSentInDoubt, World { loses_unsent_only: true, ..twins() });
    expect(world, [1, 0, 0, 0, 0, 0], "an accept is in doubt that no fault has touched", &["accept [NotSent]"]);
}

#[test]
fn a_report_that_is_not_repeated_is_lost() {
    let world = breaking(Broken::ReportNotRepeated, alone());
    expect(world, [1, 0, 0, 0, 0, 0], "settled here, and has not ended", &["report [Lost]"]);
}

#[test]
fn a_refused_report_without_an_accept_is_lost() {
    let world = breaking(Broken::RequeueIgnored, coarse());
    expect(world, [0, 0, 0, 1, 0, 0], "settled here, and has not ended", &["no heartbeat"]);
    let world = breaking(Broken::NoLastReport, twins());
    expect(world, [0, 0, 0, 1, 0, 0], "settled here, and has not ended", &["no heartbeat"]);
}

#[test]
fn an_accept_beside_a_report_leaves_a_task_running_for_ever() {
    let world = breaking(Broken::ReclaimBesideReport, coarse());
    expect(world, [0, 0, 0, 2, 0, 0], NEVER_ENDS, &["reclaim"]);
}

#[test]
fn uploads_that_are_repeated_or_skipped_are_found() {
    let lost = [1, 0, 0, 0, 0, 0];
    expect(breaking(Broken::UploadRepeated, alone()), lost, "delivered twice", &["upload [AnswerLost]"]);
    expect(breaking(Broken::UploadSkipped, alone()), [0; 6], "without its file", &["report"]);
}

#[test]
fn without_the_hold_a_twins_task_is_taken_over() {
    let world = World { is_prompt: true, ..twins() };
    expect(breaking(Broken::NoHold, world), [0, 0, 0, 1, 0, 0], "taken over", &["docker run"]);
}

#[test]
fn trouble_with_the_machine_that_is_charged_to_tasks_is_found() {
    let trouble = [0, 0, 0, 0, 0, 1];
    let world = breaking(Broken::NoGate, World { tasks: 2, ..coarse() });
    expect(world, trouble, "more tasks failed", &["its image is removed"]);
    expect(breaking(Broken::EngineDownFails, alone()), trouble, "no start was refused", &["its engine stops"]);
    let world = World { goal: Goal::OwnTasksAccepted, ..coarse() };
    expect(breaking(Broken::OwnTaskGated, world), [0, 0, 0, 1, 0, 1], "has its own tasks", &["no heartbeat"]);
}

/// PROTOCOL 1: the Server answers the second `accept` of this agent and that of a lost race alike. If the first one didn't
/// arrive and a twin was faster, both run the task.
#[test]
fn an_accept_in_doubt_that_a_twin_wins_runs_twice() {
    let world = World { allows_twice: false, ..twins() };
    let happens = ["accept [Lost]", "agent A, task 0: docker run", "agent B, task 0: docker run"];
    expect(world, [1, 0, 0, 0, 0, 0], "twins have both run it", &happens);
    // The same after a kill before the call, or before the refusal is written down.
    expect(world, [0, 1, 0, 0, 0, 0], "twins have both run it", &["is killed"]);
}

/// PROTOCOL 3: the Server gives the task of an agent that it doesn't hear to the first that asks for it.
#[test]
fn a_task_requeued_to_a_twin_runs_twice() {
    let world = World { allows_twice: false, ..twins() };
    let happens = ["no heartbeat arrives", "agent A, task 0: docker run", "agent B, task 0: docker run"];
    expect(world, [0, 0, 0, 1, 0, 0], "twins have both run it", &happens);
}
