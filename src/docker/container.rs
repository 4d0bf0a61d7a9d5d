//! What the engine says of a container, read from what `docker inspect` prints.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Docker, DockerError, INSTANCE_LABEL, OFFERED_LABEL, REQUEST_TIMEOUT};

/// The `--format` that [`parse_inspect`] reads. docker knows the id as `.Id` too, podman doesn't.
const INSPECT_FORMAT: &str = r#"{"Id":{{json .ID}},"State":{{json .State}},"Labels":{{json .Config.Labels}},"StopSignal":{{json .Config.StopSignal}},"Mounts":{{json .Mounts}}}"#;

/// The state of a container, in the engine's words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    /// A word of another engine, such as podman's `stopping`: its container may be running or not.
    #[serde(untagged)]
    Other(String),
}

/// A container as the engine knows it, in the form of [`INSPECT_FORMAT`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Its id. A later container with the same name has another one.
    pub id: String,
    pub state: State,
    #[serde(default, deserialize_with = "own_labels")]
    pub labels: Labels,
    /// The signal by which the engine asks it to end, if it isn't TERM.
    #[serde(default, deserialize_with = "signal_word")]
    pub stop_signal: Option<String>,
    /// Whether it has volumes, as those that its image declares. Folders of the host aren't.
    #[serde(default, rename = "Mounts", deserialize_with = "has_volume")]
    pub has_volumes: bool,
}

/// The agent's labels of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// The agent that owns it.
    pub instance: Option<String>,
    /// When its task was offered; older versions didn't say it.
    pub offered: Option<String>,
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

/// Whether one of the mounts isn't a folder of the host. A form that isn't known may be one.
fn has_volume<'de, D: Deserializer<'de>>(mounts: D) -> Result<bool, D::Error> {
    let mounts = Value::deserialize(mounts)?;
    let is_folder = |mount: &Value| mount["Type"] == "bind" || mount["Type"] == "tmpfs";
    Ok(match &mounts {
        Value::Null => false,
        Value::Array(mounts) => !mounts.iter().all(is_folder),
        _ => true,
    })
}

impl Container {
    /// How long it ran, or has run until now.
    pub fn ran_for(&self, now: Timestamp) -> Duration {
        let Some(from) = self.state.started_at else { return Duration::ZERO };
        let until = self.state.finished_at.filter(|at| *at >= from).unwrap_or(now);
        Duration::try_from(until.duration_since(from)).unwrap_or(Duration::ZERO)
    }
}

impl Docker {
    /// The container with this name or id, or `None` if there is none.
    pub fn inspect(&self, name: &str) -> Result<Option<Container>, DockerError> {
        let inspected =
            self.run(&["inspect", "--type", "container", "--format", INSPECT_FORMAT, name], REQUEST_TIMEOUT)?;
        if inspected.success {
            return parse_inspect(&inspected.stdout)
                .map(Some)
                .map_err(|error| DockerError::Unreachable(format!("docker inspect gave no usable answer: {error}")));
        }
        // A failed inspect may mean that the container is absent or that the engine is. Only a successful listing
        // without it means the former.
        if self.is_listed(name)? { Err(DockerError::Unreachable(inspected.stderr)) } else { Ok(None) }
    }

    /// Whether the engine has a container of this name or id in a listing of all. Engines differ in how they filter: docker
    /// knows names with a slash before them and podman without, and both find parts of names and ids.
    fn is_listed(&self, name: &str) -> Result<bool, DockerError> {
        let key = if is_id(name) { "id" } else { "name" };
        let filter = format!("{key}={name}");
        let lines = self.list(&["ps", "-a", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Names}}"])?;
        Ok(lines.iter().any(|line| line.split([' ', ',']).any(|word| word == name)))
    }
}

/// Whether this is the whole id of a container, which no name of the agent's containers is.
pub fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reads what `docker inspect` prints in [`INSPECT_FORMAT`].
pub(super) fn parse_inspect(text: &str) -> Result<Container, serde_json::Error> {
    serde_json::from_str(text)
}

fn own_labels<'de, D: Deserializer<'de>>(labels: D) -> Result<Labels, D::Error> {
    let labels: Option<HashMap<String, String>> = Option::deserialize(labels)?;
    let mut labels = labels.unwrap_or_default();
    Ok(Labels { instance: labels.remove(INSTANCE_LABEL), offered: labels.remove(OFFERED_LABEL) })
}

