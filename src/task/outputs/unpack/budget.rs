//! How much of the archives is read.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes of archives are read, over all archives that share it.
#[derive(Debug)]
pub struct Budget {
    read: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Self { read: AtomicU64::new(0), limit: AtomicU64::new(limit) }
    }

    /// How many bytes were read.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Whether more was read than may be.
    pub fn is_exceeded(&self) -> bool {
        self.read() > self.limit.load(Ordering::Relaxed)
    }

    /// What [`Self::restore`] puts back.
    pub fn spent(&self) -> [u64; 2] {
        [&self.read, &self.limit].map(|count| count.load(Ordering::Relaxed))
    }

    /// Doesn't count what was read since then.
    pub fn restore(&self, [read, limit]: [u64; 2]) {
        self.read.store(read, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Doesn't count so many bytes.
    pub fn allow(&self, bytes: u64) {
        // One thread reads at a time.
        self.limit.store(self.limit.load(Ordering::Relaxed).saturating_add(bytes), Ordering::Relaxed);
    }
}

/// Reads as long as the budget lasts.
pub(super) struct LimitedReader<'b, R> {
    pub source: R,
    pub budget: &'b Budget,
}

impl<R: Read> Read for LimitedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget.is_exceeded() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.source.read(buffer)?;
        self.budget.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
