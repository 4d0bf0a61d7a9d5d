//! What the model remembers: the Server, two agents with an engine each, the faults that are left, and, for the properties
//! only, some facts about what has happened.

use std::fmt::Debug;

use crate::packed::{Codec, Field, Packed, field};
use crate::phase::Phase;
use crate::report_state::ReportState;
use crate::stop_reason::StopReason;

/// How many agents and tasks there are at most.
pub const AGENTS: usize = 2;
pub const TASKS: usize = 2;

impl Field for Option<Phase> {
    const BITS: usize = 3;

    fn encode(self) -> u8 {
        // A new phase doesn't compile here: it needs a number, and its step in `worker.rs`.
        match self {
            None => 0,
            Some(Phase::Accepting) => 1,
            Some(Phase::Accepted) => 2,
            Some(Phase::Prepared) => 3,
            Some(Phase::Exited) => 4,
            Some(Phase::Uploaded) => 5,
            Some(Phase::Settled) => 6,
        }
    }

    fn decode(code: u8) -> Self {
        use Phase::{Accepted, Accepting, Exited, Prepared, Settled, Uploaded};
        [None, Some(Accepting), Some(Accepted), Some(Prepared), Some(Exited), Some(Uploaded), Some(Settled)]
            [usize::from(code)]
    }
}

impl Field for ReportState {
    const BITS: usize = 2;

    fn encode(self) -> u8 {
        match self {
            Self::NotSent => 0,
            Self::Sending => 1,
            Self::MaybeArrived => 2,
        }
    }

    fn decode(code: u8) -> Self {
        [Self::NotSent, Self::Sending, Self::MaybeArrived][usize::from(code)]
    }
}

/// Of the reasons to stop a task only the Server's is modelled: the others come from this machine, and end the task as its
/// own failure would.
impl Field for Option<StopReason> {
    const BITS: usize = 1;

    fn encode(self) -> u8 {
        match self {
            None => 0,
            Some(StopReason::Cancel) => 1,
            Some(StopReason::Timeout { .. } | StopReason::Idle { .. } | StopReason::Operator) => {
                unreachable!("not modelled")
            }
        }
    }

    fn decode(code: u8) -> Self {
        (code == 1).then_some(StopReason::Cancel)
    }
}

