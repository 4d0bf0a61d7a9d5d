//! Looks at the container beside its client: the engine is asked in another way, so that a client that hangs before the
//! container's start, or after its end, is found out.

use std::time::{Duration, Instant};

use super::Watch;
use crate::config::container_options::Pull;
use crate::docker::Container;
use crate::docker::Status;
use crate::units::Span;

/// How many times as long as a silent client a client may outlive its container that still prints.
const PRINTING: u32 = 12;

/// What the looks have shown.
pub(super) struct Looks {
    next: Instant,
    /// Since when the container is known to have ended.
    ended_since: Option<Instant>,
    /// The wait for the container's start, until it has started.
    start: Option<Start>,
}

/// The wait for a container's start.
struct Start {
    began: Instant,
    /// Since when nothing but the start itself is waited for: the image is here.
    since: Instant,
    next_reminder: Duration,
}

/// What a look means for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    GoOn,
    /// The container has ended or was removed, and the client doesn't end.
    Outlived,
    /// The client hasn't started the container within this time.
    Overdue(Duration),
}

impl Looks {
    /// The looks at a container that a client is still to start, or that has started.
    pub(super) fn new(has_started: bool, first: Duration, reminder: Duration) -> Self {
        let began = Instant::now();
        let start = (!has_started).then_some(Start { began, since: began, next_reminder: reminder });
        Self { next: began + first, ended_since: None, start }
    }

    /// Whether the container is known to have started.
    pub(super) fn has_started(&self) -> bool {
        self.start.is_none()
    }
}

impl Watch<'_> {
    /// Asks the engine for the container, where a look is due. An engine that doesn't answer says nothing of it.
    pub(super) fn look(&mut self) -> Look {
        // A client whose container is being stopped has a limit of its own.
        if Instant::now() < self.looks.next || self.task.record.stop.is_some() {
            return Look::GoOn;
        }
        let id = self.task.files.load_cid();
        let found = self.container.docker.inspect(id.as_deref().unwrap_or(&self.container.name));
        self.looks.next = Instant::now() + self.container.limits.look;
        let status = match found {
            Ok(found) => {
                let is_its =
                    |found: &Container| self.container.is_ours(found) && !self.container.is_leftover(found, self.task);
                found.filter(is_its).map(|found| found.state.status)
            }
            Err(error) => {
                log::debug!(task:% = self.task.key(); "looking at the container: {error}");
                return if self.looks.start.is_some() { self.note_unstarted() } else { Look::GoOn };
            }
        };
        match status {
            Some(Status::Running | Status::Paused | Status::Restarting) => {
                (self.looks.start, self.looks.ended_since) = (None, None);
                Look::GoOn
            }
            Some(Status::Exited | Status::Dead | Status::Removing) => self.note_ended(),
            None if id.is_some() || self.looks.start.is_none() => self.note_ended(),
            None | Some(Status::Created | Status::Other(_)) if self.looks.start.is_some() => self.note_unstarted(),
            None | Some(Status::Created | Status::Other(_)) => Look::GoOn,
        }
    }

    /// Whether a container without a client is known to have ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.look();
        self.looks.ended_since.is_some()
    }

    /// The client ends a moment after its container, and later where it still has output to print.
    fn note_ended(&mut self) -> Look {
        let outlived = self.container.limits.outlived;
        let since = self.looks.ended_since.get_or_insert_with(Instant::now).elapsed();
        self.looks.next = Instant::now() + outlived / 2;
        let is_silent = self.last_output.elapsed() >= outlived;
        if since < outlived || !is_silent && since < outlived * PRINTING {
            return Look::GoOn;
        }
        log::warn!(task:% = self.task.key(); "the container has ended and its docker client hasn't; ending the client");
        Look::Outlived
    }

    /// The image's pull has a limit of its own, since docker last said something of it.
    fn note_unstarted(&mut self) -> Look {
        let executor = &self.container.config.executor;
        let is_always = executor.options.pull == Some(Pull::Always) && !self.task.files.has_cid();
        let is_pulling = is_always || self.container.docker.has_image(&executor.image).is_ok_and(|is_here| !is_here);
        let limits = self.container.limits;
        let Some(start) = &mut self.looks.start else { return Look::GoOn };
        let (limit, since) = if is_pulling {
            start.since = Instant::now();
            (limits.pull, start.began.max(self.last_output))
        } else {
            (limits.start, start.since)
        };
        let waited = start.began.elapsed();
        if waited >= start.next_reminder {
            start.next_reminder = waited + limits.reminders[1];
            let what = if is_pulling { "docker may still be pulling the image" } else { "the image is here" };
            log::info!(task:% = self.task.key(); "docker hasn't started the container yet, {} so far; {what}", Span(waited));
        }
        if since.elapsed() < limit {
            return Look::GoOn;
        }
        log::warn!(task:% = self.task.key(); "docker hasn't started the container within {}; ending its client", Span(limit));
        Look::Overdue(limit)
    }
}
