//! Reads the configuration file again while the agent runs, on request of `reload` or on SIGHUP.

use std::time::Instant;

use jiff::Timestamp;

use super::Intake;
use crate::agent::health::RecheckRequest;
use crate::agent::messages::IntakeRequest;
use crate::agent::status_file::Reload;
use crate::config::{Config, Reloaded};
use crate::data_dir::RELOAD_REQUEST;
use crate::data_dir::instance::ReloadRequest;
use crate::logging;
use crate::os::platform;

impl Intake {
    /// Looks for a request.
    pub(super) fn check_reload_request(&mut self, now: Instant) {
        let config = self.context.config();
        let request = ReloadRequest::load(&config.paths.data_dir, std::process::id());
        // One that can't be removed would be obeyed every second.
        let request = request.filter(|request| self.operator.note_reload(&request.id));
        if request.is_some() {
            if let Err(error) = self.context.folder.remove(RELOAD_REQUEST) {
                log::warn!("the request to read the configuration again can't be removed: {error}");
            }
        }
        let is_signalled = platform::take_hang_up();
        if request.is_none() && !is_signalled {
            return;
        }
        let (id, log_level) = request.map_or_else(Default::default, |request| (request.id, request.log_level));
        let at = Timestamp::now();
        let (error, lines) = match self.reload(&log_level, now) {
            Ok(lines) => (None, lines),
            Err(error) => (Some(error), Vec::new()),
        };
        self.status.note_reload(Reload { id, at, error, lines });
    }

    /// Returns what has changed, in lines for a person.
    ///
    /// # Errors
    /// The file can't be used, for this reason. Nothing has changed.
    fn reload(&mut self, log_level: &str, now: Instant) -> Result<Vec<String>, String> {
        let file = self.context.config().file.clone();
        let result = Config::load(&file).map_err(|error| error.to_string()).and_then(|new| self.apply(new));
        let mut lines = match result {
            Ok(lines) => lines,
            Err(error) => {
                let mistakes = error.replace('\n', "; ");
                log::error!("the configuration file can't be used; the agent goes on as before: {mistakes}");
                return Err(error);
            }
        };
        if !log_level.is_empty() {
            lines.push(format!("The log level is `{}` until the next start.", logging::set_level(log_level)));
        }
        for line in &lines {
            log::info!("configuration read again: {line}");
        }
        self.dispatch_due(now);
        Ok(lines)
    }

    fn apply(&mut self, new: Config) -> Result<Vec<String>, String> {
        let warnings: Vec<String> = new.warnings.iter().map(ToString::to_string).collect();
        // Before anything changes: a machine may have no thread left.
        let capacity = new.executor.capacity;
        self.workers.grow(capacity).map_err(|error| format!("threads for more tasks can't be started: {error}"))?;
        let Reloaded { changed, kept } = self.context.shared_config.replace(new);
        self.table.set_capacity(capacity);
        // A full health report comes soon.
        self.admission.note_reloaded(changed.iter().any(|name| may_repair(name)));
        self.request(IntakeRequest::PollInterval(self.context.config().server.poll_interval));
        // The health thread ends only with the agent.
        let _ = self.host.rechecks.send(RecheckRequest::Reloaded);
        self.request_heartbeat();
        self.request(IntakeRequest::PollSoon);
        let mut lines = warnings;
        lines.push(match changed.as_slice() {
            [] => "Nothing that can change while the agent runs has changed.".to_owned(),
            changed => format!("Changed, for tasks that begin from now on: {}.", changed.join(", ")),
        });
        if !kept.is_empty() {
            lines.push(format!("Only a restart changes these, which stay as they were: {}.", kept.join(", ")));
        }
        Ok(lines)
    }
}

/// Whether another value of this key may be what makes containers start and programs run, as [`Reloaded::changed`] has it.
fn may_repair(changed: &str) -> bool {
    changed.starts_with("executor.") || ["options of `docker run`", "paths.mounts"].contains(&changed)
}
