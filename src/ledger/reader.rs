//! Reads the ledger, also while an agent writes it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use super::{Line, MAX_NUMBERED};
use crate::data_dir::DataDir;
use crate::os::files::{if_exists, open_to_read};
use crate::os::platform;
use crate::os::reserve::Reserve;

/// The length from which a line counts as damaged; the agent writes no line as long.
const LINE_MAX: u64 = 1 << 20;

/// All lines, the oldest first.
pub struct Reader {
    /// The files that are not read to their end, the oldest last.
    files: Vec<Box<dyn BufRead>>,
    buffer: Vec<u8>,
    damaged: u64,
}

impl Reader {
    /// Opens all files; `None` if there is none.
    pub fn open(data_dir: &DataDir) -> io::Result<Option<Self>> {
        // First, so that lines that are moved from it to a file meanwhile are there twice and not missing.
        let waiting = match if_exists(open_to_read(&data_dir.ledger_reserve()))? {
            Some(reserve) => Reserve::open(reserve)?.entries()?.concat(),
            None => Vec::new(),
        };
        let mut files: Vec<(_, BufReader<File>)> = Vec::new();
        // Files are renamed to higher numbers only, so this order misses none of them. But it may open one twice; then
        // the later place counts, since younger files may have been opened in between.
        for number in 0..=MAX_NUMBERED {
            let Some(file) = if_exists(open_to_read(&data_dir.ledger(number)))? else { continue };
            let identity = platform::identity(&file)?;
            files.retain(|(opened, _)| *opened != identity);
            files.push((identity, BufReader::new(file)));
        }
        let waiting = (!waiting.is_empty()).then(|| Box::new(Cursor::new(waiting)) as Box<dyn BufRead>);
        let files = files.into_iter().map(|(_, file)| Box::new(file) as Box<dyn BufRead>);
        let files: Vec<_> = waiting.into_iter().chain(files).collect();
        Ok((!files.is_empty()).then_some(Self { files, buffer: Vec::new(), damaged: 0 }))
    }

    /// The next line, as text and parsed. Damaged lines are counted and skipped.
    pub fn next_line(&mut self) -> io::Result<Option<(&str, Line)>> {
        loop {
            let Some(file) = self.files.last_mut() else { return Ok(None) };
            self.buffer.clear();
            if file.take(LINE_MAX).read_until(b'\n', &mut self.buffer)? == 0 {
                self.files.pop();
                continue;
            }
            if self.buffer.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(&self.buffer) {
                Ok(line) => {
                    let text = std::str::from_utf8(&self.buffer).map_err(io::Error::other)?;
                    return Ok(Some((text.trim_end(), line)));
                }
                Err(_) => {
                    self.damaged += 1;
                    skip_line(file, &self.buffer)?;
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn buffer_size(&self) -> usize {
        self.buffer.capacity()
    }

    /// How many lines could not be read so far.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

/// Skips the rest of a line of which this is the beginning.
fn skip_line(file: &mut dyn BufRead, beginning: &[u8]) -> io::Result<()> {
    let mut ends = beginning.ends_with(b"\n");
    while !ends {
        let rest = file.fill_buf()?;
        let (length, found) = match rest.iter().position(|byte| *byte == b'\n') {
            Some(place) => (place + 1, true),
            None => (rest.len(), rest.is_empty()),
        };
        file.consume(length);
        ends = found;
    }
    Ok(())
}