/// A signal: a word of docker's, a number of podman's, or none.
fn signal_word<'de, D: Deserializer<'de>>(signal: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(signal)? {
        Value::String(word) if !word.is_empty() => Some(word),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// A time of the engine, which writes the year 1 for "never".
fn engine_time<'de, D: Deserializer<'de>>(time: D) -> Result<Option<Timestamp>, D::Error> {
    let time: Option<Timestamp> = String::deserialize(time)?.parse().ok();
    Ok(time.filter(|at| at.as_second() > 0))
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Status, parse_inspect};
    #[cfg(unix)]
    use crate::docker::{DockerError, stand_in::stand_in};
    use jiff::Timestamp;
    use std::time::Duration;

    pub const EXITED: &str = r#"{"Id":"c1","State":{"Status":"exited","Running":false,"Paused":false,"Restarting":false,
        "OOMKilled":true,"Dead":false,"Pid":0,"ExitCode":137,"Error":"","StartedAt":"2026-01-02T03:04:05.5Z",
        "FinishedAt":"2026-01-02T03:04:07.750Z"},"Labels":{"open-aaas.instance":"i1","x":"y"}}"#;

    #[test]
    fn inspect_output_of_an_exited_container_is_parsed() {
        let container = parse_inspect(EXITED).unwrap();
        assert_eq!(
            (container.state.status.clone(), container.state.exit_code, container.state.oom_killed),
            (Status::Exited, 137, true)
        );
        assert_eq!(container.ran_for(Timestamp::now()), Duration::from_millis(2250));
        assert_eq!((container.id.as_str(), container.labels.instance.as_deref()), ("c1", Some("i1")));
    }

    #[test]
    fn inspect_output_of_an_unstarted_container_is_parsed() {
        let text = EXITED
            .replace("exited", "created")
            .replace("2026-01-02T03:04:05.5Z", "0001-01-01T00:00:00Z")
            .replace(r#"{"open-aaas.instance":"i1","x":"y"}"#, "null");
        let container = parse_inspect(&text).unwrap();
        assert_eq!(
            (container.state.status.clone(), container.state.started_at, container.labels.instance.clone()),
            (Status::Created, None, None)
        );
        assert_eq!(container.ran_for(Timestamp::now()), Duration::ZERO);
    }

    #[test]
    fn inspect_output_of_another_shape_is_an_error() {
        for text in ["", "null", "{}", r#"{"Id":"c1","State":{"Status":7}}"#] {
            assert!(parse_inspect(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_state_of_another_engine_is_kept_in_its_words() {
        for word in ["configured", "initialized", "stopping", "stopped", "unknown", "Dancing"] {
            let container = parse_inspect(&EXITED.replace("exited", word)).unwrap();
            assert_eq!(container.state.status, Status::Other(word.to_owned()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_a_container_of_exactly_this_name_or_id_is_there() {
        let (name, id) = ("open-aaas-task-a.b", "0123456789abcdef".repeat(4));
        let other = "f".repeat(64);
        let table = [
            (String::new(), None),
            (format!("{other} {name}-2\n"), None),
            (format!("{other} x{name}\n"), None),
            (format!("{other} {name}-2\n{id} {name}\n"), Some(())),
            (format!("{id} peer/alias,{name}\n"), Some(())),
            ("Error: no such command\n".to_owned(), None),
        ];
        let dir = tempfile::tempdir().unwrap();
        for (listing, there) in table {
            let script =
                format!("case $1 in ps) printf '%s' '{listing}' ;; *) echo 'no such thing' >&2; exit 1 ;; esac");
            let docker = stand_in(dir.path(), &script);
            let found = |wanted: &str| match docker.inspect(wanted) {
                Ok(None) => None,
                Err(DockerError::Unreachable(why)) if why == "no such thing" => Some(()),
                other => panic!("{other:?}"),
            };
            assert_eq!(found(name), there, "{listing:?}");
            assert_eq!(found(&id), there, "{listing:?}");
        }
        // No listing, no answer.
        let silent = stand_in(dir.path(), "echo 'No such container: x' >&2; exit 1");
        assert!(matches!(silent.inspect("x"), Err(DockerError::Unreachable(_))));
    }

    #[cfg(unix)]
    #[test]
    fn podman_is_asked_in_words_that_it_knows() {
        let dir = tempfile::tempdir().unwrap();
        let answer = EXITED.replace('\n', " ").replace("exited", "stopping");
        // podman has no `.Id` behind a function, and no slash before its names.
        let script = format!(
            r#"case "$*" in
            *'json .Id}}'*) printf '{{"Id":'; echo 'Error: can not evaluate field Id' >&2; exit 125 ;;
            ps*'^/'*) ;;
            ps*open-aaas-task-there*) echo '{id} open-aaas-task-there' ;;
            ps*) ;;
            inspect*open-aaas-task-seen) echo '{answer}' ;;
            *) exit 125 ;;
            esac"#,
            id = "0123456789abcdef".repeat(4),
        );
        let podman = stand_in(dir.path(), &script);
        let seen = podman.inspect("open-aaas-task-seen").unwrap().unwrap();
        assert_eq!(seen.state.status, Status::Other("stopping".to_owned()));
        assert!(podman.inspect("open-aaas-task-there").is_err(), "it is there, and can't be inspected");
        assert_eq!(podman.inspect("open-aaas-task-absent").unwrap(), None);
    }
}
