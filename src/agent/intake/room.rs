//! Room on the disk for the input files of an offered task.

use std::time::{Duration, Instant};

use super::Intake;
use crate::agent::health::RecheckRequest;
use crate::os::platform;
use crate::units::Bytes;

/// For so long an offer without room stays on the Server, where an agent with a larger disk may accept it. All the time it
/// hides every task behind it (PROTOCOL 1), so after that it waits here.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often the health thread is asked to make room on the disk.
const ROOM_INTERVAL: Duration = Duration::from_secs(60);

/// What an offered task needs on the disk.
pub(super) struct Wanted<'o> {
    /// The task's id.
    pub id: &'o str,
    /// The announced bytes of its input files.
    pub announced: u64,
    /// What is written of the offer itself.
    pub texts: u64,
    /// What other tasks need that aren't prepared.
    pub others: u64,
}

/// The offer that the disk has no room for.
#[derive(Default)]
pub(super) struct Room {
    waiting: Option<Waiting>,
    /// When the health thread was asked last to make room.
    asked_at: Option<Instant>,
}

struct Waiting {
    id: String,
    since: Instant,
    last: Instant,
}

impl Room {
    /// There is no room for this task. Returns whether it has been offered for so long that it waits here.
    fn is_over(&mut self, id: &str, now: Instant) -> bool {
        let is_known =
            |waiting: &&mut Waiting| waiting.id == id && now.saturating_duration_since(waiting.last) < PATIENCE;
        match self.waiting.as_mut().filter(is_known) {
            Some(waiting) => {
                waiting.last = now;
                now.saturating_duration_since(waiting.since) >= PATIENCE
            }
            None => {
                self.waiting = Some(Waiting { id: id.to_owned(), since: now, last: now });
                false
            }
        }
    }

    /// Whether the health thread is to be asked now.
    fn is_asking_due(&mut self, now: Instant) -> bool {
        let is_due = self.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= ROOM_INTERVAL);
        if is_due {
            self.asked_at = Some(now);
        }
        is_due
    }
}

impl Intake {
    /// Checks that the announced input files of a new task, and what is written of its offer, fit on the disk, beside
    /// those of other tasks that aren't complete. A task that would fit on no disk of this size may be accepted: its
    /// preparation fails it, so that it doesn't wait for ever before the tasks behind it. For the same reason one that
    /// has waited for long is accepted: it goes on waiting here, without a slot.
    pub(super) fn check_room(&mut self, wanted: &Wanted<'_>) -> Result<(), String> {
        let Wanted { id, announced, texts, others } = *wanted;
        let paths = &self.context.config().paths;
        let keep_free = paths.keep_free();
        // The health thread reports a disk whose space can't be read.
        let Ok((free, size)) =
            platform::free_disk(&paths.data_dir).and_then(|free| Ok((free, platform::disk_size(&paths.data_dir)?)))
        else {
            return Ok(());
        };
        let needed = |bytes: u64| bytes.saturating_add(texts).saturating_add(others).saturating_add(keep_free);
        let now = Instant::now();
        let fits_no_disk = announced > size.saturating_sub(keep_free);
        if needed(announced) <= free || (needed(0) <= free && (fits_no_disk || self.offers.room.is_over(id, now))) {
            return Ok(());
        }
        if self.offers.room.is_asking_due(now) {
            // The health thread ends only with the agent.
            let _ = self.host.rechecks.send(RecheckRequest::MakeRoom(needed(announced)));
        }
        // Without the number of the moment: a message that stays the same is logged once.
        Err(format!(
            "its input files and texts need {}, and the disk of `{}` hasn't so much room beside those of other tasks and \
             the {} that stay free (`paths.min_free_disk_mb`); make room there, or cancel the task on the Server",
            Bytes(announced.saturating_add(texts)),
            paths.data_dir.display(),
            Bytes(keep_free)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{PATIENCE, Room};
    use std::time::{Duration, Instant};

    #[test]
    fn an_offer_without_room_waits_here_after_ten_minutes() {
        let (mut room, start) = (Room::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!((0..600).step_by(5).all(|second| !room.is_over("a", at(second))));
        assert!(room.is_over("a", at(600)));
        assert!(!room.is_over("b", at(601)), "the next one");
        assert!(!room.is_over("b", at(601) + PATIENCE), "it was not offered meanwhile");
    }
}
