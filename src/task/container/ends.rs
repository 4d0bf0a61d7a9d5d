//! Follows the ends of an agent's containers: one `docker events` for all of them, which is started with the first one and
//! ended when there has been none for a while.
//!
//! It saves the two calls by which the engine is asked how a container has ended, and nothing is decided without it: where
//! the stream says anything else than that a container ended by itself with status 0, or may have a gap, or says nothing,
//! the engine is asked.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::docker::{Docker, LifeEnd, Lives};
use crate::os::process::{PipedChild, PipedOutput};

/// How long the end of a container whose client has ended may take to arrive.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a stream goes on without a container.
const IDLE: Duration = Duration::from_secs(10);
/// How often its thread looks whether the stream is still wanted.
const TICK: Duration = Duration::from_millis(500);
/// The pause after a stream that broke off: the first one, doubling with each in a row, and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// A stream that lived so long was no failure.
const LASTING: Duration = Duration::from_secs(60);
/// After so many ends in a row of which it didn't tell, a stream is replaced.
const SILENT: u32 = 3;
/// The longest line that is read. Those that are asked for have some hundred bytes.
const LINE_MAX: usize = 4096;

/// The ends of one agent's containers.
#[derive(Debug, Clone)]
pub struct Ends {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    docker: Docker,
    instance: String,
    /// How long the stream goes on without a container.
    idle: Duration,
    /// How long the end of a container whose client has ended may take to arrive.
    patience: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// How many containers are followed.
    followed: usize,
    /// Since when there is none.
    idle_since: Instant,
    /// The number of the stream that is open.
    open: Option<u64>,
    opened: Instant,
    /// How many streams there have been.
    count: u64,
    /// What the open stream has told.
    lives: Lives,
    /// Of how many ends in a row it hasn't told in time.
    silent: u32,
    /// When the next stream may be opened, and the last pause before one.
    next: Instant,
    pause: Duration,
}

/// A container that is followed, from before its start on.
pub struct Followed<'e> {
    ends: &'e Ends,
    /// The stream that was open before its start. A later one can't have told of all.
    stream: Option<u64>,
}

impl Ends {
    /// Nothing runs before the first container.
    pub fn new(docker: Docker, instance: &str) -> Self {
        Self::with_limits(docker, instance, IDLE, PATIENCE)
    }

    /// The same with other limits: how long a stream goes on without a container, and how long an end is waited for.
    pub(super) fn with_limits(docker: Docker, instance: &str, idle: Duration, patience: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            followed: 0,
            idle_since: now,
            open: None,
            opened: now,
            count: 0,
            lives: Lives::default(),
            silent: 0,
            next: now,
            pause: Duration::ZERO,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { shared: Arc::new(Shared { docker, instance: instance.to_owned(), idle, patience, state, changed }) }
    }

    /// Follows a container that is about to be started, by a stream that is opened where there is none.
    pub fn follow(&self) -> Followed<'_> {
        let mut state = self.shared.state();
        state.followed += 1;
        let now = Instant::now();
        if state.open.is_none() && now >= state.next {
            state.count += 1;
            let number = state.count;
            let shared = Arc::clone(&self.shared);
            match thread::Builder::new().name("ends".to_owned()).spawn(move || shared.run(number)) {
                Ok(_) => (state.open, state.opened) = (Some(number), now),
                Err(error) => log::debug!("no thread for the engine's events: {error}"),
            }
        }
        Followed { ends: self, stream: state.open }
    }

    /// Whether another program is known to have stopped a container through the engine, or to have sent it a signal that
    /// ends programs. What this agent has sent counts as well.
    pub fn saw_stop(&self, id: &str) -> bool {
        self.shared.state().lives.end_of(id) == LifeEnd::Stopped
    }
}

