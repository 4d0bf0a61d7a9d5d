//! What can happen: every step from a state, with the state after it.

use std::fmt;

use crate::phase::Phase;
use crate::server::Call;
use crate::state::{Agent, Ask, Client, Container, Faults, Held, Late, Memory, NAMES, Request, State, Status};

/// A rule of agent-core that a test breaks, to show that the model finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The gate is opened before the record names the client.
    ClientUnrecorded,
    /// The container is removed before its ending is in the record.
    RemovedUnrecorded,
    /// An `accept` without an answer counts as one that didn't arrive.
    DoubtForgotten,
    /// A poll that offers a task after the end of its `accept` without an answer counts as proof that the call didn't arrive.
    OfferEndsDoubt,
    /// A start doesn't ask for tasks whose `accept` is unconfirmed.
    DoubtNotRecovered,
    /// The record is written after `accept`, not before.
    AcceptUnrecorded,
    /// An `accept` that certainly didn't arrive counts as one that may have.
    NotSentInDoubt,
    /// A report without an answer isn't repeated.
    ReportNotRepeated,
    /// A report that was refused isn't followed by an `accept`.
    RequeueIgnored,
    /// A report that was refused, and whose `accept` was refused, isn't sent once more.
    NoLastReport,
    /// A task is accepted again while its report is being refused.
    ReclaimBesideReport,
    /// An upload without an answer is repeated without a look at the Server's list.
    UploadRepeated,
    /// The workspace counts as delivered before it is sent.
    UploadSkipped,
    /// After an interruption of heartbeats new tasks are accepted at once.
    NoHold,
    /// A failed start doesn't stop new tasks.
    NoGate,
    /// A start that finds no engine fails its task.
    EngineDownFails,
    /// A requeued task of this agent waits for the host to be in order.
    OwnTaskGated,
}

/// What a world must be able to reach from every state, without further faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Every task has ended, on the Server and on every machine, and no container is left.
    EveryTaskEnds,
    /// No task that an agent has a record of is pending on the Server, although no machine is repaired.
    OwnTasksAccepted,
}

/// A world: who is in it, and what can go wrong.
#[derive(Debug, Clone, Copy)]
pub struct World {
    pub agents: usize,
    pub tasks: usize,
    /// Whether containers and uploads are modelled in every step, or each in one.
    pub is_fine: bool,
    /// How many tasks an agent takes at a time.
    pub capacity: usize,
    /// Whether a twin that lives asks for its requeued tasks within the 15 s in which no other agent takes them.
    pub is_prompt: bool,
    /// After so many requeues the Server fails a task.
    pub max_retries: u8,
    /// Whether the agent knows of each lost call that it has not arrived, as without a connection.
    pub loses_unsent_only: bool,
    /// Whether twins may both run a task, in the two ways that no agent can prevent.
    pub allows_twice: bool,
    pub faults: Faults,
    pub goal: Goal,
    pub broken: Option<Broken>,
}

impl Default for World {
    /// One agent and one task, in every step, without faults.
    fn default() -> Self {
        Self {
            agents: 1,
            tasks: 1,
            is_fine: true,
            capacity: 1,
            is_prompt: false,
            max_retries: 3,
            loses_unsent_only: false,
            allows_twice: true,
            faults: Faults::default(),
            goal: Goal::EveryTaskEnds,
            broken: None,
        }
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, and its answer does.
    Answered,
    /// It doesn't arrive, and the agent knows (no connection).
    NotSent,
    /// It doesn't arrive, and the agent doesn't know.
    Lost,
    /// It arrives, and its answer doesn't.
    AnswerLost,
    /// It arrives later, when the agent waits no more.
    Late,
    /// It arrives and is answered, and a copy arrives later.
    Doubled,
    /// The agent is killed before the call leaves.
    KilledBefore,
    /// It arrives, and the agent is killed before it notes the answer.
    KilledAfter,
}

/// What the agent sees of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Taken,
    Refused,
    NotSent,
    Nothing,
}