field! {
    /// A task's state on the Server.
    pub enum Status { #[default] Pending, Running, Cancelling, Completed, Failed, Cancelled, }
}

impl Status {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

field! {
    /// How a container ended for its task.
    pub enum Ending { #[default] None, Completed, Failed, Cancelled, }
}

field! {
    /// What `uploads.jsonl` says of the task's only result.
    pub enum Sent { #[default] No, Begun, Done, }
}

field! {
    /// The `accept` that the intake thread still has to make.
    pub enum Ask {
        #[default] No,
        /// The first one, right after the record was written.
        First,
        /// One of the queue of reclaims.
        Again,
    }
}

field! {
    /// Where the worker is in `Report::send`.
    pub enum Reporting {
        #[default] Open,
        /// The report was refused, and `Report::has_ended` is to be called.
        Ask,
        /// The task seems to have ended, and the report is sent once more.
        Last,
    }
}

field! {
    /// Where the worker is in `ContainerRun::run`.
    pub enum Run {
        /// A client of an earlier run of the agent may live.
        #[default] Fresh,
        Looking,
        /// The record says `replacing`, and `docker rm` comes next.
        Replacing,
        /// The client waits before its gate.
        Gated,
        /// The client, or one that follows the logs, is watched.
        Watching,
    }
}

field! {
    /// What the engine has under the task's name.
    pub enum Container {
        #[default] Absent,
        Created,
        /// It was created, and the engine refused to start it.
        Refused,
        Running,
        Exited,
    }
}

field! {
    /// What the docker client does.
    pub enum Client {
        #[default] None,
        /// It waits before the gate, and ends if the agent does.
        Gated,
        Creating,
        Starting,
        Attached,
    }
}

field! {
    /// A call that a killed client has left with the engine, which may answer it late.
    pub enum Request {
        #[default] None,
        Create,
        Start,
        /// Both calls of a client that lives although another one was started.
        Run,
    }
}

field! {
    /// What is wrong with an agent's machine.
    pub enum Host {
        #[default] Fine,
        EngineDown,
        /// The engine answers, and can't start a container: the image or a mount is missing.
        NoImage,
    }
}

field! {
    /// A call that is under way for long, or a copy of one that has arrived already.
    pub enum Late { #[default] None, Accept, Upload, Completed, Failed, Cancelled, }
}

/// What an agent's disk has of a task; it survives a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    pub phase: Option<Phase>,
    pub report: ReportState,
    pub stop: Option<StopReason>,
    /// Whether the record names a docker client.
    pub client: bool,
    pub replacing: bool,
    pub removed: bool,
    pub ending: Ending,
    pub sent: Sent,
    /// Whether the file of the container's id exists.
    pub cid: bool,
}

/// What an agent's process knows of a task; a kill ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    pub ask: Ask,
    /// The task is settled, and the table still has it.
    pub unseen: bool,
    /// The table has received its cancellation.
    pub cancelled: bool,
    /// For `Broken::OfferEndsDoubt`: a poll has offered the task after its `accept` was lost.
    pub disproved: bool,
    pub reporting: Reporting,
    pub run: Run,
}

/// What an engine has of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Engine {
    pub container: Container,
    pub client: Client,
    pub request: Request,
    /// How often a container of the task has started here.
    pub runs: u8,
}

/// One agent's side of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    pub record: Record,
    pub memory: Memory,
    pub engine: Engine,
}

impl Held {
    /// Whether the task is in the agent's `TaskTable`.
    pub fn in_table(&self) -> bool {
        self.memory.unseen
            || self.record.phase.is_some_and(|phase| phase < Phase::Settled) && self.memory.ask != Ask::First
    }

    pub fn is_unfinished(&self) -> bool {
        self.record.phase.is_some_and(|phase| phase < Phase::Settled)
    }
}

/// An agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agent {
    pub alive: bool,
    pub host: Host,
    /// `Admission::check`, as far as the health of the host decides it.
    pub admits: bool,
    /// Whether the health thread checks the image, too.
    pub checks_image: bool,
    /// For P8: whether the engine has ever refused a start, and how many tasks that has failed in this run of the agent.
    pub was_refused: bool,
    pub burned: u8,
}

/// A task on the Server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Task {
    pub status: Status,
    pub retries: u8,
    /// The files on the Server, by the agent that sent them.
    pub files: [u8; AGENTS],
    /// For the properties: the agent whose `accept` took effect last, and the one whose report did; the first is 1.
    pub owner: u8,
    pub reporter: u8,
    /// For P1: an agent took 400 for its own earlier `accept`, and the task wasn't its own, or no more.
    pub was_doubted: bool,
    /// For P1: an agent accepted the task although its twin had a record of it, since the Server had requeued it.
    pub was_taken_over: bool,
}

/// How many faults of each kind can still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Calls that don't arrive, or whose answers don't.
    pub losses: u8,
    pub kills: u8,
    /// Calls that arrive late or twice.
    pub lates: u8,
    /// Times that the Server hears no heartbeat for a minute.
    pub silences: u8,
    /// Cancellations by the submitter.
    pub cancels: u8,
    /// Troubles with an engine.
    pub troubles: u8,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    pub agents: [Agent; AGENTS],
    pub held: [[Held; TASKS]; AGENTS],
    pub tasks: [Task; TASKS],
    pub late: Late,
    pub late_agent: u8,
    pub late_task: u8,
    pub faults: Faults,
}

