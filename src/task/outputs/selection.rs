//! Selects the results that may be delivered.

use std::collections::BinaryHeap;

use super::{OutputFile, Skipped};
use crate::config::OutputsConfig;

/// How many bytes the paths of the results may have together: so many for each of `outputs.max_files`, and for all. A
/// container can give every file a path of 4 kB, of which several copies are held until the delivery.
const PATH_BYTES_EACH: usize = 1024;
const PATH_BYTES: usize = 64 * 1024;

/// The results that may be delivered, of those that were pushed so far.
pub struct Selection<'l> {
    limits: &'l OutputsConfig,
    heap: BinaryHeap<OutputFile>,
    path_bytes: usize,
    beyond: Skipped,
}

impl<'l> Selection<'l> {
    pub fn new(limits: &'l OutputsConfig) -> Self {
        Self { limits, heap: BinaryHeap::new(), path_bytes: 0, beyond: Skipped::default() }
    }

    pub fn push(&mut self, file: OutputFile) {
        if let Err(reason) = check_size(file.size, self.limits) {
            self.beyond.skip_deliverable(file.name, reason);
            return;
        }
        self.path_bytes += file.name.len();
        self.heap.push(file);
        while self.heap.len() > self.limits.max_files || self.path_bytes > most_path_bytes(self.limits) {
            let reason = match self.heap.len() > self.limits.max_files {
                true => beyond_max_files(self.limits),
                false => beyond_path_bytes(self.limits),
            };
            let Some(last) = self.heap.pop() else { return };
            self.path_bytes -= last.name.len();
            self.beyond.skip_deliverable(last.name, reason);
        }
    }

    /// The results in the order of choice. What goes beyond the limits is added to `skipped`.
    pub fn finish(self, skipped: &mut Skipped) -> Vec<OutputFile> {
        let Self { limits, heap, beyond, .. } = self;
        let mut total = 0;
        let mut files = heap.into_sorted_vec();
        files.retain(|file| {
            if total + file.size <= limits.max_total {
                total += file.size;
                return true;
            }
            skipped.skip_deliverable(file.name.clone(), beyond_max_total(limits));
            false
        });
        skipped.add(beyond);
        skipped.undelivered.sort_by(|a, b| a.file.cmp(&b.file));
        files
    }
}

/// Whether one file may be delivered at all.
///
/// # Errors
/// The reason for skipping it.
pub fn check_size(size: u64, limits: &OutputsConfig) -> Result<(), String> {
    if size <= limits.max_file {
        return Ok(());
    }
    Err(format!("{size} bytes are more than the {} MB of `outputs.max_file_mb`", limits.max_file >> 20))
}

pub fn beyond_max_files(limits: &OutputsConfig) -> String {
    format!("beyond the {} files that are delivered (`outputs.max_files`)", limits.max_files)
}

/// How many bytes the paths of the results may have together.
pub fn most_path_bytes(limits: &OutputsConfig) -> usize {
    PATH_BYTES.saturating_add(limits.max_files.saturating_mul(PATH_BYTES_EACH))
}

pub fn beyond_path_bytes(limits: &OutputsConfig) -> String {
    let most = most_path_bytes(limits);
    format!("the paths of the files before it have {most} bytes, and no more are delivered")
}

pub fn beyond_max_total(limits: &OutputsConfig) -> String {
    format!("beyond the {} MB that are delivered (`outputs.max_total_mb`)", limits.max_total >> 20)
}
