//! Random kills and faults of the Server while many tasks run.
//!
//! The seed is always the same, unless `AGENT_CORE_SOAK_SEED` sets another; the exact timing differs between runs.
//! `AGENT_CORE_SOAK_SECS` sets a longer duration, with more tasks.

use crate::expected::{BROKEN, check_data_dir, phase};
use crate::random::Dice;
use crate::support::agent::{Agent, Running};
use crate::support::docker::{assert_no_containers, wait_until};
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Status, Task, TaskSpec};
use std::collections::{HashMap, HashSet};
use std::env;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The duration of the faults in seconds, and the number of tasks.
const SECS: u64 = 70;
const TASKS: u64 = 30;
const SEED: u64 = 20_260_301;

/// The outcome of a task that is not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Success,
    Failure,
}

/// A task and its expected results.
struct Planned {
    id: Option<String>,
    kind: Kind,
    submit_at: Duration,
    cancel_at: Option<Duration>,
    works_for: u64,
    /// Its results, by name.
    results: Vec<(String, Vec<u8>)>,
}

#[test]
fn random_kills_and_faults_lose_nothing_and_run_nothing_twice() {
    let lasts = number("AGENT_CORE_SOAK_SECS").unwrap_or(SECS);
    let seed = number("AGENT_CORE_SOAK_SEED").unwrap_or(SEED);
    println!("seed {seed}, {lasts} s");
    let mut dice = Dice::new(seed);
    let mut plan = plan(&mut dice, lasts);
    let server = FakeServer::start();
    let agent = Agent::builder(&server)
        .with_engine()
        .capacity(4)
        .config("[[paths.mounts]]\nhost = './shared'\ncontainer = '/shared'")
        .env("RUST_LOG", "debug")
        .build();
    agent.write("shared/begun", "");

    let mut running = agent.start();
    let began = Instant::now();
    let (mut kills, mut faults, mut outages) = (0, 0, 0);
    let mut next_trouble = dice.millis(300, 2000);
    while began.elapsed() < Duration::from_secs(lasts) {
        go_on_with(&mut plan, &server, began.elapsed());
        if began.elapsed() >= next_trouble {
            match dice.number(0, 9) {
                0..4 => {
                    running.kill9();
                    thread::sleep(dice.millis(0, 500));
                    running = agent.start();
                    kills += 1;
                }
                4 => {
                    server.stop_listening();
                    // Sometimes the agent is killed and restarted during the outage.
                    if dice.number(0, 2) == 0 {
                        running.kill9();
                        running = agent.start();
                        kills += 1;
                    }
                    thread::sleep(Duration::from_secs(1));
                    server.resume();
                    outages += 1;
                }
                _ => {
                    script_a_fault(&mut dice, &server);
                    faults += 1;
                }
            }
            next_trouble = began.elapsed() + dice.millis(300, 2000);
        }
        assert!(running.is_running(), "the agent ended by itself");
        thread::sleep(Duration::from_millis(20));
    }
    println!("{kills} kills, {faults} faults, {outages} outages, {} tasks", plan.len());
    server.clear_faults();
    let mut aftermath = Aftermath { plan, server: &server, agent: &agent, running };
    aftermath.wait_until_settled();
    aftermath.check();
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{variable}` must be a number, not {text:?}")))
}

fn plan(dice: &mut Dice, lasts: u64) -> Vec<Planned> {
    let count = TASKS * lasts.div_ceil(SECS);
    let last = lasts * 1000 * 8 / 10;
    let mut plan: Vec<Planned> = (0..count)
        .map(|_| {
            let submit_at = dice.millis(0, last);
            let results = (0..dice.number(1, 3)).map(|number| {
                let size = dice.pick(&[0, 17, 5_000, 300_000]);
                (format!("output/{number}.bin"), vec![b'0' + number as u8; size])
            });
            let results = results.collect();
            Planned {
                id: None,
                kind: dice.pick(&[Kind::Success, Kind::Success, Kind::Failure]),
                submit_at,
                cancel_at: (dice.number(0, 4) == 0).then(|| submit_at + dice.millis(200, 6000)),
                works_for: dice.number(0, 4000),
                results,
            }
        })
        .collect();
    plan.sort_by_key(|task| task.submit_at);
    plan
}

/// Submits and cancels what is expected.
fn go_on_with(plan: &mut [Planned], server: &FakeServer, now: Duration) {
    for task in plan {
        if task.id.is_none() && task.submit_at <= now {
            task.id = Some(server.submit(task.spec()));
        }
        if let (Some(id), Some(at)) = (&task.id, task.cancel_at) {
            if at <= now {
                server.cancel(id);
            }
        }
    }
}

impl Planned {
    fn spec(&self) -> TaskSpec {
        let end = match self.kind {
            Kind::Success => String::new(),
            Kind::Failure => format!("echo '{BROKEN}' >&2\nexit 3\n"),
        };
        let script = format!(
            "set -e\necho \"$TASK_ID\" >>/shared/begun\necho begun\nsleep {}.{:03}\ncp input/*.bin output/\necho ended\n{end}",
            self.works_for / 1000,
            self.works_for % 1000
        );
        let name = |path: &str| path.trim_start_matches("output/").to_owned();
        let with_input = |spec: TaskSpec, (path, bytes): &(String, Vec<u8>)| spec.input(name(path), bytes.clone());
        self.results.iter().fold(TaskSpec::script(script), with_input)
    }
}

fn script_a_fault(dice: &mut Dice, server: &FakeServer) {
    let calls = ["heartbeat", "poll", "accept", "download", "list", "upload", "complete"];
    let call = dice.pick(&calls);
    let any = dice.number(0, 2) == 0;
    let late = dice.millis(100, 1500);
    let fault = match dice.number(0, 4) {
        0 => Fault::Reset,
        1 => Fault::AnswerLost,
        2 => Fault::Truncated,
        3 => Fault::status(dice.pick(&[500, 502, 503])),
        // For a restarted agent a very late upload looks like one that never took effect.
        _ if any || call == "upload" => Fault::Late(late),
        _ => Fault::Delay(late),
    };
    let requests = if any { Match::any() } else { Match::path(call) };
    server.fault(requests.times(1), fault);
}

/// The state after the last fault, with the final checks.
struct Aftermath<'t> {
    plan: Vec<Planned>,
    server: &'t FakeServer,
    agent: &'t Agent,
    running: Running,
}

impl Aftermath<'_> {
    fn wait_until_settled(&mut self) {
        let data_dir = self.agent.data_dir();
        wait_until("all tasks and records to be settled", secs(180), || {
            assert!(self.running.is_running(), "the agent ended by itself");
            let closed = |task: &Task| {
                let phase = phase(&data_dir, &task.id);
                task.status.is_final() && phase.is_none_or(|phase| phase == "settled")
            };
            self.server.tasks().iter().all(closed)
        });
        // An agent that was just started may not handle signals yet; after its first poll it does.
        let polls = |server: &Control| server.requests_to("poll").len();
        let before = polls(self.server);
        self.server.wait_until("a poll", secs(30), |server| polls(server) > before);
        let status = self.running.terminate(secs(20));
        assert!(status.success(), "after SIGTERM the agent ended with {status}");
    }

    fn check(&self) {
        let begun = self.begun();
        let mut wrong = Vec::new();
        for planned in &self.plan {
            let id = planned.id.as_deref().expect("all tasks were submitted");
            let task = self.server.task(id);
            let times = begun.get(id).copied().unwrap_or(0);
            let expected = self.expected(planned, &task, times);
            if let Err(why) = expected {
                wrong.push(format!("{id}, {:?}, cancelled {:?}: {why}", planned.kind, planned.cancel_at));
            }
        }
        assert!(wrong.is_empty(), "{} of {} tasks:\n{}", wrong.len(), self.plan.len(), wrong.join("\n"));
        assert_no_containers(self.server.task_prefix());
        let what = "the end of all processes of the agent";
        wait_until(what, secs(20), || self.agent.processes().is_empty());
        let ids: Vec<&str> = self.plan.iter().filter_map(|task| task.id.as_deref()).collect();
        check_data_dir(&self.agent.data_dir(), &ids);
    }

    fn expected(&self, planned: &Planned, task: &Task, begun: usize) -> Result<(), String> {
        let finals = task.history.iter().filter(|(_, status)| status.is_final()).count();
        if finals != 1 || task.completed_count > 1 {
            return Err(format!("{finals} ends, {} reports, {:?}", task.completed_count, task.history));
        }
        let files = self.server.outputs(&task.id);
        let names: Vec<&str> = files.iter().map(|file| file.filename.as_str()).collect();
        if names.iter().collect::<HashSet<_>>().len() != names.len() {
            return Err(format!("files twice: {names:?}"));
        }
        if task.status == Status::Cancelled && planned.cancel_at.is_some() {
            return if begun <= 1 { Ok(()) } else { Err(format!("begun {begun} times")) };
        }
        let (status, message) = match planned.kind {
            Kind::Success => (Status::Completed, None),
            Kind::Failure => (Status::Failed, Some(BROKEN)),
        };
        if (task.status, task.error_message.as_deref()) != (status, message) {
            return Err(format!("it is {}: {:?}", task.status, task.error_message));
        }
        if begun != 1 {
            return Err(format!("begun {begun} times"));
        }
        if task.stdout() != "begun\nended\n" {
            return Err(format!("it printed {:?}", task.stdout()));
        }
        let expected: Vec<&str> = planned.results.iter().map(|(name, _)| name.as_str()).collect();
        if names != expected {
            return Err(format!("the files {names:?} instead of {expected:?}"));
        }
        let same = files.iter().zip(&planned.results).all(|(file, (_, bytes))| file.bytes == *bytes);
        let named = files.iter().all(|file| task.file_ids.contains(&file.id)) && task.file_ids.len() == files.len();
        if !same || !named {
            return Err(format!("the bytes are the same: {same}; the report names {:?} of {files:?}", task.file_ids));
        }
        Ok(())
    }

    /// How often the container of each task has started.
    fn begun(&self) -> HashMap<String, usize> {
        let text = fs::read_to_string(self.agent.path("shared/begun")).expect("read the containers' notes");
        let mut begun = HashMap::new();
        for id in text.lines() {
            *begun.entry(id.to_owned()).or_insert(0) += 1;
        }
        begun
    }
}