/// One step.
pub struct Step {
    pub agent: Option<usize>,
    pub task: Option<usize>,
    pub what: &'static str,
    pub fate: Fate,
    pub is_fault: bool,
    pub state: State,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.agent {
            Some(agent) => write!(f, "agent {}", NAMES[agent])?,
            None => write!(f, "world")?,
        }
        if let Some(task) = self.task {
            write!(f, ", task {task}")?;
        }
        write!(f, ": {}", self.what)?;
        match self.fate {
            Fate::Answered => Ok(()),
            fate => write!(f, " [{fate:?}]"),
        }
    }
}

/// The steps from one state, while they are collected.
pub struct Steps<'s> {
    pub world: &'s World,
    pub state: &'s State,
    pub steps: &'s mut Vec<Step>,
}

/// Whose step it is.
#[derive(Clone, Copy)]
pub struct Actor {
    pub agent: usize,
    pub task: usize,
}

impl Steps<'_> {
    pub fn is_broken(&self, rule: Broken) -> bool {
        self.world.broken == Some(rule)
    }

    /// Adds a step of an agent, or of its engine, with one of its tasks.
    pub fn add(&mut self, actor: Actor, what: &'static str, change: impl FnOnce(&mut State, &mut Held)) {
        self.push(actor, what, false, change);
    }

    /// Adds a step that is a fault.
    pub fn add_fault(&mut self, actor: Actor, what: &'static str, change: impl FnOnce(&mut State, &mut Held)) {
        self.push(actor, what, true, change);
    }

    fn push(&mut self, by: Actor, what: &'static str, is_fault: bool, change: impl FnOnce(&mut State, &mut Held)) {
        let mut state = *self.state;
        let mut held = state.held[by.agent][by.task];
        change(&mut state, &mut held);
        state.held[by.agent][by.task] = held;
        let (agent, task) = (Some(by.agent), Some(by.task));
        self.steps.push(Step { agent, task, what, fate: Fate::Answered, is_fault, state });
    }

    /// Adds a step of no agent, or of an agent with no task.
    pub fn add_event(
        &mut self,
        agent: Option<usize>,
        what: &'static str,
        is_fault: bool,
        change: impl FnOnce(&mut State),
    ) {
        let mut state = *self.state;
        change(&mut state);
        self.steps.push(Step { agent, task: None, what, fate: Fate::Answered, is_fault, state });
    }

    /// Adds a call with all that may become of it. `before` is what is on the disk before it leaves, `after` what the agent
    /// makes of its answer.
    pub fn call(
        &mut self,
        by: Actor,
        (what, call): (&'static str, Call),
        before: impl Fn(&mut Held),
        after: impl Fn(&mut State, &mut Held, Seen),
    ) {
        let Faults { losses, kills, lates, .. } = self.state.faults;
        let may_be_lost = losses > 0 && !self.world.loses_unsent_only;
        let may_be_late = lates > 0 && self.state.late == Late::None;
        let fates = [
            (Fate::Answered, true),
            (Fate::NotSent, losses > 0),
            (Fate::Lost, may_be_lost),
            (Fate::AnswerLost, may_be_lost),
            (Fate::Late, may_be_late),
            (Fate::Doubled, may_be_late),
            (Fate::KilledBefore, kills > 0),
            (Fate::KilledAfter, kills > 0),
        ];
        for fate in fates.into_iter().filter(|(_, is_possible)| *is_possible).map(|(fate, _)| fate) {
            let mut state = *self.state;
            before(&mut state.held[by.agent][by.task]);
            let arrives = matches!(fate, Fate::Answered | Fate::AnswerLost | Fate::Doubled | Fate::KilledAfter);
            let is_taken = arrives && state.serve(by.agent, by.task, call);
            match fate {
                Fate::Answered => {}
                Fate::NotSent | Fate::Lost | Fate::AnswerLost => state.faults.losses -= 1,
                Fate::Late | Fate::Doubled => {
                    state.faults.lates -= 1;
                    state.late = call.late();
                    (state.late_agent, state.late_task) = (by.agent as u8, by.task as u8);
                }
                Fate::KilledBefore | Fate::KilledAfter => state.kill(by.agent),
            }
            let seen = match fate {
                Fate::Answered | Fate::Doubled => Some(if is_taken { Seen::Taken } else { Seen::Refused }),
                Fate::NotSent => Some(Seen::NotSent),
                Fate::Lost | Fate::AnswerLost | Fate::Late => Some(Seen::Nothing),
                Fate::KilledBefore | Fate::KilledAfter => None,
            };
            if let Some(seen) = seen {
                let mut held = state.held[by.agent][by.task];
                after(&mut state, &mut held, seen);
                state.held[by.agent][by.task] = held;
            }
            let (agent, task, is_fault) = (Some(by.agent), Some(by.task), fate != Fate::Answered);
            self.steps.push(Step { agent, task, what, fate, is_fault, state });
        }
    }
}

