//! What the engine remembers of a container's end: its events, read from what it printed. Pure functions.
//!
//! The exit status alone doesn't tell a program that was done from one that was asked to end and did so with 0. The
//! events tell: whoever stops a container through the engine, a person or the engine itself, leaves a `kill` there.
//! They are kept in memory, the last 256 of all containers, and begin anew with each start of the engine.

/// What is asked of each event: whose it is, what happened, and for a `kill` the signal's number.
pub const FORMAT: &str = r#"[{{json .Actor.ID}},{{json .Action}},{{json (index .Actor.Attributes "signal")}}]"#;

/// So many events show that older ones may have been dropped; the engine keeps 256.
const MAYBE_FULL: usize = 250;
/// The signals that are sent to end a program: INT, QUIT, KILL and TERM. Others are messages.
const ENDING_SIGNALS: [&str; 4] = ["2", "3", "9", "15"];

/// What the engine's events say of a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitEvents {
    /// It ended, and nobody had sent it a signal to end through the engine.
    EndedByItself,
    /// Somebody had.
    Signalled,
    /// The engine has seen nothing of it: it was started after the container's end.
    Nothing,
    /// They don't tell.
    Unknown,
}

/// Reads the engine's events, one a line in [`FORMAT`], for the container with this id.
pub fn exit_events(events: &str, id: &str) -> ExitEvents {
    let mut count = 0;
    let (mut ended, mut signalled) = (false, false);
    for line in events.lines().filter(|line| !line.trim().is_empty()) {
        // Whatever answers in another form than docker's keeps other books, too.
        let Ok((whose, action, signal)) = serde_json::from_str::<(String, String, String)>(line) else {
            return ExitEvents::Unknown;
        };
        count += 1;
        if whose == id {
            ended |= action == "die";
            signalled |= action == "kill" && ENDING_SIGNALS.contains(&signal.as_str());
        }
    }
    match (signalled, ended) {
        (true, _) => ExitEvents::Signalled,
        (false, true) => ExitEvents::EndedByItself,
        (false, false) if count < MAYBE_FULL => ExitEvents::Nothing,
        (false, false) => ExitEvents::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{ExitEvents, MAYBE_FULL, exit_events};

    fn event(id: &str, action: &str) -> String {
        format!("[\"{id}\",\"{action}\",\"\"]\n")
    }

    fn signal(id: &str, number: u32) -> String {
        format!("[\"{id}\",\"kill\",\"{number}\"]\n")
    }

    #[test]
    fn an_exit_without_a_signal_is_the_containers_own() {
        let events = event("c1", "start") + &event("c1", "exec_create: sh -c \\\"a\\nb\\\"") + &event("c1", "die");
        assert_eq!(exit_events(&events, "c1"), ExitEvents::EndedByItself);
    }

    #[test]
    fn only_a_terminating_signal_counts_as_signalled() {
        let die = event("c1", "die");
        assert_eq!(exit_events(&(signal("c1", 15) + &die), "c1"), ExitEvents::Signalled);
        assert_eq!(exit_events(&(signal("c1", 10) + &die), "c1"), ExitEvents::EndedByItself);
        assert_eq!(exit_events(&(signal("c2", 15) + &die), "c1"), ExitEvents::EndedByItself);
    }

    #[test]
    fn missing_events_count_as_unknown_when_some_may_be_dropped() {
        assert_eq!(exit_events("", "c1"), ExitEvents::Nothing);
        assert_eq!(exit_events(&event("c2", "die"), "c1"), ExitEvents::Nothing);
        assert_eq!(exit_events(&event("c2", "die").repeat(MAYBE_FULL), "c1"), ExitEvents::Unknown);
    }

    #[test]
    fn events_of_another_form_count_as_unknown() {
        assert_eq!(
            exit_events("{\"Name\":\"x\",\"Status\":\"died\",\"Type\":\"container\"}\n", "c1"),
            ExitEvents::Unknown
        );
        assert_eq!(exit_events("2026-01-02 container die c1\n", "c1"), ExitEvents::Unknown);
    }
}
