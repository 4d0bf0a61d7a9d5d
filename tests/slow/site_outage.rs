//! A Server outage that is long enough for the Server to requeue the tasks of two agents: afterwards each agent
//! continues its own task.
//!
//! An agent reclaims its tasks only after nearly a minute without an acknowledged heartbeat.

use crate::support::agent::{Agent, Running};
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Options, Response, Status};
use crate::support::tally;
use serde_json::json;
use std::time::{Duration, Instant};

/// After this time without an acknowledged heartbeat an agent reclaims its tasks before it accepts new ones.
const GAP: Duration = Duration::from_secs(50);

/// Two agents of one service with free slots, and the task of each.
struct Site {
    server: FakeServer,
    agents: [Agent; 2],
    running: [Running; 2],
    tasks: [String; 2],
}

impl Site {
    fn new() -> Self {
        let server = FakeServer::start_with(Options {
            heartbeat_timeout: secs(30),
            check_interval: secs(1),
            ..Options::default()
        });
        let agents = [(); 2].map(|()| tally::agent(&server).capacity(4).build());
        let first = agents[0].start();
        let ones = server.submit(tally::waiting_task("echo one > output/result"));
        tally::wait_begun(&agents[0], &ones);
        // An agent with three free slots has a task; it gets no other.
        let none = json!({"has_task": false, "should_cancel": false});
        let busy = Match::path("poll").when(|poll| poll.body["available_capacity"] == 3);
        let kept = server.fault(busy, Fault::Answer(Response::json(200, &none)));
        let second = agents[1].start();
        let twos = server.submit(tally::waiting_task("echo two > output/result"));
        tally::wait_begun(&agents[1], &twos);
        server.remove_fault(kept);
        Self { server, agents, running: [first, second], tasks: [ones, twos] }
    }

    /// Waits until the Server has requeued both tasks, and both agents have had no answer for [`GAP`].
    fn wait_until_given_up(&self) {
        let is_lost = |server: &Control| {
            let last = server.heartbeats().last().expect("heartbeats").at;
            let pending = self.tasks.iter().all(|id| server.task(id).status == Status::Pending);
            pending && last.elapsed() > GAP + secs(2)
        };
        self.server.wait_until("the tasks to be requeued", secs(90), is_lost);
    }

    fn expect_each_goes_on_with_its_own(&self) {
        let back = Instant::now();
        self.server.resume();
        self.server.wait_until("the tasks to be accepted again", secs(20), |server| {
            self.tasks.iter().all(|id| server.task(id).status == Status::Running)
        });
        println!("both were accepted again {:.1?} after the Server was back", back.elapsed());
        // Each agent reclaims its own task, although it could accept the other one.
        for (agent, id) in self.agents.iter().zip(&self.tasks) {
            tally::release(agent, id);
        }
        for (number, (agent, id)) in self.agents.iter().zip(&self.tasks).enumerate() {
            let task = tally::wait_done_once(&self.server, agent, id);
            assert_eq!((task.accepted_count, task.retry_count), (2, 1));
            let other = &self.agents[1 - number];
            assert_eq!(tally::times_begun(other, id), 0, "the task ran on the other agent, too");
            assert!(!other.data_dir().join("tasks").join(id).exists(), "the other agent accepted the task");
            let word = if number == 0 { "one\n" } else { "two\n" };
            assert_eq!(self.server.output(id, "output/result").text(), word);
        }
        // Both agents accept new tasks again.
        let next = self.server.submit(tally::waiting_task(""));
        for agent in &self.agents {
            tally::release(agent, &next);
        }
        self.server.wait_for(&next, Status::Completed, secs(40));
    }
}

#[test]
fn agents_reclaim_their_own_tasks_after_an_outage() {
    let site = Site::new();
    site.server.stop_listening();
    site.wait_until_given_up();
    site.expect_each_goes_on_with_its_own();
}

#[test]
fn killed_agents_reclaim_their_own_tasks_after_an_outage() {
    let mut site = Site::new();
    site.server.stop_listening();
    for running in &mut site.running {
        running.kill9();
    }
    site.wait_until_given_up();
    for (agent, running) in site.agents.iter().zip(&mut site.running) {
        *running = agent.start();
    }
    for running in &mut site.running {
        running.wait_log("following the running container", secs(20));
    }
    site.expect_each_goes_on_with_its_own();
}
