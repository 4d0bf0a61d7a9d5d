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
pub enum Recalled {
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
pub fn recalled(events: &str, id: &str) -> Recalled {
    let mut count = 0;
    let (mut ended, mut signalled) = (false, false);
    for line in events.lines().filter(|line| !line.trim().is_empty()) {
        // Whatever answers in another form than docker's keeps other books, too.
        let Ok((whose, action, signal)) = serde_json::from_str::<(String, String, String)>(line) else {
            return Recalled::Unknown;
        };
        count += 1;
        if whose == id {
            ended |= action == "die";
            signalled |= action == "kill" && ENDING_SIGNALS.contains(&signal.as_str());
        }
    }
    match (signalled, ended) {
        (true, _) => Recalled::Signalled,
        (false, true) => Recalled::EndedByItself,
        (false, false) if count < MAYBE_FULL => Recalled::Nothing,
        (false, false) => Recalled::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{MAYBE_FULL, Recalled, recalled};

    fn event(id: &str, action: &str) -> String {
        format!("[\"{id}\",\"{action}\",\"\"]\n")
    }

    fn signal(id: &str, number: u32) -> String {
        format!("[\"{id}\",\"kill\",\"{number}\"]\n")
    }

    #[test]
    fn an_end_without_a_signal_is_the_containers_own() {
        let events = event("c1", "start") + &event("c1", "exec_create: sh -c \\\"a\\nb\\\"") + &event("c1", "die");
        assert_eq!(recalled(&events, "c1"), Recalled::EndedByItself);
    }

    #[test]
    fn a_signal_to_end_outweighs_the_end_and_a_message_does_not() {
        let die = event("c1", "die");
        assert_eq!(recalled(&(signal("c1", 15) + &die), "c1"), Recalled::Signalled);
        assert_eq!(recalled(&(signal("c1", 10) + &die), "c1"), Recalled::EndedByItself);
        assert_eq!(recalled(&(signal("c2", 15) + &die), "c1"), Recalled::EndedByItself);
    }

    #[test]
    fn events_that_have_nothing_of_it_say_so_unless_some_may_have_been_dropped() {
        assert_eq!(recalled("", "c1"), Recalled::Nothing);
        assert_eq!(recalled(&event("c2", "die"), "c1"), Recalled::Nothing);
        assert_eq!(recalled(&event("c2", "die").repeat(MAYBE_FULL), "c1"), Recalled::Unknown);
    }

    #[test]
    fn events_of_another_form_tell_nothing() {
        assert_eq!(recalled("{\"Name\":\"x\",\"Status\":\"died\",\"Type\":\"container\"}\n", "c1"), Recalled::Unknown);
        assert_eq!(recalled("2026-01-02 container die c1\n", "c1"), Recalled::Unknown);
    }
}
