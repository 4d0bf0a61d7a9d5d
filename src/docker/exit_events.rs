//! The end of a container in the engine's events, read from what `docker events` prints. Pure functions.
//!
//! The exit status alone doesn't distinguish a program that was done from one that received a signal and exited with 0.
//! The events do: each stop through the engine, by a person or by the engine itself, is recorded as a `kill`, and
//! `docker stop` is recorded as a `stop` as well, a moment after the end. The engine keeps the last 256 events of all containers in memory and forgets them when it stops.

use std::time::Duration;

use jiff::Timestamp;

use super::signal::number;
use super::{Container, Docker, DockerError, REQUEST_TIMEOUT};

/// The `--format` that [`parse_exit_events`] reads: the container's id, the action, and for a `kill` the signal's number.
const FORMAT: &str = r#"[{{json .Actor.ID}},{{json .Action}},{{json (index .Actor.Attributes "signal")}}]"#;

/// From this number of events on, the engine may have dropped older ones; it keeps 256.
const MAYBE_FULL: usize = 250;
/// The signals that end a program: INT, QUIT, KILL and TERM. A container may have another one of its own.
const ENDING_SIGNALS: [u8; 4] = [2, 3, 9, 15];

/// Whether a signal, in docker's words, ends a program that doesn't handle it otherwise.
pub(super) fn ends_programs(signal: &str) -> bool {
    number(signal).is_some_and(|sent| ENDING_SIGNALS.contains(&sent))
}

/// The engine's events of a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitEvents {
    /// It exited, and no signal was sent through the engine before, or none that ends it.
    EndedByItself,
    /// The same, but another signal was sent: where `docker stop` has sent it, that is recorded soon.
    EndedAfterSignal,
    /// An ending signal was sent through the engine.
    Signalled,
    /// There are none: the engine was started after the container's end.
    Nothing,
    /// They may be incomplete, or have another form.
    Unknown,
}

/// How long after a container's end the engine has recorded it: as a rule, and at the latest. It waits up to 2 s for the
/// last of the output.
const EVENT_DELAYS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];

impl Docker {
    /// What the engine's events say of the end of a container that has ended.
    pub fn exit_events(&self, container: &Container) -> Result<ExitEvents, DockerError> {
        let Some(ended) = container.state.finished_at else { return Ok(ExitEvents::Unknown) };
        let [soon, latest] = event_times(ended);
        // The engine waits for events until `--until` by its own clock, which may differ from this machine's. So the time
        // is taken from the engine's own times. `--since 1` means from the beginning.
        let mut until = Timestamp::now().clamp(ended, latest);
        loop {
            match self.events_until(until, container)? {
                ExitEvents::EndedAfterSignal if until < soon => until = soon,
                ExitEvents::Nothing if until < latest => until = if until < soon { soon } else { latest },
                ExitEvents::Nothing => return self.confirm_nothing(latest, container),
                exit_events => return Ok(exit_events),
            }
        }
    }

    /// Asks for all events until now: where the end was long ago, those of other containers may have taken the places of
    /// this one's.
    fn confirm_nothing(&self, latest: Timestamp, container: &Container) -> Result<ExitEvents, DockerError> {
        let now = self.request(&["info", "--format", "{{.SystemTime}}"], REQUEST_TIMEOUT)?;
        match now.trim().parse::<Timestamp>() {
            Ok(now) if now > latest => self.events_until(now, container),
            // Another engine has no such word.
            _ => Ok(ExitEvents::Nothing),
        }
    }

    fn events_until(&self, until: Timestamp, container: &Container) -> Result<ExitEvents, DockerError> {
        let args = ["events", "--since", "1", "--until", &until.to_string(), "--format", FORMAT];
        match self.request(&args, REQUEST_TIMEOUT) {
            // podman's events have other fields, and don't tell a stop from an end.
            Err(DockerError::Refused(words)) if words.contains("template: ") => Ok(ExitEvents::Unknown),
            events => Ok(parse_exit_events(&events?, container)),
        }
    }
}

/// When the engine has recorded the end of a container that ended at this time: as a rule, and at the latest.
pub(super) fn event_times(ended: Timestamp) -> [Timestamp; 2] {
    // The time is the engine's, and may be the last one that there is.
    EVENT_DELAYS.map(|delay| ended.checked_add(delay).unwrap_or(Timestamp::MAX))
}

