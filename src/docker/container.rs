//! What the engine says of a container, read from what `docker inspect` prints.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

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

/// A container as the engine knows it, in the form of [`INSPECT_FORMAT`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Its id. A later container with the same name has another one.
    pub id: String,
    pub state: State,
    /// The agent that owns it, by its label.
    #[serde(default, rename = "Labels", deserialize_with = "instance_label")]
    pub instance: Option<String>,
}

/// What a container does, or how it ended.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct State {
    pub status: Status,
    /// The exit status of its first process; valid once it has exited.
    #[serde(default)]
    pub exit_code: i32,
    /// Whether the kernel killed it because of its memory limit.
    #[serde(default, rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Why the engine couldn't start it, or empty.
    #[serde(default)]
    pub error: String,
    /// The time of the last start.
    #[serde(default, deserialize_with = "engine_time")]
    pub started_at: Option<Timestamp>,
    /// The time of the last exit.
    #[serde(default, deserialize_with = "engine_time")]
    pub finished_at: Option<Timestamp>,
}

impl Container {
    /// How long it ran, or has run until now.
    pub fn ran_for(&self, now: Timestamp) -> Duration {
        let Some(from) = self.state.started_at else { return Duration::ZERO };
        let until = self.state.finished_at.filter(|at| *at >= from).unwrap_or(now);
        Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO)
    }
}

/// Reads what `docker inspect` prints in [`INSPECT_FORMAT`].
pub(super) fn parse_inspect(text: &str) -> Result<Container, serde_json::Error> {
    serde_json::from_str(text)
}

fn instance_label<'de, D: Deserializer<'de>>(labels: D) -> Result<Option<String>, D::Error> {
    let labels: Option<HashMap<String, String>> = Option::deserialize(labels)?;
    Ok(labels.and_then(|mut labels| labels.remove(INSTANCE_LABEL)))
}

/// A time of the engine, which writes the year 1 for "never".
fn engine_time<'de, D: Deserializer<'de>>(time: D) -> Result<Option<Timestamp>, D::Error> {
    let time: Option<Timestamp> = String::deserialize(time)?.parse().ok();
    Ok(time.filter(|at| at.as_second() > 0))
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
        assert_eq!(
            (container.state.status, container.state.exit_code, container.state.oom_killed),
            (Status::Exited, 137, true)
        );
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
        assert_eq!(
            (container.state.status, container.state.started_at, container.instance.clone()),
            (Status::Created, None, None)
        );
        assert_eq!(container.ran_for(Timestamp::now()), Duration::ZERO);
    }

    #[test]
    fn inspect_output_of_another_shape_is_an_error() {
        for text in ["", "null", "{}", r#"{"Id":"c1","State":{"Status":"dancing"}}"#] {
            assert!(parse_inspect(text).is_err(), "{text}");
        }
    }
}
