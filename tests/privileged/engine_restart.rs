//! The engine is stopped, killed and started again while containers run. Containers that survive are followed to their
//! end, containers that the engine ended fail with a message, and no task runs twice.

use crate::own_engine::{OwnEngine, Socket, WithoutEngine};
use crate::support::agent::{Agent, Running};
use crate::support::docker::{container_name, wait_until};
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Moment, Status, Task, TaskSpec};
use crate::support::tally;
use std::time::Instant;

const WENT_AWAY: &str = "the Docker engine went away while the container ran, which ended it with status";
/// The first line of a wait. Later lines contain its duration.
const WAITING: &str = "waiting for the engine: ";
const FOLLOWING: &str = "following the running container";
const CLOSED: &str = "no new task is accepted";
const OPEN: &str = "tasks are accepted";

/// An agent with its own engine. The fields are dropped in this order.
struct Scene {
    running: Running,
    agent: Agent,
    server: FakeServer,
    engine: OwnEngine,
}

impl Scene {
    fn start(without: WithoutEngine, socket: Socket) -> Self {
        let engine = OwnEngine::start(without, socket);
        let server = FakeServer::start();
        let agent = tally::agent(&server).env("DOCKER_HOST", engine.host()).build();
        let running = agent.start();
        Self { running, agent, server, engine }
    }

    /// Submits a task and waits until its container waits to be released.
    fn begin(&self, task: TaskSpec) -> String {
        let id = self.server.submit(task);
        tally::wait_begun(&self.agent, &id);
        self.engine.wait_running(&id);
        id
    }

    /// Runs another task.
    fn expect_another_done(&self) {
        let id = self.server.submit(tally::waiting_task(""));
        tally::release(&self.agent, &id);
        tally::wait_done_once(&self.server, &self.agent, &id);
    }

    fn expect_run_once(&self, task: &Task) {
        assert_eq!(tally::times_begun(&self.agent, &task.id), 1, "how often it has run");
        assert_eq!((task.accepted_count, task.completed_count), (1, 1));
        self.engine.assert_no_containers();
    }

    /// Waits until tasks are accepted again; the first time was at the start.
    fn wait_open_again(&self) {
        wait_until("tasks to be accepted again", secs(30), || self.times_logged(OPEN) == 2);
    }

    fn times_logged(&self, text: &str) -> usize {
        self.running.log().matches(text).count()
    }
}

/// The number of acknowledged heartbeats after `since` with status `busy`.
fn busy_heartbeats(server: &Control, since: Instant) -> usize {
    let heartbeats = server.heartbeats();
    heartbeats.iter().filter(|beat| beat.at > since && beat.body["status"] == "busy").count()
}

fn polls(server: &Control, since: Instant) -> usize {
    server.requests_to("poll").iter().filter(|poll| poll.at > since).count()
}

/// A task that prints a line while the engine is down.
fn task_that_goes_on_speaking() -> TaskSpec {
    TaskSpec::script(
        r#"
trap 'echo signalled; exit 99' TERM INT
echo "$TASK_ID" >> /tally/begun
echo begun
while [ ! -e /tally/speak ]; do sleep 0.05; done
echo 'while the engine is away'
touch /tally/spoken
while [ ! -e "/tally/release-$TASK_ID" ]; do sleep 0.05; done
echo released
echo result > output/result.txt
"#,
    )
}

/// Ends the engine under a container that continues without it, until the Server has received this number of `busy`
/// heartbeats.
fn follow_again(socket: Socket, end: fn(&mut OwnEngine), heartbeats: usize) {
    let mut scene = Scene::start(WithoutEngine::GoOn, socket);
    let id = scene.begin(task_that_goes_on_speaking());
    let gone = Instant::now();
    end(&mut scene.engine);
    scene.agent.write("tally/speak", "");
    let spoken = scene.agent.path("tally/spoken");
    wait_until("the container to go on without the engine", secs(20), || spoken.exists());
    scene.server.wait_until("busy heartbeats", secs(60), |server| busy_heartbeats(server, gone) >= heartbeats);
    assert_eq!(scene.server.task(&id).status, Status::Running, "the task hasn't failed");

    scene.engine.start_again();
    scene.running.wait_log(FOLLOWING, secs(40));
    scene.wait_open_again();
    tally::release(&scene.agent, &id);
    let task = scene.server.wait_for(&id, Status::Completed, secs(30));
    assert_eq!(task.stdout(), "begun\nwhile the engine is away\nreleased\n");
    assert_eq!(scene.server.output(&id, "output/result.txt").text(), "result\n");
    scene.expect_run_once(&task);
    assert!(scene.server.longest_heartbeat_gap() < secs(30), "{:?}", scene.server.longest_heartbeat_gap());
    let said = [WAITING, FOLLOWING, CLOSED, OPEN].map(|text| scene.times_logged(text));
    // Calls to a held socket wait, possibly until the engine runs again.
    let waiting = if socket == Socket::Held { said[0].min(1) } else { 1 };
    assert_eq!(said, [waiting, 1, 1, 2], "each line is logged once, the last one also at the start");
}