/// Reads the engine's events, one a line in [`FORMAT`], for a container.
pub(super) fn parse_exit_events(events: &str, container: &Container) -> ExitEvents {
    let mut count = 0;
    let (mut ended, mut signalled, mut is_stopped) = (false, false, false);
    let own = container.stop_signal.as_deref().and_then(number);
    let is_ending = |signal: Option<u8>| signal.is_some_and(|sent| ENDING_SIGNALS.contains(&sent) || own == Some(sent));
    for line in events.lines().filter(|line| !line.trim().is_empty()) {
        // An engine with another form of events may also keep others than docker does.
        let Ok((event_id, action, signal)) = serde_json::from_str::<(String, String, String)>(line) else {
            return ExitEvents::Unknown;
        };
        count += 1;
        if event_id == container.id {
            ended |= action == "die";
            signalled |= action == "kill";
            is_stopped |= action == "stop" || action == "kill" && is_ending(number(&signal));
        }
    }
    match (is_stopped, ended) {
        (true, _) => ExitEvents::Signalled,
        (false, true) if signalled => ExitEvents::EndedAfterSignal,
        (false, true) => ExitEvents::EndedByItself,
        (false, false) if count < MAYBE_FULL => ExitEvents::Nothing,
        (false, false) => ExitEvents::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{ExitEvents, MAYBE_FULL, event_times, parse_exit_events};
    use crate::docker::container::tests::EXITED;
    use crate::docker::container::{Container, parse_inspect};
    #[cfg(unix)]
    use crate::docker::stand_in::stand_in;
    use jiff::Timestamp;

    #[test]
    fn the_last_time_of_the_engine_has_no_later_events() {
        assert_eq!(event_times(Timestamp::MAX), [Timestamp::MAX; 2]);
    }

    fn container(stop_signal: &str) -> Container {
        let text = EXITED.replace("\"Labels\"", &format!("\"StopSignal\":{stop_signal},\"Labels\""));
        parse_inspect(&text).unwrap()
    }

    fn parse(events: &str) -> ExitEvents {
        parse_exit_events(events, &container("null"))
    }

    fn event(id: &str, action: &str) -> String {
        format!("[\"{id}\",\"{action}\",\"\"]\n")
    }

    fn signal(id: &str, number: u32) -> String {
        format!("[\"{id}\",\"kill\",\"{number}\"]\n")
    }

    #[test]
    fn an_exit_without_a_signal_is_the_containers_own() {
        let events = event("c1", "start") + &event("c1", "exec_create: sh -c \\\"a\\nb\\\"") + &event("c1", "die");
        assert_eq!(parse(&events), ExitEvents::EndedByItself);
    }

    #[test]
    fn only_a_terminating_signal_counts_as_signalled() {
        let die = event("c1", "die");
        assert_eq!(parse(&(signal("c1", 15) + &die)), ExitEvents::Signalled);
        assert_eq!(parse(&(signal("c1", 10) + &die)), ExitEvents::EndedAfterSignal);
        assert_eq!(parse(&(signal("c2", 15) + &die)), ExitEvents::EndedByItself);
    }

    #[test]
    fn a_stop_by_the_containers_own_signal_is_a_stop() {
        for (own, sent) in [("\"USR1\"", 10), ("\"SIGWINCH\"", 28), ("\"RTMIN+3\"", 37), ("\"10\"", 10), ("12", 12)] {
            let events = signal("c1", sent) + &event("c1", "die");
            assert_eq!(parse_exit_events(&events, &container(own)), ExitEvents::Signalled, "{own}");
            let other = signal("c1", 1) + &event("c1", "die");
            assert_eq!(parse_exit_events(&other, &container(own)), ExitEvents::EndedAfterSignal, "{own}");
        }
    }

    #[test]
    fn a_recorded_stop_counts_with_any_signal() {
        let events = signal("c1", 10) + &event("c1", "die") + &event("c1", "stop");
        assert_eq!(parse(&events), ExitEvents::Signalled);
        assert_eq!(parse(&(event("c1", "die") + &event("c2", "stop"))), ExitEvents::EndedByItself);
    }

    #[test]
    fn missing_events_count_as_unknown_when_some_may_be_dropped() {
        assert_eq!(parse(""), ExitEvents::Nothing);
        assert_eq!(parse(&event("c2", "die")), ExitEvents::Nothing);
        assert_eq!(parse(&event("c2", "die").repeat(MAYBE_FULL)), ExitEvents::Unknown);
    }

    #[cfg(unix)]
    #[test]
    fn events_that_later_ones_have_driven_out_are_unknown() {
        let dir = tempfile::tempdir().unwrap();
        // After the container's end the engine has recorded as many events as it keeps.
        let later = event("c2", "die").repeat(MAYBE_FULL);
        let script = format!(
            "case \"$*\" in
            info*) echo 2026-01-02T04:00:00.5Z ;;
            *--until*2026-01-02T04:00:00*) printf '%s' '{later}' ;;
            esac"
        );
        let found = stand_in(dir.path(), &script).exit_events(&container("null")).unwrap();
        assert_eq!(found, ExitEvents::Unknown);
        let silent = stand_in(dir.path(), "case $1 in info) echo 2026-01-02T04:00:00.5Z ;; esac");
        assert_eq!(silent.exit_events(&container("null")).unwrap(), ExitEvents::Nothing);
    }

    #[cfg(unix)]
    #[test]
    fn podman_has_no_such_events_and_is_asked_once() {
        let dir = tempfile::tempdir().unwrap();
        let words = "Error: template: events:1:14: executing \"events\" at <.Actor.ID>: can't evaluate field Actor in \
                     type *events.Event";
        let script = format!("echo \"$*\" >> \"$here/calls\"; cat >&2 <<'X'\n{words}\nX\nexit 125");
        assert_eq!(stand_in(dir.path(), &script).exit_events(&container("null")).unwrap(), ExitEvents::Unknown);
        assert_eq!(std::fs::read_to_string(dir.path().join("calls")).unwrap().lines().count(), 1);
        let away = stand_in(dir.path(), "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
        assert!(away.exit_events(&container("null")).is_err());
    }

    #[test]
    fn events_of_another_form_count_as_unknown() {
        assert_eq!(parse("{\"Name\":\"x\",\"Status\":\"died\",\"Type\":\"container\"}\n"), ExitEvents::Unknown);
        assert_eq!(parse("2026-01-02 container die c1\n"), ExitEvents::Unknown);
    }
}
