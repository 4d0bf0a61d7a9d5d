//! What goes wrong apart from calls: kills, silences, cancellations and trouble with machines, each within its budget.

use crate::state::{Agent, Ask, Faults, Host, Status};
use crate::world::{Goal, Steps};

impl Steps<'_> {
    pub fn add_faults(&mut self) {
        let (max_retries, Faults { kills, silences, cancels, troubles, .. }) =
            (self.world.max_retries, self.state.faults);
        for agent in 0..self.world.agents {
            let Agent { alive, host, .. } = self.state.agents[agent];
            if alive && kills > 0 {
                self.add_event(Some(agent), "is killed", true, |state| state.kill(agent));
            }
            if host == Host::Fine && troubles > 0 {
                for (what, host) in [("its engine stops", Host::EngineDown), ("its image is removed", Host::NoImage)] {
                    self.add_event(Some(agent), what, true, |state| {
                        state.faults.troubles -= 1;
                        state.agents[agent].host = host;
                    });
                }
            }
            if host != Host::Fine && self.world.goal != Goal::OwnTasksAccepted {
                self.add_event(Some(agent), "its machine is repaired", false, |state| {
                    state.agents[agent].host = Host::Fine;
                    state.agents[agent].burned = 0;
                });
            }
        }
        // A call lasts ten seconds at most, so none of a prompt agent's lasts over the minute of a silence.
        let mut held = self.state.held.iter().flatten();
        let is_calling = self.world.is_prompt && held.any(|held| held.memory.ask == Ask::First);
        if silences > 0 && !is_calling {
            // Each agent that lives sees the gap, and asks for its tasks before anything else.
            self.add_event(None, "no heartbeat arrives for a minute", true, |state| {
                state.faults.silences -= 1;
                state.requeue(max_retries);
                (0..state.agents.len()).for_each(|agent| state.reclaim_all(agent));
            });
            if self.state.agents[..self.world.agents].iter().any(|agent| !agent.alive) {
                // PROTOCOL 4: an agent that lives sees no gap.
                let what = "a last heartbeat said `offline`, and another service times out";
                self.add_event(None, what, true, |state| {
                    state.faults.silences -= 1;
                    state.requeue(max_retries);
                });
            }
        }
        for task in (0..self.world.tasks).filter(|_| cancels > 0) {
            if matches!(self.state.tasks[task].status, Status::Pending | Status::Running) {
                self.add_event(None, ["task 0 is cancelled", "task 1 is cancelled"][task], true, |state| {
                    state.faults.cancels -= 1;
                    state.cancel(task);
                });
            }
        }
    }
}
