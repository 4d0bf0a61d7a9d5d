//! Runs one case: a fake Server, an agent, the script in place of docker, and a task.

use crate::case::{Act, Case, Kind};
use crate::expected::{BROKEN, check, phase};
use crate::point::{self, PART, Point};
use crate::stand_in::StandIn;
use crate::support::agent::{Agent, Running};
use crate::support::docker::{self, container_name, container_state, docker, wait_until};
use crate::support::ordinary_user::OrdinaryUser;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Options, TaskSpec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The two results of the task: a copy of its second input, and a text.
pub const DATA: &[u8] = &[b'd'; 5000];
pub const TEXT: &[u8] = &[b't'; 3000];

/// Everything that a case needs.
pub struct Scene {
    pub server: FakeServer,
    pub agent: Agent,
    pub task: String,
    /// The user of the agent, if it isn't the user of the tests.
    user: Option<OrdinaryUser>,
    stand_in: StandIn,
    killer: Arc<Killer>,
}

/// Kills the running agent.
#[derive(Default)]
struct Killer {
    process: AtomicI32,
}

impl Killer {
    fn aim(&self, process: u32) {
        self.process.store(i32::try_from(process).expect("a process id"), Ordering::SeqCst);
    }

    fn kill(&self) {
        // A request may arrive before the test knows the agent's process id.
        let mut process = 0;
        wait_until("the process to be killed", secs(20), || {
            process = self.process.load(Ordering::SeqCst);
            process != 0
        });
        // If the agent has ended by itself, the check of its exit status fails the test.
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

/// Runs a case and fails unless it ends as expected.
pub fn play(case: &Case) {
    let scene = Scene::set(case);
    let mut running = None;
    for act in &case.acts {
        scene.act(*act, &mut running);
    }
    let mut running = running.expect("a case ends with a running agent");
    scene.wait_until_settled(case);
    // Nothing of the task waits for the removal of its container.
    docker::assert_no_containers(&scene.task);
    let status = running.terminate(secs(20));
    assert!(status.success(), "after SIGTERM the agent ended with {status}");
    check(&scene, &case.expected);
}

impl Scene {
    fn set(case: &Case) -> Self {
        // An answer with a date makes the list of files before the first upload unnecessary.
        let server = FakeServer::start_with(Options { dates: case.kind == Kind::Noted, ..Options::default() });
        let mount = "[[paths.mounts]]\nhost = './shared'\ncontainer = '/shared'";
        let timeout = u64::from(case.kind == Kind::Timeout);
        let archive = if case.kind == Kind::Archived { "always" } else { "never" };
        let builder = Agent::builder(&server)
            .with_engine()
            .capacity(1)
            .config(mount)
            .config(&format!("[executor]\ntimeout_minutes = {timeout}"))
            .config(&format!("[outputs]\nnotes = {}\narchive = '{archive}'", case.kind == Kind::Noted))
            .env("RUST_LOG", "debug");
        let (agent, user) = match case.kind {
            Kind::Guarded => {
                let user = OrdinaryUser::new(builder);
                (user.agent.clone(), Some(user))
            }
            _ => (builder.build(), None),
        };
        agent.write("shared/begun", "");
        let stand_in = StandIn::install(&agent);
        if let Some(user) = &user {
            user.own_everything();
        }
        let task = server.submit(TaskSpec::script(task_script(case.kind)).input("data.bin", DATA));
        let scene = Self { server, agent, task, user, stand_in, killer: Arc::default() };
        if !case.held {
            scene.release();
        }
        scene
    }

    fn act(&self, act: Act, running: &mut Option<Running>) {
        let name = container_name(&self.task);
        match act {
            Act::Kill(point) => self.kill(point, &mut |_| {}),
            Act::KillCancelled(point) => {
                let mut cancelled = false;
                self.kill(point, &mut |_| {
                    if !cancelled && self.begun() > 0 {
                        self.server.cancel(&self.task);
                        cancelled = true;
                    }
                });
            }
            Act::KillReleased(point) => self.kill(point, &mut |running| {
                if running.log().contains(FOLLOWS) {
                    self.release();
                }
            }),
            Act::Release => self.release(),
            Act::Ended => {
                wait_until("the container's end", secs(30), || container_state(&name).as_deref() == Some("exited"));
            }
            Act::Prune => {
                docker(&["rm", &name]);
            }
            Act::Cancel => self.server.cancel(&self.task),
            Act::NoInputs => drop(self.server.fault(Match::path("download"), Fault::status(404))),
            Act::SlowInputs => drop(self.server.fault(Match::path("download"), Fault::StallAnswer(PART.into()))),
            Act::HalfRecord => {
                let folder = self.agent.data_dir().join("tasks").join(&self.task);
                let _ = fs::remove_dir_all(&folder);
                fs::create_dir(&folder).expect("make the folder of a record");
                fs::write(folder.join("record.json.tmp"), "{\"task\": {\"id\":").expect("write half a record");
            }
            Act::Restart => *running = Some(self.start()),
            Act::Followed => {
                let running = running.as_mut().expect("a running agent");
                running.wait_log(FOLLOWS, secs(30));
            }
        }
    }

    /// Starts the agent and waits until it has been killed at that point.
    fn kill(&self, point: Point, meanwhile: &mut dyn FnMut(&Running)) {
        match point {
            Point::Docker(verb, number, how) => self.stand_in.arm(verb, number, how),
            Point::Request(call, when) => {
                self.killer.aim(0);
                let killer = Arc::clone(&self.killer);
                let kill = Arc::new(move || killer.kill());
                point::script(&self.server, &self.task, (call, when), kill);
            }
        }
        let mut running = self.start();
        self.killer.aim(running.pid());
        self.stand_in.aim(running.pid());
        let until = Instant::now() + if self.may_time_out() { secs(100) } else { secs(30) };
        while running.is_running() {
            assert!(Instant::now() < until, "the agent did not reach this point: {point}\n{}", self.stand_in.calls());
            meanwhile(&running);
            thread::sleep(Duration::from_millis(5));
        }
        let status = running.wait_exit(secs(20));
        assert_eq!(status.signal(), Some(9), "the agent ended by itself before this point: {point}");
        self.server.clear_faults();
        self.stand_in.disarm();
    }

    fn start(&self) -> Running {
        self.user.as_ref().map_or_else(|| self.agent.start(), OrdinaryUser::start)
    }

    fn may_time_out(&self) -> bool {
        self.agent.config_text().contains("timeout_minutes = 1")
    }

    fn wait_until_settled(&self, case: &Case) {
        let polls =
            |server: &FakeServer| server.requests_to("poll").iter().filter(|poll| poll.status.is_some()).count();
        let before = polls(&self.server);
        self.server.wait_for(&self.task, case.expected.status, secs(240));
        let what = "the record to be settled";
        // The agent polls after it has reclaimed its tasks. A report that the Server refuses is believed to be refused after
        // two minutes.
        wait_until(what, secs(300), || {
            let phase = phase(&self.agent.data_dir(), &self.task);
            polls(&self.server) > before && phase.is_none_or(|phase| phase == "settled")
        });
    }

    fn release(&self) {
        self.agent.write("shared/released", "");
    }

    /// How often the container has started.
    pub fn begun(&self) -> usize {
        let text = fs::read_to_string(self.agent.path("shared/begun")).expect("read the containers' notes");
        text.lines().count()
    }
}

/// The log line of an agent that finds its running container.
const FOLLOWS: &str = "following the running container";

fn task_script(kind: Kind) -> String {
    let end = match kind {
        Kind::Failure | Kind::Noted => format!("echo '{BROKEN}' >&2\nexit 3\n"),
        _ => String::new(),
    };
    let mask = if kind == Kind::Guarded { "077" } else { "022" };
    let length = TEXT.len();
    format!(
        "set -e\n\
         echo \"$HOSTNAME\" >>/shared/begun\n\
         echo begun\n\
         umask {mask}\n\
         head -c {length} /dev/zero | tr '\\0' t >output/text.txt\n\
         until [ -e /shared/released ]; do sleep 0.05; done\n\
         cp input/data.bin output/copy.bin\n\
         echo ended\n{end}"
    )
}