#[test]
fn live_restore_container_is_followed_after_an_engine_stop() {
    follow_again(Socket::Engines, OwnEngine::stop, 2);
}

#[test]
fn live_restore_container_is_followed_after_an_engine_kill() {
    follow_again(Socket::Engines, OwnEngine::kill, 1);
}

#[test]
fn live_restore_container_is_followed_with_a_held_socket() {
    follow_again(Socket::Held, OwnEngine::stop, 1);
}

#[test]
fn live_restore_container_completes_while_the_engine_is_down() {
    let mut scene = Scene::start(WithoutEngine::GoOn, Socket::Engines);
    let id = scene.begin(tally::waiting_task("echo result > output/result.txt"));
    scene.engine.stop();
    tally::release(&scene.agent, &id);
    wait_until("the container to end without the engine", secs(20), || !scene.engine.has_container_processes());
    scene.engine.start_again();
    let task = scene.server.wait_for(&id, Status::Completed, secs(30));
    // The output without the engine is lost; the files are not.
    assert!(task.stdout().starts_with("begun\n"), "{:?}", task.stdout());
    assert_eq!(scene.server.output(&id, "output/result.txt").text(), "result\n");
    scene.expect_run_once(&task);
}

/// A task that writes one result and waits for ever, with this handler for SIGTERM.
fn endless_task(on_term: &str) -> TaskSpec {
    TaskSpec::script(format!(
        r#"
trap '{on_term}' TERM
echo half > output/half.txt
echo "$TASK_ID" >> /tally/begun
echo begun
while true; do sleep 0.05; done
"#
    ))
}

/// Ends the engine together with a running container, and expects that the task fails with that reason.
fn fail_with_the_engine(socket: Socket, end: fn(&mut OwnEngine), on_term: &str, code: i32) {
    let mut scene = Scene::start(WithoutEngine::End, socket);
    let id = scene.begin(endless_task(on_term));
    end(&mut scene.engine);
    scene.engine.start_again();
    let task = scene.server.wait_for(&id, Status::Failed, secs(60));
    let message = task.error_message.clone().unwrap_or_default();
    assert!(message.starts_with(&format!("{WENT_AWAY} {code}\n")), "{message}");
    assert_eq!(task.output["exit_code"], code);
    assert_eq!(scene.server.output(&id, "output/half.txt").text(), "half\n");
    scene.expect_run_once(&task);
    scene.expect_another_done();
}

#[test]
fn a_kill_at_an_engine_stop_fails_the_task() {
    fail_with_the_engine(Socket::Engines, OwnEngine::stop, "", 137);
}

#[test]
fn a_failing_exit_at_an_engine_stop_fails_the_task() {
    fail_with_the_engine(Socket::Engines, OwnEngine::stop, "exit 99", 99);
}

#[test]
fn exit_status_0_at_an_engine_stop_fails_the_task() {
    fail_with_the_engine(Socket::Engines, OwnEngine::stop, "exit 0", 0);
}

#[test]
fn exit_status_0_at_an_engine_stop_fails_with_a_held_socket() {
    fail_with_the_engine(Socket::Held, OwnEngine::stop, "exit 0", 0);
}

#[test]
fn a_failing_exit_at_an_engine_restart_fails_the_task() {
    fail_with_the_engine(Socket::Engines, OwnEngine::kill, "exit 99", 99);
}

#[test]
fn exit_status_0_at_an_engine_restart_fails_the_task() {
    fail_with_the_engine(Socket::Engines, OwnEngine::kill, "exit 0", 0);
}

#[test]
fn exit_status_0_at_an_engine_restart_fails_with_a_held_socket() {
    fail_with_the_engine(Socket::Held, OwnEngine::kill, "exit 0", 0);
}

#[test]
fn a_crash_of_engine_and_container_fails_the_task() {
    fail_with_the_engine(Socket::Engines, OwnEngine::crash_with_containers, "", 255);
}

