//! Every key of the configuration file, with its type, its bounds and its default.
//!
//! [`super::reader`] looks up here what it reads, so a default stands nowhere else. A test compares the template of
//! `init` and the manual with this list.

/// What may be written as a key's value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text; with its default.
    Text(Option<&'static str>),
    /// `true` or `false`; with its default.
    Boolean(bool),
    /// A whole number; with the smallest and the largest that are valid, and its default.
    Integer(u64, u64, Option<u64>),
    /// A number, written as a number or as a text.
    Decimal,
    /// A list of texts.
    Texts,
    /// A list whose items are texts or whole numbers, or a single item.
    Words,
    /// A section whose keys are free and whose values are texts that no message shows.
    Secrets,
}

use Kind::{Boolean, Decimal, Integer, Secrets, Text, Texts, Words};

/// Five years, in minutes.
const LONGEST_TIMEOUT: u64 = 5_256_000;

/// The full names of all keys. Keys of `[[paths.mounts]]` are named as those of a section.
pub const KEYS: &[(&str, Kind)] = &[
    ("server.base_url", Text(None)),
    ("server.poll_interval_secs", Integer(1, 3600, Some(5))),
    ("server.use_system_proxy", Boolean(false)),
    ("server.proxy", Text(None)),
    ("server.ca_file", Text(None)),
    ("server.max_requests_per_minute", Integer(0, 100_000, Some(140))),
    ("agent.service_id", Text(None)),
    ("agent.api_key", Text(None)),
    ("agent.name", Text(Some("agent-core"))),
    ("executor.executor_type", Text(Some("standard"))),
    ("executor.image", Text(Some("open-aaas-executor:latest"))),
    ("executor.capacity", Integer(1, 1000, Some(2))),
    ("executor.timeout_minutes", Integer(0, LONGEST_TIMEOUT, Some(0))),
    ("executor.idle_timeout_minutes", Integer(0, LONGEST_TIMEOUT, Some(0))),
    ("executor.docker", Text(Some("docker"))),
    ("executor.docker_host", Text(None)),
    ("executor.memory_limit", Text(None)),
    ("executor.working_dir", Text(Some("/workspace"))),
    ("executor.script_path", Text(None)),
    ("executor.custom_entrypoint", Texts),
    ("executor.custom_args", Texts),
    ("executor.isolation", Text(Some("standard"))),
    ("executor.network", Text(None)),
    ("executor.cpus", Decimal),
    ("executor.pids_limit", Integer(0, 4_194_304, None)),
    ("executor.shm_size", Text(None)),
    ("executor.user", Text(None)),
    ("executor.env", Secrets),
    ("executor.gpus", Words),
    ("executor.gpu.vendor", Text(None)),
    ("executor.gpu.devices", Words),
    ("executor.enable_host_access", Boolean(false)),
    ("executor.pull", Text(None)),
    ("executor.docker_args", Texts),
    ("paths.data_dir", Text(Some("./data"))),
    ("paths.min_free_disk_mb", Integer(0, 1 << 40, Some(1024))),
    ("paths.retention_hours", Integer(0, 1_000_000, Some(168))),
    ("paths.mounts.host", Text(None)),
    ("paths.mounts.container", Text(None)),
    ("paths.mounts.readonly", Boolean(false)),
    ("outputs.max_file_mb", Integer(1, 1 << 30, Some(50))),
    ("outputs.max_files", Integer(1, 1_000_000, Some(1000))),
    ("outputs.max_total_mb", Integer(1, 1 << 30, Some(2048))),
    ("outputs.exclude", Texts),
    ("outputs.notes", Boolean(true)),
    ("outputs.archive", Text(Some("never"))),
];

/// The names of the keys and sections that a section can hold. The file itself is the section with an empty name.
pub fn names_in(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |(name, _)| {
        let rest = if section.is_empty() { name } else { name.strip_prefix(section)?.strip_prefix('.')? };
        rest.split('.').next()
    })
}

/// The kind of the key with this full name.
pub fn kind_of(name: &str) -> Kind {
    let found = KEYS.iter().find(|(known, _)| *known == name);
    // Each file that is read looks up the same keys, so the first test meets a name that is missing.
    found.map_or_else(|| unreachable!("`{name}` is missing from the list of keys"), |(_, kind)| *kind)
}

/// The default of the key with this full name, as text.
pub fn default_of(name: &str) -> Option<String> {
    match kind_of(name) {
        Text(default) => default.map(str::to_owned),
        Boolean(default) => Some(default.to_string()),
        Integer(_, _, default) => default.map(|number| number.to_string()),
        Decimal | Texts | Words | Secrets => None,
    }
}

#[cfg(test)]
mod tests;
