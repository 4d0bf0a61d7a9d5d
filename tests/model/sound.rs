//! agent-core as it is: in every reachable state the promises hold.

use std::io::{Write, stderr};

use crate::explore::explore;
use crate::state::Faults;
use crate::world::{Goal, World};

/// How many faults of each kind can happen, in the order of [`Faults`].
pub fn faults([losses, kills, lates, silences, cancels, troubles]: [u8; 6]) -> Faults {
    Faults { losses, kills, lates, silences, cancels, troubles }
}

/// Fails the test with a counterexample, if there is one. The line is printed even where the output of tests isn't.
fn prove(name: &str, world: World) {
    match explore(&world) {
        Ok(summary) => {
            let World { agents, tasks, faults, .. } = world;
            let _ = writeln!(stderr(), "model: {name}, {agents} agent(s), {tasks} task(s), {faults:?}: {summary}");
        }
        Err(found) => panic!("{name}: {found}"),
    }
}

fn prove_each(name: &str, world: World, budgets: &[[u8; 6]]) {
    for budget in budgets {
        prove(name, World { faults: faults(*budget), ..world });
    }
}

pub fn alone() -> World {
    World::default()
}

/// Where the Server is what matters, a container is started, ended and removed in one step each.
pub fn coarse() -> World {
    World { is_fine: false, ..World::default() }
}

pub fn twins() -> World {
    World { agents: 2, is_fine: false, ..World::default() }
}

pub fn twins_with_two() -> World {
    World { tasks: 2, ..twins() }
}

#[test]
fn one_agent_keeps_the_promises_at_every_step() {
    let budgets = [[2, 2, 0, 0, 0, 0], [1, 2, 0, 1, 1, 0], [0, 2, 0, 0, 1, 1], [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0]];
    prove_each("one agent, every step", alone(), &budgets);
}

#[test]
fn one_agent_keeps_them_with_a_fault_of_every_kind() {
    prove_each("one agent, every step", alone(), &[[1, 1, 1, 1, 1, 1]]);
}

#[test]
fn one_agent_keeps_them_when_its_task_is_requeued_twice() {
    prove_each("one agent", coarse(), &[[2, 2, 0, 2, 0, 0], [1, 1, 1, 2, 1, 0], [0, 3, 0, 3, 0, 0]]);
}

#[test]
fn a_task_that_is_requeued_too_often_is_settled() {
    prove_each("no retries", World { max_retries: 0, ..twins() }, &[[1, 0, 0, 1, 0, 0], [0, 1, 0, 1, 1, 0]]);
}

#[test]
fn one_agent_keeps_them_with_two_tasks() {
    let world = World { tasks: 2, ..coarse() };
    prove_each("one agent, two tasks", world, &[[1, 1, 0, 1, 0, 0], [0, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 0]]);
    prove_each("two slots", World { capacity: 2, ..world }, &[[1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1]]);
}

#[test]
fn twins_keep_them_when_calls_are_lost_and_agents_killed() {
    prove_each("twins", twins(), &[[2, 0, 0, 1, 0, 0], [1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 1, 0], [0, 2, 0, 1, 0, 0]]);
}

#[test]
fn twins_keep_them_when_calls_fail_in_every_way_around_a_kill() {
    prove_each("twins", twins(), &[[2, 1, 0, 2, 0, 0], [1, 1, 1, 1, 0, 0]]);
}

#[test]
fn twins_keep_them_when_calls_are_late_and_tasks_requeued() {
    prove_each("twins", twins(), &[[0, 0, 1, 2, 0, 0], [1, 0, 1, 1, 0, 0], [1, 0, 0, 2, 0, 0], [0, 1, 0, 2, 0, 0]]);
}

#[test]
fn twins_keep_them_when_the_submitter_cancels_and_engines_stop() {
    prove_each(
        "twins",
        twins(),
        &[[1, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 1], [0, 1, 0, 0, 0, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 1, 1]],
    );
}

#[test]
fn twins_keep_them_with_two_tasks() {
    let budgets = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]];
    prove_each("twins, two tasks", twins_with_two(), &budgets);
}

/// P1: `was_doubted` and `was_taken_over` are the only reasons, each only after the faults that it needs.
#[test]
fn without_the_two_known_reasons_twins_never_both_run_a_task() {
    let never = World { allows_twice: false, ..twins() };
    prove_each("never twice", never, &[[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 2, 0]]);
    // A call that certainly didn't arrive leaves no doubt.
    prove_each("never twice", World { loses_unsent_only: true, ..never }, &[[2, 0, 0, 0, 1, 0]]);
    // Twins that live and are heard again within 15 s of each other get their own tasks back.
    let prompt = World { is_prompt: true, ..never };
    prove_each("prompt twins", prompt, &[[0, 0, 0, 2, 1, 0]]);
    prove_each("prompt twins", World { tasks: 2, ..prompt }, &[[0, 0, 0, 1, 0, 0]]);
}

/// P8: the gate for new tasks doesn't count for those that an agent has.
#[test]
fn an_own_task_is_accepted_again_by_a_machine_in_trouble() {
    let world = World { goal: Goal::OwnTasksAccepted, tasks: 2, ..coarse() };
    prove_each("own tasks", world, &[[0, 0, 0, 1, 0, 1], [1, 0, 0, 1, 0, 1]]);
}
