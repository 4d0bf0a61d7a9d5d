//! The engine of an agent's machine, and the docker client of a task: both go on when the agent is killed.

use crate::state::{Client, Container, Engine, Host, Request};
use crate::world::{Actor, Steps};

impl Steps<'_> {
    /// The engine and the docker client, whether or not the agent lives.
    pub fn add_engine(&mut self, by: Actor) {
        let engine = self.state.held[by.agent][by.task].engine;
        let host = self.state.agents[by.agent].host;
        if engine.container == Container::Running {
            self.add(by, "the container exits", |_, held| held.engine.container = Container::Exited);
        }
        if engine.client == Client::Attached && engine.container != Container::Running {
            self.add(by, "the client ends with the container", |_, held| held.engine.client = Client::None);
        }
        if host == Host::EngineDown {
            if matches!(engine.client, Client::Creating | Client::Starting | Client::Attached) {
                self.add(by, "the client ends, since it has no engine", |_, held| held.engine.client = Client::None);
            }
            return;
        }
        match (engine.client, engine.container) {
            (Client::Creating, Container::Absent) => self.add(by, "the container is created", |_, held| {
                held.engine.container = Container::Created;
                held.record.cid = true;
                held.engine.client = Client::Starting;
            }),
            (Client::Creating, _) => {
                self.add(by, "the name is taken, and the client ends", |_, held| held.engine.client = Client::None);
            }
            (Client::Starting, Container::Created) if host == Host::NoImage => {
                self.add(by, "the engine refuses to start the container", |state, held| {
                    held.engine.container = Container::Refused;
                    held.engine.client = Client::None;
                    state.agents[by.agent].was_refused = true;
                });
            }
            (Client::Starting, Container::Created) => self.add(by, "the container starts", |_, held| {
                held.engine.run();
                held.engine.client = Client::Attached;
            }),
            (Client::Starting, _) => {
                self.add(by, "the client finds nothing to start", |_, held| held.engine.client = Client::None);
            }
            (Client::None | Client::Gated | Client::Attached, _) => {}
        }
        if engine.request != Request::None {
            self.add(by, "a killed client's call to the engine takes effect", |_, held| {
                match (held.engine.request, held.engine.container) {
                    (Request::Create, Container::Absent) => held.engine.container = Container::Created,
                    (Request::Start, Container::Created) | (Request::Run, Container::Absent) => held.engine.run(),
                    _ => {}
                }
                held.engine.request = Request::None;
            });
        }
    }
}

impl Engine {
    pub fn run(&mut self) {
        self.container = Container::Running;
        self.runs = (self.runs + 1).min(3);
    }

    /// A container that is removed can't be started by a call that comes late: that names its id.
    pub fn remove(&mut self) {
        self.container = Container::Absent;
        if self.request == Request::Start {
            self.request = Request::None;
        }
    }
}
