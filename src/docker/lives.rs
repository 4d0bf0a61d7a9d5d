//! The starts and ends of an agent's containers as they happen, read from a `docker events` that goes on until it is ended.
//!
//! An unbroken stream of them proves what [`super::ExitEvents`] proves of one container: the engine records each signal that
//! is sent through it before the end that the signal brings about, and tells its listeners in that order. A listener that
//! falls behind by 1024 events loses some, so only the few kinds are asked for that count here.

use std::collections::HashMap;
use std::ffi::OsString;
use std::time::Duration;

use super::INSTANCE_LABEL;
use super::exit_events::ends_programs;

/// The `--format` that [`Lives::note`] reads: the container's id, the action, the exit status of a `die` or the signal of a
/// `kill`, and the engine's time in nanoseconds. Attributes are the labels of the image, too, so that none but the one that
/// belongs to the action is read. Even that one may be a label's: so the client's own exit status has to be 0 as well.
const FORMAT: &str = concat!(
    r#"[{{json .Actor.ID}},{{json .Action}},{{if eq .Action "die"}}{{json (index .Actor.Attributes "exitCode")}}"#,
    r#"{{else}}{{json (index .Actor.Attributes "signal")}}{{end}},{{.TimeNano}}]"#
);
/// The events that are asked for. All but the first two, and `destroy`, say that something else has interfered.
const ACTIONS: [&str; 7] = ["start", "die", "destroy", "kill", "stop", "restart", "oom"];
/// So many containers are remembered: more than an agent has at a time.
const CONTAINERS_MAX: usize = 4096;

/// What one unbroken stream of events has told of containers.
#[derive(Debug, Default)]
pub struct Lives {
    by_id: HashMap<String, Life>,
}

/// What is known of one container.
#[derive(Debug, Clone, Copy)]
enum Life {
    /// It has started, at this time of the engine.
    Running { since: i64 },
    /// It has started once and exited with 0, and nothing else has happened to it.
    Ended { after: Duration },
    /// It was stopped, restarted or sent a signal that ends programs, through the engine.
    Stopped,
    /// Anything else.
    Doubtful,
}

/// What is known of a container's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeEnd {
    /// Nothing so far.
    Unknown,
    /// It started once, ran for this time, and exited with 0, and no signal was sent to it through the engine.
    ByItself(Duration),
    /// It was stopped, restarted or sent a signal that ends programs, through the engine.
    Stopped,
    /// Something else happened, or not all of it was seen.
    Doubtful,
}

/// A line of another form than docker's.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownForm;

impl Lives {
    /// The arguments of the `docker events` whose lines are to be noted.
    pub fn args(instance: &str) -> Vec<OsString> {
        let label = format!("label={INSTANCE_LABEL}={instance}");
        let actions = ACTIONS.iter().map(|action| format!("event={action}"));
        let filters = ["type=container".to_owned(), label].into_iter().chain(actions);
        let filters = filters.flat_map(|filter| ["--filter".to_owned(), filter]);
        let format = ["--format", FORMAT].map(str::to_owned);
        ["events".to_owned()].into_iter().chain(filters).chain(format).map(OsString::from).collect()
    }