impl State {
    /// `kill -9`: what is on the disk and in the engine stays. A client before its gate ends with the agent; any other
    /// goes on.
    pub fn kill(&mut self, agent: usize) {
        self.faults.kills -= 1;
        let Agent { host, was_refused, .. } = self.agents[agent];
        self.agents[agent] = Agent { host, was_refused, ..Agent::default() };
        for held in &mut self.held[agent] {
            held.memory = Memory::default();
            if held.engine.client == Client::Gated {
                held.engine.client = Client::None;
            }
        }
    }

    /// `Intake::recover`: a start takes up what is on the disk.
    fn start(&mut self, agent: usize, recovers_doubt: bool) {
        self.agents[agent].alive = true;
        for held in &mut self.held[agent] {
            let is_asked = held.is_unfinished() && (recovers_doubt || held.record.phase != Some(Phase::Accepting));
            held.memory.ask = if is_asked { Ask::Again } else { Ask::No };
        }
    }

    /// `Intake::reclaim_all`: every task in the table of this agent is asked for.
    pub fn reclaim_all(&mut self, agent: usize) {
        if self.agents[agent].alive {
            for held in &mut self.held[agent] {
                if held.in_table() {
                    held.memory.ask = Ask::Again;
                }
            }
        }
    }
}

impl World {
    pub fn start(&self) -> State {
        let mut state = State { faults: self.faults, ..State::default() };
        (0..self.agents).for_each(|agent| state.start(agent, true));
        state.tasks[self.tasks..].iter_mut().for_each(|task| task.status = Status::Completed);
        state
    }

    /// How many agents and tasks are in this world.
    pub fn size(&self) -> [usize; 2] {
        [self.agents, self.tasks]
    }

    pub fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        self.steps_into(state, &mut steps);
        steps
    }

    pub fn steps_into(&self, state: &State, steps: &mut Vec<Step>) {
        let mut steps = Steps { world: self, state, steps };
        steps.add_faults();
        if let Some(call) = Call::from_late(state.late) {
            let (agent, task) = (usize::from(state.late_agent), usize::from(state.late_task));
            steps.add_event(None, "a late call arrives", false, |state| {
                state.serve(agent, task, call);
                (state.late, state.late_agent, state.late_task) = (Late::None, 0, 0);
            });
        }
        for agent in 0..self.agents {
            let recovers_doubt = !steps.is_broken(Broken::DoubtNotRecovered);
            if !state.agents[agent].alive {
                steps.add_event(Some(agent), "starts", false, |state| state.start(agent, recovers_doubt));
            }
            for task in 0..self.tasks {
                steps.add_engine(Actor { agent, task });
            }
            if state.agents[agent].alive {
                steps.add_intake(agent);
                (0..self.tasks).for_each(|task| steps.add_worker(Actor { agent, task }));
            }
        }
    }

    /// What is to be within reach, for people.
    pub fn goal_name(&self) -> &'static str {
        match self.goal {
            Goal::EveryTaskEnds => "the end of every task",
            Goal::OwnTasksAccepted => "that every agent has its own tasks",
        }
    }

    pub fn is_goal(&self, state: &State) -> bool {
        let mut held = state.held.iter().flatten();
        match self.goal {
            Goal::EveryTaskEnds => {
                state.tasks.iter().all(|task| task.status.is_final())
                    && state.agents[..self.agents].iter().all(|agent| agent.alive)
                    && held.all(|held| {
                        !held.is_unfinished()
                            && !held.memory.unseen
                            && held.engine.container == Container::Absent
                            && held.engine.client == Client::None
                            && held.engine.request == Request::None
                    })
            }
            Goal::OwnTasksAccepted => (0..self.agents).all(|agent| {
                (0..self.tasks)
                    .all(|task| state.tasks[task].status != Status::Pending || !state.held[agent][task].is_unfinished())
            }),
        }
    }
}
