//! Output that may repeat a log: it is compared with the log, so that only what is new is added and nothing is replaced.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::os::files::if_exists;

/// Stands between the earlier log and the output that the engine has kept.
pub const GAP: &[u8] = "\n[… the agent was not running: some output may be missing or repeated below …]\n".as_bytes();
/// Stands in the comparison for output between the parts of a log that is lost: it isn't known whether the log is repeated.
const CUT: &[u8] = "[… cut …]".as_bytes();
/// How much of the repeated output is held, to be written if the rest differs.
const HELD: usize = 64 * 1024;

/// What becomes of output that doesn't begin with all that the log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// It follows the log, after a gap.
    Append,
    /// It is dropped.
    Drop,
}

/// Whether some output is in the log already.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    /// It is, so far.
    Repeated,
    /// All of the log was repeated, and from this index on the bytes are new.
    NewFrom(usize),
    /// It differs from the log; these bytes come before it.
    Other(Vec<u8>),
}

/// The comparison of some output with a log, from the log's last gap on: an earlier replay began there.
pub struct Replay {
    log: Box<dyn Read + Send>,
    otherwise: Otherwise,
    /// The last of the repeated output.
    held: Vec<u8>,
    is_dropped: bool,
}

impl Replay {
    /// Begins a comparison with a log in these files, of which some may be missing. Behind the first of them, some output
    /// may have been cut.
    pub fn new(parts: [PathBuf; 3], is_cut: bool, otherwise: Otherwise) -> io::Result<Self> {
        let from = after_last_gap(open(&parts, 0, false)?)?;
        Ok(Self { log: open(&parts, from, is_cut)?, otherwise, held: Vec::new(), is_dropped: false })
    }

    /// Compares the next bytes.
    pub fn compare(&mut self, bytes: &[u8]) -> Compared {
        if self.is_dropped {
            return Compared::Repeated;
        }
        let mut known = Vec::with_capacity(bytes.len());
        // A log that can't be read ends here.
        let read = self.log.by_ref().take(bytes.len() as u64).read_to_end(&mut known);
        if !bytes.starts_with(&known) {
            self.is_dropped = self.otherwise == Otherwise::Drop;
            return if self.is_dropped { Compared::Repeated } else { Compared::Other(std::mem::take(&mut self.held)) };
        }
        if known.len() < bytes.len() || read.is_err() {
            return Compared::NewFrom(known.len());
        }
        self.held.extend_from_slice(bytes);
        let too_many = self.held.len().saturating_sub(HELD);
        self.held.drain(..too_many);
        Compared::Repeated
    }
}

/// The files' content from this byte on, as one.
fn open(parts: &[PathBuf; 3], from: u64, is_cut: bool) -> io::Result<Box<dyn Read + Send>> {
    let (mut skip, mut all): (u64, Box<dyn Read + Send>) = (from, Box::new(io::empty()));
    for (number, part) in parts.iter().enumerate() {
        if number == 1 && is_cut && skip == 0 {
            all = Box::new(all.chain(CUT));
        }
        let Some(mut file) = if_exists(File::open(part))? else { continue };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(skip.min(length)))?;
        skip = skip.saturating_sub(length);
        all = Box::new(all.chain(file));
    }
    Ok(all)
}

/// The number of bytes up to the end of the last [`GAP`]; 0 if there is none.
fn after_last_gap(mut log: impl Read) -> io::Result<u64> {
    let (mut window, mut before, mut found) = (Vec::new(), 0u64, 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = log.read(&mut buffer)?;
        if count == 0 {
            return Ok(found);
        }
        window.extend_from_slice(&buffer[..count]);
        if let Some(at) = window.windows(GAP.len()).rposition(|part| part == GAP) {
            found = before + (at + GAP.len()) as u64;
        }
        let done = window.len().saturating_sub(GAP.len() - 1);
        window.drain(..done);
        before += done as u64;
    }
}
