//! Selects the results that may be delivered.

use std::collections::BinaryHeap;

use super::{OutputFile, Skipped};
use crate::config::OutputsConfig;

/// The results that may be delivered, of those that were pushed so far.
pub struct Selection<'l> {
    limits: &'l OutputsConfig,
    heap: BinaryHeap<OutputFile>,
    beyond: Skipped,
}

impl<'l> Selection<'l> {
    pub fn new(limits: &'l OutputsConfig) -> Self {
        Self { limits, heap: BinaryHeap::new(), beyond: Skipped::default() }
    }

    pub fn push(&mut self, file: OutputFile) {
        if let Err(reason) = check_size(file.size, self.limits) {
            self.beyond.skip_deliverable(file.name, reason);
            return;
        }
        self.heap.push(file);
        if self.heap.len() > self.limits.max_files {
            if let Some(last) = self.heap.pop() {
                self.beyond.skip_deliverable(last.name, beyond_max_files(self.limits));
            }
        }
    }

    /// The results in the order of delivery. What goes beyond the limits is added to `skipped`.
    pub fn finish(self, skipped: &mut Skipped) -> Vec<OutputFile> {
        let Self { limits, heap, beyond } = self;
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

pub fn beyond_max_total(limits: &OutputsConfig) -> String {
    format!("beyond the {} MB that are delivered (`outputs.max_total_mb`)", limits.max_total >> 20)
}
