//! P1, P2 and P8, by a model: a world of agents, their engines, the Server and the network, of which every reachable state is
//! looked at.
//!
//! # What is modelled
//!
//! - **The Server** (`server.rs`): the states of a task, `accept`, `upload` and `complete`, requeues and their number,
//!   cancellations, and what a poll answers, all as the manual's page `protocol` says.
//! - **Two agents** with one service key, each with a machine of its own. Of each agent, the intake thread (`intake.rs`: polls,
//!   the first `accept`, reclaims, cancellations, the gate for new tasks) and a worker for each task (`worker.rs`, phase by
//!   phase). A step ends at each write to the disk and at each call; steps of all threads, agents and engines mix in every
//!   order. A comment at each step names the function that it stands for.
//! - **An engine for each agent** (`engine.rs`): a container is created, started and exits; so does its docker client, which
//!   outlives the agent, and whose call may take effect after it was killed.
//! - **Faults** (`faults.rs`, and `Steps::call` for calls), each with a budget: a call isn't sent, is lost, its answer is lost, it arrives late or twice; an agent is killed
//!   between any two steps, before or after a call's effect, and started again; the Server hears no heartbeat for a minute; the
//!   submitter cancels a task at any moment; an engine stops, or can't start a container. Which budgets are tried together
//!   is in `sound.rs`.
//!
//! The phases, the states of a report and the reasons for a stop are the program's own files, and what the answer to an
//! `accept` means is decided by the program's own function. So a new phase doesn't compile here before it is modelled, and a
//! test compares the fields of the record.
//!
//! # What is checked
//!
//! In every state, the rules of `properties.rs`: a container starts once on an engine; no result is lost or delivered twice;
//! no task fails for its machine's trouble, but one after the engine has refused a start; twins run a task twice for two known
//! reasons only. And from every state, steps without further faults lead to the end of every task, with no container left.
//!
//! `broken.rs` shows that the checks can fail: each of its tests breaks one rule of the program and expects the
//! counterexample. The last two of it expect those of agent-core as it is, which the page `promises` tells of.
//!
//! # What isn't modelled
//!
//! - Times. Every pause may be over at once, or last. So the minute after which a cancellation of an unknown task is reported
//!   may be over at once, and only a world with `is_prompt` knows the 15 s in which new tasks are left to twins.
//! - Calls that overlap: a call takes effect in one step, or as a late one.
//! - The operator (`discard`, `stop`), the limits of time, of the disk and of the request budget, the ledger, several input and
//!   output files and those of a failed task, a container that another program removes or whose name is taken, an engine
//!   that loses its containers, and the end of `paths.retention_hours`.
//! - More than two agents and two tasks, and more faults at a time than the budgets say. Where two agents or two tasks are in
//!   a world, a container is started, ended and removed in one step each.
//!
//! The explorer (`explore.rs`) is our own: stateright, the nearest crate, looks for `eventually` on paths without a cycle
//! only, and so can't tell that the end is within reach from every state.

mod broken;
#[path = "../../src/agent/intake/claim.rs"]
mod claim;
mod engine;
mod explore;
mod faults;
mod intake;
mod packed;
#[path = "../../src/task/record/phase.rs"]
#[allow(dead_code)]
mod phase;
mod properties;
mod record;
#[path = "../../src/task/record/report_state.rs"]
mod report_state;
mod server;
mod sound;
mod state;
#[path = "../../src/task/record/stop_reason.rs"]
mod stop_reason;
mod worker;
mod world;
