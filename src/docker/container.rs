//! What the engine says of a container, read from what `docker inspect` prints.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::INSTANCE_LABEL;

/// The `--format` that [`parse_inspect`] reads.
pub(super) const INSPECT_FORMAT: &str =
    r#"{"Id":{{json .Id}},"State":{{json .State}},"Labels":{{json .Config.Labels}}}"#;

/// The state of a container, in the engine's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not started yet, or its start failed.
    Created,
    Running,
    /// Running, and frozen by `docker pause`.
    Paused,
    /// Between two runs; the agent's containers have no restart policy.
    Restarting,
    Removing,
    Exited,
    /// Exited, and removed in part.
    Dead,
}

/// A container as the engine knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id. A later container with the same name has another one.
    pub id: String,
    pub status: Status,
    /// The exit status of its first process; valid once it has exited.
    pub exit_code: i32,
    /// Whether the kernel killed it because of its memory limit.
    pub oom_killed: bool,
    /// Why the engine couldn't start it, or empty.
    pub error: String,
    /// The time of the last start.
    pub started_at: Option<Timestamp>,
    /// The time of the last exit.
    pub finished_at: Option<Timestamp>,
    /// The agent that owns it, by its label.
    pub instance: Option<String>,
}

impl Container {
    /// How long it ran, or has run until now.
    pub fn ran_for(&self, now: Timestamp) -> Duration {
        let Some(from) = self.started_at else { return Duration::ZERO };
        let until = self.finished_at.filter(|at| *at >= from).unwrap_or(now);
        Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO)
    }
}

/// Reads what `docker inspect` prints in [`INSPECT_FORMAT`].
pub(super) fn parse_inspect(text: &str) -> Result<Container, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        id: String,
        state: State,
        labels: Option<HashMap<String, String>>,
    }
    #[derive(Deserialize)]
    struct State {
        #[serde(rename = "Status")]
        status: Status,
        #[serde(rename = "ExitCode", default)]
        exit_code: i32,
        #[serde(rename = "OOMKilled", default)]
        oom_killed: bool,
        #[serde(rename = "Error", default)]
        error: String,
        #[serde(rename = "StartedAt", default)]
        started_at: String,
        #[serde(rename = "FinishedAt", default)]
        finished_at: String,
    }
    let Inspected { id, state, labels } = serde_json::from_str(text)?;
    Ok(Container {
        id,
        status: state.status,
        exit_code: state.exit_code,
        oom_killed: state.oom_killed,
        error: state.error,
        started_at: engine_time(&state.started_at),
        finished_at: engine_time(&state.finished_at),
        instance: labels.and_then(|mut labels| labels.remove(INSTANCE_LABEL)),
    })
}

/// A time of the engine, which writes the year 1 for "never".
fn engine_time(text: &str) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().filter(|at| at.as_second() > 0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Status, parse_inspect};
    use jiff::Timestamp;
    use std::time::Duration;

    pub const EXITED: &str = r#"{"Id":"c1","State":{"Status":"exited","Running":false,"Paused":false,"Restarting":false,
        "OOMKilled":true,"Dead":false,"Pid":0,"ExitCode":137,"Error":"","StartedAt":"2026-01-02T03:04:05.5Z",
        "FinishedAt":"2026-01-02T03:04:07.750Z"},"Labels":{"open-aaas.instance":"i1","x":"y"}}"#;

    #[test]
    fn inspect_output_of_an_exited_container_is_parsed() {
        let container = parse_inspect(EXITED).unwrap();
        assert_eq!((container.status, container.exit_code, container.oom_killed), (Status::Exited, 137, true));
        assert_eq!(container.ran_for(Timestamp::now()), Duration::from_millis(2250));
        assert_eq!((container.id.as_str(), container.instance.as_deref()), ("c1", Some("i1")));
    }

    #[test]
    fn inspect_output_of_an_unstarted_container_is_parsed() {
        let text = EXITED
            .replace("exited", "created")
            .replace("2026-01-02T03:04:05.5Z", "0001-01-01T00:00:00Z")
            .replace(r#"{"open-aaas.instance":"i1","x":"y"}"#, "null");
        let container = parse_inspect(&text).unwrap();
        assert_eq!((container.status, container.started_at, container.instance.clone()), (Status::Created, None, None));
        assert_eq!(container.ran_for(Timestamp::now()), Duration::ZERO);
    }

    #[test]
    fn inspect_output_of_another_shape_is_an_error() {
        for text in ["", "null", "{}", r#"{"Id":"c1","State":{"Status":"dancing"}}"#] {
            assert!(parse_inspect(text).is_err(), "{text}");
        }
    }
}