impl State {
    /// Packs the state of a world with so many agents and tasks.
    pub fn pack(&self, size: [usize; 2]) -> Packed {
        let mut codec = Codec::writer();
        let mut copy = *self;
        copy.pass(size, &mut codec);
        codec.packed()
    }

    pub fn unpack(packed: Packed, size: [usize; 2]) -> Self {
        let mut state = Self::default();
        state.pass(size, &mut Codec::reader(packed));
        state
    }

    /// Passes every field, in the order in which they are packed. What no agent of the world has is left out.
    fn pass(&mut self, [agents, tasks]: [usize; 2], codec: &mut Codec) {
        for Agent { alive, host, admits, checks_image, was_refused, burned } in &mut self.agents[..agents] {
            [alive, admits, checks_image, was_refused].into_iter().for_each(|flag| codec.field(flag));
            codec.field(host);
            codec.field(burned);
        }
        for Held { record, memory, engine } in self.held[..agents].iter_mut().flat_map(|held| &mut held[..tasks]) {
            let Record { phase, report, stop, client, replacing, removed, ending, sent, cid } = record;
            [client, replacing, removed, cid].into_iter().for_each(|flag| codec.field(flag));
            codec.field(phase);
            codec.field(report);
            codec.field(stop);
            codec.field(ending);
            codec.field(sent);
            let Memory { ask, unseen, cancelled, disproved, reporting, run } = memory;
            [unseen, cancelled, disproved].into_iter().for_each(|flag| codec.field(flag));
            codec.field(ask);
            codec.field(reporting);
            codec.field(run);
            let Engine { container, client, request, runs } = engine;
            codec.field(container);
            codec.field(client);
            codec.field(request);
            codec.field(runs);
        }
        for Task { status, retries, files, owner, reporter, was_doubted, was_taken_over } in &mut self.tasks {
            codec.field(status);
            files.iter_mut().for_each(|count| codec.field(count));
            [retries, owner, reporter].into_iter().for_each(|number| codec.field(number));
            [was_doubted, was_taken_over].into_iter().for_each(|flag| codec.field(flag));
        }
        codec.field(&mut self.late);
        let Faults { losses, kills, lates, silences, cancels, troubles } = &mut self.faults;
        let numbers = [&mut self.late_agent, &mut self.late_task, losses, kills, lates, silences, cancels, troubles];
        numbers.into_iter().for_each(|number| codec.field(number));
    }

    /// What is different from an earlier state, for people.
    pub fn changes(&self, before: &Self) -> String {
        let [now, then] = [self, before].map(State::parts);
        let changed = now.iter().zip(&then).filter(|(now, then)| now.1 != then.1);
        let lines = changed.map(|((name, now), (_, then))| {
            let parts = now.split(", ").zip(then.split(", ")).filter(|(now, then)| now != then);
            let parts: Vec<&str> = parts.map(|(now, _)| now.trim_matches(['{', '}', ' '])).collect();
            format!("        {name}: {}", parts.join(", "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn parts(&self) -> Vec<(String, String)> {
        fn part(name: String, value: &dyn Debug) -> (String, String) {
            (name, format!("{value:?}"))
        }
        let mut parts = Vec::new();
        for (agent, name) in NAMES.into_iter().enumerate() {
            parts.push(part(format!("agent {name}"), &self.agents[agent]));
            for task in 0..TASKS {
                let Held { record, memory, engine } = &self.held[agent][task];
                parts.push(part(format!("agent {name}, task {task}, on disk"), record));
                parts.push(part(format!("agent {name}, task {task}, in memory"), memory));
                parts.push(part(format!("agent {name}, task {task}, in the engine"), engine));
            }
        }
        parts.extend((0..TASKS).map(|task| part(format!("Server, task {task}"), &self.tasks[task])));
        parts.push(part("under way".to_owned(), &self.late));
        parts
    }
}

/// The agents' names.
pub const NAMES: [char; AGENTS] = ['A', 'B'];