    /// Notes a line of that.
    ///
    /// # Errors
    /// It has another form: what it says isn't known.
    pub fn note(&mut self, line: &[u8]) -> Result<(), UnknownForm> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let event: (String, String, String, i64) = serde_json::from_slice(line).map_err(|_| UnknownForm)?;
        let (id, action, detail, time) = event;
        let life = match (action.as_str(), self.by_id.get(&id)) {
            (_, Some(Life::Stopped)) | ("stop" | "restart", _) => Life::Stopped,
            ("kill", _) if ends_programs(&detail) => Life::Stopped,
            ("start", None) => Life::Running { since: time },
            // What removes it tells of an end that was seen no more than that.
            ("destroy", Some(ended @ Life::Ended { .. })) => *ended,
            ("die", Some(Life::Running { since })) if detail == "0" => {
                let nanos = time.saturating_sub(*since).try_into().unwrap_or_default();
                Life::Ended { after: Duration::from_nanos(nanos) }
            }
            _ => Life::Doubtful,
        };
        if self.by_id.len() >= CONTAINERS_MAX && !self.by_id.contains_key(&id) {
            self.by_id.retain(|_, life| matches!(life, Life::Running { .. }));
        }
        if self.by_id.len() >= CONTAINERS_MAX && !self.by_id.contains_key(&id) {
            // Of those that run, the end comes without a start now, which is a doubt.
            self.by_id.clear();
        }
        self.by_id.insert(id, life);
        Ok(())
    }

    /// Whether anything is known of a container.
    #[cfg(test)]
    pub fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// What is known of a container's end.
    pub fn end_of(&self, id: &str) -> LifeEnd {
        match self.by_id.get(id) {
            None | Some(Life::Running { .. }) => LifeEnd::Unknown,
            Some(Life::Ended { after }) => LifeEnd::ByItself(*after),
            Some(Life::Stopped) => LifeEnd::Stopped,
            Some(Life::Doubtful) => LifeEnd::Doubtful,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LifeEnd::{ByItself, Doubtful, Stopped, Unknown};
    use super::{CONTAINERS_MAX, LifeEnd, Lives, UnknownForm};
    use std::time::Duration;

    fn line(id: &str, action: &str, code: &str, second: i64) -> String {
        format!("[\"{id}\",\"{action}\",\"{code}\",{second}000000000]")
    }

    fn end_after(events: &[(&str, &str)]) -> LifeEnd {
        let mut lives = Lives::default();
        for ((action, code), second) in events.iter().zip(1..) {
            lives.note(line("a", action, code, second).as_bytes()).unwrap();
            lives.note(line("b", "kill", "15", second).as_bytes()).unwrap();
        }
        lives.end_of("a")
    }

    #[test]
    fn only_a_start_and_an_exit_with_0_are_an_end_by_itself() {
        let (start, die) = (("start", ""), ("die", "0"));
        assert_eq!(end_after(&[]), Unknown);
        assert_eq!(end_after(&[start]), Unknown);
        assert_eq!(end_after(&[start, die]), ByItself(Duration::from_secs(1)));
        for other in
            [("kill", "10"), ("kill", ""), ("oom", ""), ("start", ""), ("die", "0"), ("a word of tomorrow", "")]
        {
            for events in [[start, other, die], [start, die, other], [other, start, die]] {
                assert_eq!(end_after(&events), Doubtful, "{events:?}");
            }
        }
        for code in ["137", "", "00"] {
            assert_eq!(end_after(&[start, ("die", code)]), Doubtful, "{code:?}");
        }
        assert_eq!(end_after(&[die]), Doubtful, "its start was not seen");
        assert_eq!(end_after(&[start, die, start, die]), Doubtful, "it ran twice");
        assert_eq!(end_after(&[start, ("destroy", "")]), Doubtful, "its end was not seen");
    }

    #[test]
    fn a_stop_by_others_stays_known_after_the_removal() {
        let (start, die, destroy) = (("start", ""), ("die", "0"), ("destroy", ""));
        for stop in [("kill", "15"), ("kill", "9"), ("kill", "SIGINT"), ("stop", ""), ("restart", "")] {
            for events in [[start, stop, die, destroy], [start, die, stop, destroy], [stop, start, die, destroy]] {
                assert_eq!(end_after(&events), Stopped, "{events:?}");
            }
        }
        // A container may have a stop signal of its own.
        assert_eq!(end_after(&[start, ("kill", "10"), die, ("stop", ""), destroy]), Stopped);
        assert_eq!(end_after(&[start, ("kill", "10"), die, destroy]), Doubtful);
        assert_eq!(end_after(&[start, die, destroy]), ByItself(Duration::from_secs(1)), "it ended before its removal");
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_negative_time() {
        let mut lives = Lives::default();
        lives.note(line("a", "start", "", 9).as_bytes()).unwrap();
        lives.note(line("a", "die", "0", 1).as_bytes()).unwrap();
        assert_eq!(lives.end_of("a"), ByItself(Duration::ZERO));
    }

    #[test]
    fn a_line_of_another_form_is_an_error() {
        let mut lives = Lives::default();
        assert_eq!(lives.note(b" \r\n"), Ok(()));
        let podman = r#"{"Name":"x","Status":"died","Type":"container"}"#;
        for bad in
            [podman, "[\"a\",\"die\",\"0\"]", "[\"a\",\"die\",\"0\",\"1\"]", "2026-01-02 container die a", "\u{0}"]
        {
            assert_eq!(lives.note(bad.as_bytes()), Err(UnknownForm), "{bad}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut lives = Lives::default();
        for number in 0..CONTAINERS_MAX + 5 {
            lives.note(line(&number.to_string(), "start", "", 1).as_bytes()).unwrap();
        }
        assert_eq!(lives.by_id.len(), 5);
        lives.note(line("0", "die", "0", 2).as_bytes()).unwrap();
        assert_eq!(lives.end_of("0"), Doubtful);
        lives.note(line("running", "start", "", 1).as_bytes()).unwrap();
        for number in 0..3 * CONTAINERS_MAX {
            lives.note(line(&format!("x{number}"), "destroy", "", 3).as_bytes()).unwrap();
            assert!(lives.by_id.len() <= CONTAINERS_MAX);
        }
        lives.note(line("running", "die", "0", 4).as_bytes()).unwrap();
        assert_eq!(lives.end_of("running"), ByItself(Duration::from_secs(3)), "those that run are kept before others");
    }

    #[test]
    fn the_engine_is_asked_for_this_agents_containers() {
        let args: Vec<_> = Lives::args("i1").iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let filters = "--filter event=start --filter event=die --filter event=destroy --filter event=kill \
                       --filter event=stop --filter event=restart --filter event=oom";
        let format = "[{{json .Actor.ID}},{{json .Action}},{{if eq .Action \"die\"}}\
                      {{json (index .Actor.Attributes \"exitCode\")}}{{else}}\
                      {{json (index .Actor.Attributes \"signal\")}}{{end}},{{.TimeNano}}]";
        let expected =
            format!("events --filter type=container --filter label=open-aaas.instance=i1 {filters} --format {format}");
        assert_eq!(args.join(" "), expected);
    }
}
