//! The rules of `[server]`, `[agent]`, `[paths]` and `[outputs]`.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::container_options::HostPath;
use super::host_path::{is_at_home, resolve_host};
use super::problem::Findings;
use super::reader::Section;
use super::values::{clean_base_url, is_api_key, is_container_path, is_service_id, normalize};
use super::{
    AgentConfig, Archive, Credentials, Environment, Exclude, Mount, OutputsConfig, PathsConfig, Secret, ServerConfig,
    VariableKeys, WORKSPACE,
};
use crate::data_dir::DataDir;

const MIB: u64 = 1 << 20;

pub(super) fn read_server(mut section: Section<'_>, file: &Path, findings: &mut Findings) -> Option<ServerConfig> {
    let remedy = "write the Server's address, such as \"http://127.0.0.1:8080\"";
    let base_url = section.required_text("base_url", remedy).and_then(|written| {
        let cleaned = clean_base_url(&written);
        cleaned.map_err(|wrong| section.refuse("base_url", format_args!("{wrong}: `{written}`"))).ok()
    });
    let poll_interval = Duration::from_secs(section.integer("poll_interval_secs"));
    let keys = read_variable_keys(&mut section, file);
    let use_system_proxy = section.boolean("use_system_proxy") || keys.proxy.is_some();
    let max_requests_per_minute = section.size("max_requests_per_minute");
    if (1..20).contains(&max_requests_per_minute) {
        let wrong = "must be 0 (no limit) or at least 20: heartbeats and polls alone need that";
        section.refuse("max_requests_per_minute", wrong);
    }
    section.finish(findings);
    Some(ServerConfig {
        base_url: base_url?,
        poll_interval,
        use_system_proxy,
        environment: Environment::default().with_keys(keys),
        max_requests_per_minute,
    })
}

/// The keys of this section that stand for variables. No message shows a proxy's address, which may hold a password.
fn read_variable_keys(section: &mut Section<'_>, file: &Path) -> VariableKeys {
    let is_proxy = |text: &str| {
        let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(|c: char| c.is_whitespace() || c.is_control()))
    };
    let proxy = section.optional_text("proxy");
    if proxy.as_ref().is_some_and(|proxy| !is_proxy(proxy)) {
        section.refuse("proxy", "must be the address of a proxy, http://HOST:PORT or https://HOST:PORT");
    }
    let ca_file = section.optional_text("ca_file");
    let ca_file = ca_file.and_then(|written| match resolve_host(file, &written) {
        Ok(path) => Some(path),
        Err(wrong) => {
            section.refuse("ca_file", wrong);
            None
        }
    });
    VariableKeys { proxy: proxy.map(Secret::new), ca_file, docker_host: None }
}

pub(super) fn read_agent(mut section: Section<'_>, findings: &mut Findings) -> AgentConfig {
    let service_id = section.optional_text("service_id").filter(|id| !id.is_empty());
    let api_key = section.optional_text("api_key").filter(|key| !key.is_empty());
    let name = section.text("name");
    let wrong = match (&service_id, &api_key) {
        (Some(id), _) if !is_service_id(id) => Some(("service_id", "holds characters that no id has")),
        (_, Some(key)) if !is_api_key(key) => Some(("api_key", "holds characters that no key has")),
        // A value of a wrong type is recorded already.
        _ if section.has_problems() => None,
        (Some(_), None) => Some(("service_id", "stands without `agent.api_key`")),
        (None, Some(_)) => Some(("api_key", "stands without `agent.service_id`")),
        _ => None,
    };
    if let Some((key, why)) = wrong {
        section.refuse(key, format_args!("{why}; register again"));
    }
    section.finish(findings);
    let credentials =
        service_id.zip(api_key).map(|(service_id, api_key)| Credentials { service_id, api_key: Secret::new(api_key) });
    AgentConfig { credentials, name }
}

/// `sources` are what `executor.docker_args` mounts.
pub(super) fn read_paths(
    mut section: Section<'_>,
    file: &Path,
    sources: &[HostPath],
    findings: &mut Findings,
) -> Option<PathsConfig> {
    let written = section.text("data_dir");
    let data_dir = resolve_host(file, &written).map_err(|wrong| section.refuse("data_dir", wrong)).ok();
    let min_free_disk_mb = section.integer("min_free_disk_mb");
    let retention_hours = Some(section.integer("retention_hours")).filter(|hours| *hours > 0);
    let mut mounts = Vec::new();
    let (mut targets, mut seen) = (HashSet::new(), sources.to_vec());
    for mut entry in section.sections("mounts") {
        if let Some(mount) = read_mount(&mut entry, file, &mut targets) {
            let host = HostPath { path: mount.host.clone(), readonly: mount.readonly };
            if let Some(other) = seen.iter().find(|other| other.exposes(&host.path) || host.exposes(&other.path)) {
                let other = other.path.display();
                entry.refuse(
                    "host",
                    format_args!(
                        "and `{other}`: one lies in the other, which tasks may write to, so a task could put a link to any \
                         folder of this machine in its place; mount the outer one only, or set its `readonly = true`"
                    ),
                );
            }
            seen.push(host);
            mounts.push(mount);
        }
        entry.finish(findings);
    }
    section.finish(findings);
    Some(PathsConfig { data_dir: DataDir::new(data_dir?), mounts, min_free_disk_mb, retention_hours })
}

fn read_mount(entry: &mut Section<'_>, file: &Path, targets: &mut HashSet<String>) -> Option<Mount> {
    let host = entry.required_text("host", "write the folder of this machine that the container is to see");
    let container = entry.required_text("container", "write the absolute path where the container is to see it");
    let readonly = entry.boolean("readonly");
    let (host, container) = (host?, container?);
    let target = normalize(&container);
    let wrong = if !is_container_path(&container) || target == "/" {
        format!("must be an absolute path inside the container, not `{container}`")
    } else if target == WORKSPACE || [format!("{WORKSPACE}/task.json"), format!("{WORKSPACE}/input")].contains(&target)
    {
        format!("must leave `{target}` to the task")
    } else if !targets.insert(target.clone()) {
        format!("names `{target}`, which another mount has already")
    } else {
        let relative = !is_at_home(&host) && Path::new(&host).is_relative();
        let resolved = resolve_host(file, &host).map_err(|wrong| entry.refuse("host", wrong)).ok();
        return resolved.map(|host| Mount { host, relative, container: target, readonly });
    };
    entry.refuse("container", wrong);
    None
}

pub(super) fn read_outputs(mut section: Section<'_>, findings: &mut Findings) -> OutputsConfig {
    let max_file = section.integer("max_file_mb") * MIB;
    let max_files = section.size("max_files");
    let max_total = section.integer("max_total_mb") * MIB;
    let patterns = section.texts("exclude").unwrap_or_default();
    let exclude = Exclude::new(&patterns).map_err(|wrong| section.refuse("exclude", wrong)).unwrap_or_default();
    let notes = section.boolean("notes");
    let words = [("never", Archive::Never), ("many", Archive::Many), ("always", Archive::Always)];
    let archive = section.choice("archive", &words).unwrap_or(Archive::Never);
    section.finish(findings);
    OutputsConfig { max_file, max_files, max_total, exclude, notes, archive }
}
