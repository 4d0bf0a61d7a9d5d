//! What must be true in every state.

use crate::phase::Phase;
use crate::state::{AGENTS, Ending, Held, NAMES, State, Status};
use crate::world::World;

impl World {
    /// What isn't true in a state that should be, in words.
    pub fn broken_invariant(&self, state: &State) -> Option<String> {
        (0..self.tasks).find_map(|task| {
            let of_agents = (0..self.agents).find_map(|agent| {
                let why = self.broken_by(state, agent, task)?;
                Some(format!("agent {}, task {task}: {why}", NAMES[agent]))
            });
            of_agents.or_else(|| Some(format!("task {task}: {}", self.broken_together(state, task)?)))
        })
    }

    fn broken_by(&self, state: &State, agent: usize, task: usize) -> Option<&'static str> {
        let (held, on_server) = (&state.held[agent][task], &state.tasks[task]);
        let Held { record, engine, .. } = held;
        let host = &state.agents[agent];
        let is_settled = record.phase == Some(Phase::Settled);
        let is_reporter = usize::from(on_server.reporter) == agent + 1;
        let by_late_call = self.faults.lates > 0;
        let rules = [
            (engine.runs > 1, "P1: its container has started twice on one engine"),
            // Two requeues within one report can mislead it; the task is offered again then, and its record reopened.
            (
                is_settled && !on_server.status.is_final() && self.faults.silences < 2,
                "P2: it is settled here, and has not ended on the Server",
            ),
            (
                is_settled && record.ending == Ending::Completed && !is_reporter && !self.has_other_end(state, task),
                "P2: its result is lost",
            ),
            (
                is_reporter && on_server.status == Status::Completed && record.ending != Ending::Completed,
                "P2: it is completed by an agent whose container didn't end well",
            ),
            (
                self.is_fine && is_reporter && on_server.status == Status::Completed && on_server.files[agent] == 0,
                "P2: it is completed without its file",
            ),
            (self.is_fine && !by_late_call && on_server.files[agent] > 1, "P2: its file was delivered twice"),
            (record.ending == Ending::Failed && !host.was_refused, "P2, P8: it failed, and no start was refused"),
            (usize::from(host.burned) > self.capacity, "P8: more tasks failed than were accepted before the first"),
            (
                record.stop.is_some() && state.faults.cancels == self.faults.cancels,
                "it is stopped, and was not cancelled",
            ),
        ];
        rules.into_iter().find(|(is_broken, _)| *is_broken).map(|(_, why)| why)
    }

    /// Whether the Server had a reason to end a task without the report of an agent that has its result: it was requeued too
    /// often, its submitter cancelled it, or a twin reported it, which had run it as well.
    fn has_other_end(&self, state: &State, task: usize) -> bool {
        let on_server = &state.tasks[task];
        let is_twins = on_server.reporter > 0 && (on_server.was_doubted || on_server.was_taken_over);
        match on_server.status {
            Status::Completed => is_twins,
            Status::Failed => is_twins || on_server.retries >= self.max_retries,
            Status::Cancelled => state.faults.cancels < self.faults.cancels,
            // A record that was settled too early, see above.
            Status::Pending | Status::Running | Status::Cancelling => self.faults.silences >= 2,
        }
    }

    /// The two ways in which twins both run a task. No agent can prevent them, and there is no third.
    fn broken_together(&self, state: &State, task: usize) -> Option<&'static str> {
        let on_server = &state.tasks[task];
        let ran = (0..AGENTS).filter(|agent| state.held[*agent][task].engine.runs > 0).count();
        let faults = self.faults;
        let losses = if self.loses_unsent_only { 0 } else { faults.losses };
        let may_be_doubted = losses + faults.kills + faults.lates > 0;
        // A twin that lives and asks in time gets its task back.
        let may_be_taken_over = faults.silences > 0 && (!self.is_prompt || faults.losses + faults.kills > 0);
        let rules = [
            (ran > 1 && !self.allows_twice, "P1: twins have both run it"),
            (ran > 1 && !on_server.was_doubted && !on_server.was_taken_over, "P1: it ran twice for no known reason"),
            (on_server.was_doubted && !may_be_doubted, "P1: an accept is in doubt that no fault has touched"),
            (ran > 1 && on_server.was_taken_over && !may_be_taken_over, "P1: a prompt twin's task was taken over"),
        ];
        rules.into_iter().find(|(is_broken, _)| *is_broken).map(|(_, why)| why)
    }
}
