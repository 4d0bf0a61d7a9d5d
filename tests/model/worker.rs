//! The worker of a task: `TaskRunner::run`, phase by phase. A step ends at a write to the disk, a call to the Server, or a
//! call to the engine.

use crate::phase::Phase;
use crate::report_state::ReportState;
use crate::server::Call;
use crate::state::{Ask, Client, Container, Ending, Held, Host, Reporting, Request, Run, Sent, State};
use crate::stop_reason::StopReason;
use crate::world::{Actor, Broken, Seen, Steps};

impl Steps<'_> {
    pub fn add_worker(&mut self, by: Actor) {
        let held = self.state.held[by.agent][by.task];
        let Some(phase) = held.record.phase else { return };
        // `TaskHandle::note_stop`: the worker reads its commands at every step.
        let has_work = phase > Phase::Accepting && phase < Phase::Settled;
        if has_work && held.memory.cancelled && held.record.stop.is_none() {
            self.add(by, "it notes the cancellation", |_, held| held.record.stop = Some(StopReason::Cancel));
        }
        match phase {
            // No worker has it.
            Phase::Accepting | Phase::Settled => {}
            Phase::Accepted if held.record.stop.is_some() => {
                self.add(by, "it ends before its container", |_, held| held.end(Ending::Cancelled));
            }
            // `prepare`: a download that fails is made again, and changes nothing.
            Phase::Accepted => self.add(by, "its workspace is complete", |_, held| {
                held.record.phase = Some(Phase::Prepared);
                held.memory.run = Run::Looking;
            }),
            Phase::Prepared if self.world.is_fine => self.add_container(by, &held),
            Phase::Prepared => self.add_coarse_container(by, &held),
            Phase::Exited => self.add_delivery(by, &held),
            Phase::Uploaded => self.add_report(by, &held),
        }
    }

    /// `ContainerRun::run`.
    fn add_container(&mut self, by: Actor, held: &Held) {
        let is_up = self.state.agents[by.agent].host != Host::EngineDown;
        match held.memory.run {
            // `ContainerRun::kill_old_client`.
            Run::Fresh => self.add_kill_of_client(by, held, held.record.client),
            Run::Looking => self.add_look(by, held, is_up),
            Run::Replacing if is_up => self.add(by, "docker rm", |_, held| {
                held.memory.run = Run::Looking;
                if held.engine.container == Container::Created {
                    held.engine.remove();
                    held.record.cid = false;
                    held.record.replacing = false;
                }
            }),
            // `launch::start`, after the record was written.
            Run::Gated => {
                let is_late = self.is_broken(Broken::ClientUnrecorded);
                self.add(by, "the client's gate is opened", |_, held| {
                    held.memory.run = Run::Watching;
                    if is_late {
                        held.record.client = true;
                    } else {
                        held.engine.client = Client::Creating;
                    }
                });
            }
            // `Watch::run`.
            Run::Watching if held.engine.client == Client::None => {
                self.add(by, "its client has ended", |_, held| held.memory.run = Run::Looking);
            }
            Run::Watching if held.record.stop.is_some() && is_up => {
                if held.engine.container == Container::Running {
                    self.add(by, "docker stop", |_, held| held.engine.container = Container::Exited);
                } else {
                    self.add_kill_of_client(by, held, true);
                }
            }
            Run::Replacing | Run::Watching => {}
        }
    }

    /// A client is killed. What it asked the engine for may take effect later.
    fn add_kill_of_client(&mut self, by: Actor, held: &Held, is_known: bool) {
        let request = match held.engine.client {
            Client::Creating => Request::Create,
            Client::Starting => Request::Start,
            Client::None | Client::Gated | Client::Attached => Request::None,
        };
        let kill = |held: &mut Held, left: Request| {
            held.memory.run = Run::Looking;
            if is_known {
                held.engine.client = Client::None;
                held.engine.request = left;
            }
        };
        self.add(by, "it kills an old client, and looks", |_, held| kill(held, Request::None));
        if is_known && request != Request::None {
            self.add_fault(by, "it kills a client whose call is under way", |_, held| kill(held, request));
        }
    }

    /// `ContainerRun::step`: what the engine has under the task's name.
    fn add_look(&mut self, by: Actor, held: &Held, is_up: bool) {
        let record = held.record;
        if !is_up {
            // To stop what was never started takes no engine.
            if record.stop.is_some() && !record.client && !record.cid {
                self.add(by, "it is stopped before a start", |_, held| held.end(Ending::Cancelled));
            } else if self.is_broken(Broken::EngineDownFails) {
                self.add(by, "it fails for want of an engine", |_, held| held.end(Ending::Failed));
            }
            return;
        }
        match held.engine.container {
            Container::Absent if record.stop.is_some() => {
                self.add(by, "it is stopped, and has no container", |_, held| held.end(Ending::Cancelled));
            }
            Container::Absent if record.cid && !record.replacing => {
                self.add(by, "its container was removed by another program", |_, held| held.end(Ending::Failed));
            }
            // `ContainerRun::launch`: the file of the id is removed, the record names the client.
            Container::Absent => {
                let is_unrecorded = self.is_broken(Broken::ClientUnrecorded);
                self.add(by, "a client is started, behind its gate", |_, held| {
                    held.record.cid = false;
                    held.record.replacing = false;
                    held.record.client = !is_unrecorded;
                    if held.engine.client != Client::None {
                        held.engine.request = Request::Run;
                    }
                    held.engine.client = if is_unrecorded { Client::Creating } else { Client::Gated };
                    held.memory.run = Run::Gated;
                });
            }
            // `ContainerRun::replace`.
            Container::Created => self.add(by, "its container is to be replaced", |_, held| {
                held.record.replacing = true;
                held.memory.run = Run::Replacing;
            }),
            Container::Refused => {
                let gates = !self.is_broken(Broken::NoGate);
                self.add(by, "its container can't be started", |state, held| fail_start(state, held, by, gates));
            }
            // `ContainerRun::follow`.
            Container::Running => self.add(by, "it follows the container", |_, held| {
                held.record.replacing = false;
                held.record.client = true;
                held.engine.client = Client::Attached;
                held.memory.run = Run::Watching;
            }),
            Container::Exited if self.is_broken(Broken::RemovedUnrecorded) => {
                self.add(by, "its container is removed", |_, held| held.engine.remove());
            }
            // `outcome::record`.
            Container::Exited => self.add(by, "its container's end is noted", |_, held| held.end_by_exit()),
        }
    }

    /// The same in few steps, without the docker client.
    fn add_coarse_container(&mut self, by: Actor, held: &Held) {
        let host = self.state.agents[by.agent].host;
        match held.engine.container {
            _ if host == Host::EngineDown => {}
            Container::Absent if held.record.stop.is_some() => {
                self.add(by, "it is stopped, and has no container", |_, held| held.end(Ending::Cancelled));
            }
            Container::Absent if host == Host::NoImage => {
                let gates = !self.is_broken(Broken::NoGate);
                self.add(by, "its container can't be started", |state, held| {
                    state.agents[by.agent].was_refused = true;
                    fail_start(state, held, by, gates);
                });
            }
            Container::Absent => self.add(by, "docker run", |_, held| held.engine.run()),
            Container::Running if held.record.stop.is_some() => {
                self.add(by, "docker stop", |_, held| held.engine.container = Container::Exited);
            }
            Container::Running => {}
            Container::Created | Container::Refused | Container::Exited => {
                self.add(by, "its container's end is noted", |_, held| held.end_by_exit());
            }
        }
    }

    /// `TaskRunner::upload`.
    fn add_delivery(&mut self, by: Actor, held: &Held) {
        let is_cancelled = held.record.ending == Ending::Cancelled || held.record.stop.is_some();
        let has_file = held.record.ending == Ending::Completed;
        if !held.record.removed {
            // An engine that doesn't answer leaves the container to `remove_leftover_containers`.
            let is_up = self.state.agents[by.agent].host != Host::EngineDown;
            return self.add(by, "its container is removed", |_, held| {
                held.record.removed = true;
                // Without `-f`: one that runs after all is left, too.
                if is_up && held.engine.container != Container::Running {
                    held.engine.remove();
                }
            });
        }
        let is_skipped = self.is_broken(Broken::UploadSkipped) || !self.world.is_fine;
        if is_cancelled || !has_file || held.record.sent == Sent::Done || is_skipped {
            self.add(by, "its results are sent", |_, held| {
                if held.record.stop.is_some() {
                    held.record.ending = Ending::Cancelled;
                }
                held.record.phase = Some(Phase::Uploaded);
            });
            return;
        }
        // `Upload::has_arrived`: the list has the file.
        let is_listed = self.state.tasks[by.task].files[by.agent] > 0 && !self.is_broken(Broken::UploadRepeated);
        if held.record.sent == Sent::Begun && is_listed {
            return self.add(by, "its result is in the Server's list", |_, held| held.record.sent = Sent::Done);
        }
        // `Upload::attempt`.
        let begin = |held: &mut Held| held.record.sent = Sent::Begun;
        self.call(by, ("upload", Call::Upload), begin, |_, held, seen| {
            if seen == Seen::Taken {
                held.record.sent = Sent::Done;
            }
        });
    }

    /// `Report::open` and `Report::send`.
    fn add_report(&mut self, by: Actor, held: &Held) {
        let broken = self.world.broken;
        let was_maybe = held.record.report != ReportState::NotSent;
        match held.memory.reporting {
            Reporting::Open if held.record.report == ReportState::Sending => {
                self.add(by, "the ledger has its interrupted report", |_, held| held.record.report.note_logged());
            }
            // `Report::send_once`.
            Reporting::Open | Reporting::Last => {
                let send = |held: &mut Held| held.record.report = ReportState::Sending;
                self.call(by, ("report", Call::Complete(held.record.ending)), send, |_, held, seen| {
                    let maybe = was_maybe || seen == Seen::Nothing;
                    held.record.report = if maybe { ReportState::MaybeArrived } else { ReportState::NotSent };
                    let last = held.memory.reporting == Reporting::Last;
                    held.memory.reporting = Reporting::Open;
                    match seen {
                        Seen::Taken => held.settle(),
                        Seen::Nothing if broken == Some(Broken::ReportNotRepeated) => held.settle(),
                        Seen::Refused if last || broken == Some(Broken::RequeueIgnored) => held.settle(),
                        Seen::Refused => held.memory.reporting = Reporting::Ask,
                        Seen::NotSent | Seen::Nothing => {}
                    }
                });
            }
            // `Report::has_ended`.
            Reporting::Ask => {
                self.call(
                    by,
                    ("accept, since its report was refused", Call::Accept),
                    |_| {},
                    |state, held, seen| {
                        held.memory.reporting = Reporting::Open;
                        match seen {
                            // `WorkerEvent::Requeued`; this task itself is in the table, too.
                            Seen::Taken => {
                                state.reclaim_all(by.agent);
                                held.memory.ask = Ask::Again;
                            }
                            Seen::Refused if broken == Some(Broken::NoLastReport) => held.settle(),
                            Seen::Refused => held.memory.reporting = Reporting::Last,
                            Seen::NotSent | Seen::Nothing => {}
                        }
                    },
                );
            }
        }
    }
}

/// `ContainerRun::not_started`, and `Admission::note_failed_start`.
fn fail_start(state: &mut State, held: &mut Held, by: Actor, gates: bool) {
    held.end(Ending::Failed);
    let agent = &mut state.agents[by.agent];
    agent.burned = (agent.burned + 1).min(3);
    if gates {
        agent.admits = false;
        agent.checks_image = true;
    }
}

impl Held {
    /// `outcome::record`.
    fn end(&mut self, ending: Ending) {
        self.record.ending = ending;
        self.record.client = false;
        self.record.phase = Some(Phase::Exited);
        self.memory.run = Run::Fresh;
    }

    fn end_by_exit(&mut self) {
        self.end(if self.record.stop.is_some() { Ending::Cancelled } else { Ending::Completed });
    }

    /// `Report::settle`.
    fn settle(&mut self) {
        self.record.report.note_logged();
        self.record.phase = Some(Phase::Settled);
        self.memory.unseen = true;
    }
}
