//! The intake thread: polls, accepts, reclaims, cancellations, and the gate of P8.

use crate::claim::{Answer, Claim, Verdict, decide};
use crate::phase::Phase;
use crate::server::Call;
use crate::state::{Ask, Client, Container, Ending, Held, Host, Reporting};
use crate::world::{Actor, Broken, Seen, Steps};

impl Steps<'_> {
    pub fn add_intake(&mut self, agent: usize) {
        self.add_health(agent);
        let held = &self.state.held[agent];
        // The thread is in `Intake::accept`, and does nothing else before that returns.
        if let Some(task) = held.iter().position(|held| held.memory.ask == Ask::First) {
            return self.add_first_accept(Actor { agent, task });
        }
        for task in 0..self.world.tasks {
            let by = Actor { agent, task };
            let held = &self.state.held[agent][task];
            if held.memory.unseen {
                // `Intake::handle_message`, for `TaskResult::Settled`.
                self.add(by, "the table drops the settled task", |_, held| held.memory.unseen = false);
            }
            match held.memory.ask {
                // `Intake::reclaim`: a task isn't asked for that the table has dropped, or whose report will tell.
                Ask::Again if !held.in_table() || self.is_reporting(held) => {
                    self.add(by, "its reclaim is dropped", |_, held| held.memory.ask = Ask::No);
                }
                Ask::Again if self.is_broken(Broken::OwnTaskGated) && !self.state.agents[agent].admits => {}
                Ask::Again => self.add_reclaim(by, "reclaim"),
                Ask::No | Ask::First => {}
            }
        }
        self.add_poll(agent);
    }

    /// `HealthMonitor::check`, and `Admission::note_health`.
    fn add_health(&mut self, agent: usize) {
        let now = self.state.agents[agent];
        let admits = match now.host {
            Host::Fine => true,
            Host::EngineDown => false,
            Host::NoImage => !now.checks_image,
        };
        if admits != now.admits || (admits && now.checks_image) {
            self.add_event(Some(agent), "its health is checked", false, |state| {
                state.agents[agent].admits = admits;
                // `HealthMonitor::clean`: on a host in order the image isn't looked for any more.
                state.agents[agent].checks_image &= !admits;
            });
        }
        for task in (0..self.world.tasks).filter(|_| now.host != Host::EngineDown) {
            let held = &self.state.held[agent][task];
            // `HealthMonitor::remove_leftover_containers`.
            if held.engine.container != Container::Absent
                && held.record.phase.is_none_or(|phase| phase > Phase::Uploaded)
            {
                let by = Actor { agent, task };
                self.add(by, "its leftover container is removed", |_, held| held.engine.container = Container::Absent);
            }
        }
    }

    /// A poll, and what `Intake::handle_answer` makes of it. A lost poll changes nothing.
    fn add_poll(&mut self, agent: usize) {
        if let Some(task) = self.state.cancelling() {
            return self.add_cancellation(Actor { agent, task });
        }
        let Some(task) = self.state.offered() else { return };
        let by = Actor { agent, task };
        let held = &self.state.held[agent][task];
        if held.in_table() {
            let is_in_doubt = held.record.phase == Some(Phase::Accepting) && !held.memory.disproved;
            if is_in_doubt && self.is_broken(Broken::OfferEndsDoubt) {
                self.add(by, "its task is offered, so its accept didn't arrive", |_, held| {
                    held.memory.disproved = true
                });
            }
            // `Intake::reclaim_offered`. A reclaim that is in the queue anyway is the same call.
            let is_gated = self.is_broken(Broken::OwnTaskGated) && !self.state.agents[agent].admits;
            if held.memory.ask == Ask::No && !is_gated && !self.is_reporting(held) {
                self.add_reclaim(by, "its task is offered, and accepted again");
            }
            return;
        }
        match held.record.phase {
            // `Intake::deliver_again`: the record is written, and then the task accepted.
            Some(Phase::Settled) => self.add(by, "a settled task is offered; its record is reopened", |_, held| {
                held.record.phase = Some(Phase::Uploaded);
                held.memory.ask = Ask::Again;
            }),
            None if self.admits_new(by) => {
                let is_recorded = !self.is_broken(Broken::AcceptUnrecorded);
                self.add(by, "a new task is offered; its record is written", |_, held| {
                    let engine = held.engine;
                    *held = Held { engine, ..Held::default() };
                    held.record.phase = is_recorded.then_some(Phase::Accepting);
                    held.memory.ask = Ask::First;
                });
            }
            // Not in the table and unfinished: only a mutation leaves a record so.
            None | Some(Phase::Accepting | Phase::Accepted | Phase::Prepared | Phase::Exited | Phase::Uploaded) => {}
        }
    }

    /// `Admission::check`: whether a new task is accepted.
    fn admits_new(&self, Actor { agent, task }: Actor) -> bool {
        let slots = self.state.held[agent]
            .iter()
            .filter(|held| held.is_unfinished() && held.record.phase < Some(Phase::Exited));
        // `HOLD`: for 15 s new tasks are left to twins. By then a prompt one has asked for its own, or its worker has.
        let holds = self.world.is_prompt && !self.is_broken(Broken::NoHold);
        let is_held = holds
            && (0..self.world.agents).any(|twin| {
                let held = &self.state.held[twin][task];
                let asks = held.memory.ask == Ask::Again || held.memory.reporting != Reporting::Open;
                twin != agent && self.state.agents[twin].alive && held.in_table() && asks
            });
        self.state.agents[agent].admits && slots.count() < self.world.capacity && !is_held
    }

    /// `TaskTable::is_reporting`: a worker is at its report, and accepts the task itself if need be. While the worker is at
    /// the first call of it, the model lets the intake thread accept the task, too.
    fn is_reporting(&self, held: &Held) -> bool {
        let is_past = held.memory.unseen || held.memory.reporting != Reporting::Open;
        is_past && !self.is_broken(Broken::ReclaimBesideReport)
    }

    /// `Intake::cancel`.
    fn add_cancellation(&mut self, by: Actor) {
        let held = &self.state.held[by.agent][by.task];
        if !held.in_table() {
            // `Intake::report_orphan`, after a minute. The model doesn't count it, so it looks at every moment.
            let what = "it reports a cancelled task that isn't here";
            self.call(by, (what, Call::Complete(Ending::Cancelled)), |_| {}, |_, _, _| {});
        } else if !held.memory.cancelled {
            self.add(by, "it hears of the cancellation", |_, held| held.memory.cancelled = true);
        }
    }

    /// `Intake::accept`, from the call on.
    fn add_first_accept(&mut self, by: Actor) {
        let broken = self.world.broken;
        self.call(
            by,
            ("accept", Call::Accept),
            |_| {},
            |_, held, seen| {
                held.memory.ask = Ask::No;
                match decide(Claim::New, answer(seen, broken)) {
                    Verdict::Begin => held.record.phase = Some(Phase::Accepted),
                    Verdict::AskAgain => {
                        held.record.phase = Some(Phase::Accepting);
                        held.memory.ask = Ask::Again;
                    }
                    Verdict::Forget => held.forget(),
                    Verdict::GoOn => unreachable!("a new task has no earlier state"),
                }
            },
        );
    }

    /// `Intake::reclaim`.
    fn add_reclaim(&mut self, by: Actor, what: &'static str) {
        let held = &self.state.held[by.agent][by.task];
        let claim = match held.record.phase {
            Some(Phase::Accepting) if held.memory.disproved => Claim::New,
            Some(Phase::Accepting) => Claim::Unconfirmed,
            _ => Claim::Confirmed,
        };
        self.call(
            by,
            (what, Call::Accept),
            |_| {},
            |state, held, seen| {
                held.memory.ask = Ask::No;
                match decide(claim, answer(seen, None)) {
                    // `Intake::confirm_accepted`.
                    Verdict::Begin => {
                        held.record.phase = held.record.phase.max(Some(Phase::Accepted));
                        if seen == Seen::Refused && usize::from(state.tasks[by.task].owner) != by.agent + 1 {
                            state.tasks[by.task].was_doubted = true;
                        }
                    }
                    Verdict::GoOn => {}
                    Verdict::AskAgain => held.memory.ask = Ask::Again,
                    Verdict::Forget => held.forget(),
                }
            },
        );
    }
}

/// What `accept.rs` and `reclaim.rs` make of the Server's answer.
fn answer(seen: Seen, broken: Option<Broken>) -> Answer {
    match seen {
        Seen::Taken => Answer::Given,
        Seen::Refused => Answer::NotPending,
        Seen::NotSent if broken == Some(Broken::NotSentInDoubt) => Answer::Lost,
        Seen::NotSent => Answer::NotNow,
        Seen::Nothing if broken == Some(Broken::DoubtForgotten) => Answer::NotNow,
        Seen::Nothing => Answer::Lost,
    }
}

impl Held {
    /// `Intake::remove_record`.
    fn forget(&mut self) {
        let engine = self.engine;
        *self = Self { engine, ..Self::default() };
        assert!(engine.client == Client::None, "only a task that never had a container is forgotten");
    }
}