impl Followed<'_> {
    /// How long a container ran whose client has ended, if it is known for certain that it started once and exited with 0,
    /// and that no signal was sent to it through the engine. Waits a moment for that.
    pub fn clean_end(&self, id: &str) -> Option<Duration> {
        let shared = &self.ends.shared;
        let deadline = Instant::now() + shared.patience;
        let stream = self.stream?;
        let mut state = shared.state();
        while state.open == Some(stream) {
            let end = state.lives.end_of(id);
            if end != LifeEnd::Unknown {
                state.silent = 0;
                return if let LifeEnd::ByItself(ran_for) = end { Some(ran_for) } else { None };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.silent += 1;
                if state.silent >= SILENT {
                    log::debug!("the engine's events don't tell of containers' ends; following them anew");
                    state.close_broken();
                    shared.changed.notify_all();
                }
                return None;
            }
            state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

impl Drop for Followed<'_> {
    fn drop(&mut self) {
        let mut state = self.ends.shared.state();
        state.followed -= 1;
        state.idle_since = Instant::now();
    }
}

impl State {
    fn close(&mut self) {
        (self.open, self.lives, self.silent) = (None, Lives::default(), 0);
    }

    /// An engine without such events, or one that is away, isn't asked again and again.
    fn close_broken(&mut self) {
        let [first, longest] = PAUSES;
        let has_lasted = self.opened.elapsed() >= LASTING;
        self.pause = if has_lasted { first } else { (self.pause * 2).clamp(first, longest) };
        self.next = Instant::now() + self.pause;
        self.close();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread of a stream.
    fn run(&self, number: u64) {
        let why = match PipedChild::spawn_leashed(self.docker.lives_command(&self.instance)) {
            Ok((client, output)) => {
                let Err(why) = self.read(number, output) else { return };
                client.finish(TICK).err().filter(|words| !words.is_empty()).unwrap_or(why)
            }
            Err(error) => error.to_string(),
        };
        let mut state = self.state();
        if state.open == Some(number) {
            log::debug!("the engine's events break off: {why}");
            state.close_broken();
            self.changed.notify_all();
        }
    }

    /// Reads the stream until nothing needs it any more.
    ///
    /// # Errors
    /// Why it broke off.
    fn read(&self, number: u64, mut output: PipedOutput) -> Result<(), String> {
        let (mut buffer, mut line) = ([0; 4096], Vec::new());
        while self.is_wanted(number) {
            let read = output.read_within(&mut buffer, TICK).map_err(|error| error.to_string())?;
            let Some(count) = read else { continue };
            if count == 0 {
                return Err("the client has ended".to_owned());
            }
            let mut state = self.state();
            if state.open != Some(number) {
                break;
            }
            for byte in &buffer[..count] {
                line.push(*byte);
                if *byte == b'\n' {
                    state.lives.note(&line).map_err(|_| "they have another form than docker's".to_owned())?;
                    line.clear();
                } else if line.len() > LINE_MAX {
                    return Err("a line of them is too long".to_owned());
                }
            }
            drop(state);
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Whether a stream is to go on. One without a container is closed after a while.
    fn is_wanted(&self, number: u64) -> bool {
        let mut state = self.state();
        if state.open != Some(number) {
            return false;
        }
        if state.followed == 0 && state.idle_since.elapsed() >= self.idle {
            state.pause = Duration::ZERO;
            state.close();
            return false;
        }
        true
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::Ends;
    use crate::docker::stand_in::stand_in;
    use crate::os::platform;
    use std::fs;
    use std::path::Path;
    use std::thread;
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(20);
    const START: &str = r#"["a","start","",1000000000]"#;
    const DIE: &str = r#"["a","die","0",3500000000]"#;

    /// A stream of these lines, which goes on after them, and begins with its process id in the file `pid`.
    fn ends(dir: &Path, lines: &str, [idle, patience]: [Duration; 2]) -> Ends {
        let body = format!("echo x >> \"$here/calls\"; echo $$ > \"$here/pid\"\n{lines}\nexec sleep 60");
        Ends::with_limits(stand_in(dir, &body), "i1", idle, patience)
    }

    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < LONG, "waited for {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn client(dir: &Path) -> u32 {
        let read = || fs::read_to_string(dir.join("pid")).ok().and_then(|text| text.trim().parse().ok());
        wait_until("the client", || read().is_some());
        read().expect("a process id")
    }

    fn calls(dir: &Path) -> usize {
        fs::read_to_string(dir.join("calls")).unwrap_or_default().lines().count()
    }

    #[test]
    fn one_stream_tells_the_ends_of_all_containers() {
        let dir = tempfile::tempdir().unwrap();
        let others = [START, DIE].map(|line| line.replace("\"a\"", "\"b\""));
        let lines = format!("echo '{START}'; echo '{}'; echo '{DIE}'; echo '{}'", others[0], others[1]);
        let ends = ends(dir.path(), &lines, [LONG; 2]);
        let (first, second) = (ends.follow(), ends.follow());
        assert_eq!(first.clean_end("a"), Some(Duration::from_millis(2500)));
        assert_eq!(second.clean_end("b"), Some(Duration::from_millis(2500)));
        assert_eq!(calls(dir.path()), 1);
        drop(ends.follow());
        assert_eq!(ends.follow().clean_end("a"), Some(Duration::from_millis(2500)), "the stream goes on");
    }

    #[test]
    fn a_stop_by_another_program_or_a_gap_is_no_clean_end() {
        let kill = r#"["a","kill","15",2000000000]"#;
        let stopped = format!("echo '{START}'; echo '{kill}'; echo '{DIE}'");
        for (lines, is_stop) in [(stopped, true), (format!("echo '{DIE}'"), false)] {
            let dir = tempfile::tempdir().unwrap();
            let ends = ends(dir.path(), &lines, [LONG; 2]);
            assert_eq!(ends.follow().clean_end("a"), None, "{lines}");
            assert_eq!(ends.saw_stop("a"), is_stop, "{lines}");
        }
    }

    #[test]
    fn a_stream_that_breaks_off_or_is_strange_holds_no_task_up() {
        let long = "head -c 100000 /dev/zero | tr '\\0' x".to_owned();
        let strange = "echo 2026-01-02 container die a".to_owned();
        for lines in ["exit 0".to_owned(), "echo refused >&2; exit 1".to_owned(), strange, long] {
            let dir = tempfile::tempdir().unwrap();
            let ends = ends(dir.path(), &lines, [LONG; 2]);
            let followed = ends.follow();
            wait_until("the end of the stream", || ends.shared.state().open.is_none());
            let began = Instant::now();
            assert_eq!(followed.clean_end("a"), None);
            assert!(began.elapsed() < LONG / 2, "the end is not waited for");
            assert_eq!(ends.shared.state().pause, super::PAUSES[0]);
            ends.shared.state().next = Instant::now() + LONG * 60;
            drop(ends.follow());
            assert!(ends.shared.state().open.is_none(), "it isn't opened again at once: {lines}");
            ends.shared.state().next = Instant::now();
            drop(ends.follow());
            wait_until("the next stream", || calls(dir.path()) >= 2);
            wait_until("its end", || ends.shared.state().open.is_none());
            assert_eq!(ends.shared.state().pause, super::PAUSES[0] * 2);
        }
    }

    #[test]
    fn a_silent_stream_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let ends = ends(dir.path(), "", [LONG, Duration::from_millis(300)]);
        let followed = ends.follow();
        let pid = client(dir.path());
        for _ in 1..super::SILENT {
            assert_eq!(followed.clean_end("a"), None);
            assert!(ends.shared.state().open.is_some(), "one late end closes no stream");
        }
        assert_eq!(followed.clean_end("a"), None);
        assert!(ends.shared.state().open.is_none());
        wait_until("the end of the client", || platform::start_time(pid).is_none());
        ends.shared.state().next = Instant::now();
        drop(ends.follow());
        wait_until("the next stream", || calls(dir.path()) >= 2);
    }

    #[test]
    fn a_container_that_no_stream_followed_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let ends = ends(dir.path(), "", [LONG; 2]);
        ends.shared.state().next = Instant::now() + LONG * 60;
        let unfollowed = ends.follow();
        ends.shared.state().next = Instant::now();
        let _other = ends.follow();
        assert!(ends.shared.state().open.is_some());
        let began = Instant::now();
        assert_eq!(unfollowed.clean_end("a"), None);
        assert!(began.elapsed() < LONG / 2, "another stream that is open by now is not waited for");
    }

    #[test]
    fn an_idle_agent_has_no_stream() {
        let dir = tempfile::tempdir().unwrap();
        let ends = ends(dir.path(), &format!("echo '{START}'"), [Duration::ZERO, LONG]);
        assert_eq!(calls(dir.path()), 0);
        let followed = ends.follow();
        let pid = client(dir.path());
        wait_until("the start", || ends.shared.state().lives.has("a"));
        thread::sleep(super::TICK * 2);
        assert!(platform::start_time(pid).is_some(), "it goes on beside a container");
        drop(followed);
        wait_until("the end of the client", || platform::start_time(pid).is_none());
        let state = ends.shared.state();
        assert!(state.open.is_none() && state.pause.is_zero() && !state.lives.has("a"));
    }
}