#[test]
fn a_container_whose_start_the_engine_lost_is_not_run_again() {
    let mut scene = Scene::start(WithoutEngine::End, Socket::Engines);
    let id = scene.server.submit(endless_task(""));
    // The container's first output usually comes before the engine has recorded the start.
    tally::wait_begun(&scene.agent, &id);
    scene.engine.kill();
    scene.engine.start_again();
    let task = scene.server.wait_for(&id, Status::Failed, secs(60));
    let message = task.error_message.clone().unwrap_or_default();
    assert!(
        message.starts_with("the Docker engine went away when it had just started") || message.starts_with(WENT_AWAY)
    );
    assert_eq!(scene.server.output(&id, "output/half.txt").text(), "half\n");
    scene.expect_run_once(&task);
    scene.expect_another_done();
}

#[test]
fn a_result_is_accepted_without_events_of_the_containers_end() {
    let mut scene = Scene::start(WithoutEngine::End, Socket::Engines);
    let id = scene.begin(tally::waiting_task("echo result > output/result.txt"));
    scene.running.kill9();
    tally::release(&scene.agent, &id);
    let state = ["inspect", "--format", "{{.State.Status}}", &container_name(&id)];
    wait_until("the container to end", secs(20), || scene.engine.docker(&state) == "exited");
    scene.engine.stop();
    scene.engine.start_again();
    scene.running = scene.agent.start();
    let task = tally::wait_done_once(&scene.server, &scene.agent, &id);
    assert_eq!(scene.server.output(&id, "output/result.txt").text(), "result\n");
    scene.expect_run_once(&task);
}

#[test]
fn a_container_is_followed_after_agent_and_engine_restarted() {
    let mut scene = Scene::start(WithoutEngine::GoOn, Socket::Engines);
    let id = scene.begin(tally::waiting_task("echo result > output/result.txt"));
    scene.running.kill9();
    scene.engine.stop();
    scene.engine.start_again();
    scene.running = scene.agent.start();
    scene.running.wait_log(FOLLOWING, secs(20));
    tally::release(&scene.agent, &id);
    let task = tally::wait_done_once(&scene.server, &scene.agent, &id);
    assert_eq!(scene.server.output(&id, "output/result.txt").text(), "result\n");
    scene.expect_run_once(&task);
}

#[test]
fn an_offered_task_waits_on_the_server_without_an_engine() {
    let mut scene = Scene::start(WithoutEngine::End, Socket::Engines);
    scene.expect_another_done();
    let gone = Instant::now();
    scene.engine.stop();
    // An idle agent looks at its engine once a minute.
    scene.running.wait_log(CLOSED, secs(80));
    let accepted = scene.server.requests_to("accept").len();
    let id = scene.server.submit(tally::waiting_task(""));
    tally::release(&scene.agent, &id);
    // The agent checks the engine every 10 s: twice more until the second heartbeat.
    scene.server.wait_until("a busy heartbeat", secs(40), |server| busy_heartbeats(server, gone) >= 2);
    assert!(polls(&scene.server, gone) >= 3, "the agent polls for cancellations");
    assert_eq!(scene.server.requests_to("accept").len(), accepted);
    assert_eq!(scene.server.task(&id).status, Status::Pending);

    scene.engine.start_again();
    scene.wait_open_again();
    let task = tally::wait_done_once(&scene.server, &scene.agent, &id);
    scene.expect_run_once(&task);
    let said = [CLOSED, OPEN].map(|text| scene.times_logged(text));
    assert_eq!(said, [1, 2], "each line is logged once, the second one also at the start");
}

#[test]
fn an_accepted_task_waits_for_the_engine_and_then_runs() {
    let mut scene = Scene::start(WithoutEngine::End, Socket::Engines);
    let stopped = scene.agent.path("stopped");
    let download = {
        let stopped = stopped.clone();
        let hold = move |_: &_| wait_until("the engine to be stopped", secs(25), || stopped.exists());
        scene.server.fault(Match::path("download").times(1), Fault::call(Moment::Arrived, hold))
    };
    let id = scene.server.submit(tally::waiting_task(""));
    scene.server.wait_until("the download", secs(20), |server| server.fault_hits(download) == 1);
    scene.engine.stop();
    scene.agent.write("stopped", "");
    scene.running.wait_log(WAITING, secs(20));
    let gone = Instant::now();
    scene.server.wait_until("three polls", secs(30), |server| polls(server, gone) >= 3);
    assert_eq!(scene.server.task(&id).status, Status::Running, "the task hasn't failed");
    assert_eq!(tally::times_begun(&scene.agent, &id), 0);

    scene.engine.start_again();
    tally::release(&scene.agent, &id);
    let task = tally::wait_done_once(&scene.server, &scene.agent, &id);
    scene.expect_run_once(&task);
    assert_eq!(scene.times_logged(WAITING), 1);
}
