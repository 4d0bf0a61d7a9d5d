//! A file that has its room on the disk already. Entries are written over what it has, in place, so they need neither a
//! free block nor a free file: for what has to be written also on a disk that is full.
//!
//! The file has two halves, and each can hold a set of entries. The set with the higher number counts. A new set is
//! complete in the other half before its first line makes it count, so a crash leaves the old set or the new one. An entry
//! has a checksum with its set's number in it: what a crash has cut, and what an older set has left, isn't read.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};

use super::digest::fnv;

/// The length of an entry's first line: checksum, number of the set, and length, in hexadecimal digits.
const HEAD: usize = 16 + 1 + 16 + 1 + 8 + 1;
/// The first entry of a set, which makes it count.
const MARK: &[u8] = b"agent-core reserve";
/// What fills the file at first.
const FILLER: u8 = b'.';

/// Such a file, opened.
pub struct Reserve {
    file: File,
    /// The length of each half.
    half: u64,
}

/// Where a set of entries is.
#[derive(Clone, Copy)]
struct Set {
    /// 0 where no set counts yet.
    number: u64,
    half: u64,
}

impl Reserve {
    /// Fills an empty file, so that its blocks are its own when this returns.
    pub fn fill(file: &mut File, size: usize) -> io::Result<()> {
        file.write_all(&vec![FILLER; size])?;
        file.sync_all()
    }

    /// Uses a file that was filled by any version of the program.
    pub fn open(file: File) -> io::Result<Self> {
        let half = file.metadata()?.len() / 2;
        Ok(Self { file, half })
    }

    /// The entries, the oldest first.
    pub fn entries(&self) -> io::Result<Vec<Vec<u8>>> {
        self.read(self.current()?).map(|(entries, _)| entries)
    }

    /// Adds an entry, which is on the disk when this returns.
    ///
    /// # Errors
    /// [`ErrorKind::StorageFull`] where the half has no room for it.
    pub fn push(&self, entry: &[u8]) -> io::Result<()> {
        let set = self.current()?;
        if set.number == 0 {
            return self.replace(&[entry]);
        }
        let (_, end) = self.read(set)?;
        self.write(set, end, entry)?;
        self.file.sync_data()
    }

    /// Replaces all entries in one step.
    pub fn replace(&self, entries: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let before = self.current()?;
        let set = Set { number: before.number + 1, half: 1 - before.half };
        let mut at = length(MARK);
        for entry in entries {
            at = self.write(set, at, entry.as_ref())?;
        }
        self.file.sync_data()?;
        self.write(set, 0, MARK)?;
        self.file.sync_data()
    }

    /// Removes all entries in one step.
    pub fn clear(&self) -> io::Result<()> {
        self.replace(&[[0; 0]; 0])
    }

    fn current(&self) -> io::Result<Set> {
        let mut current = Set { number: 0, half: 1 };
        for half in [0, 1] {
            match self.read_entry(half, 0)? {
                Some((number, mark)) if mark == MARK && number > current.number => current = Set { number, half },
                _ => {}
            }
        }
        Ok(current)
    }

    /// The entries of a set, and where the next one begins.
    fn read(&self, set: Set) -> io::Result<(Vec<Vec<u8>>, u64)> {
        let (mut entries, mut at) = (Vec::new(), length(MARK));
        if set.number == 0 {
            return Ok((entries, at));
        }
        while let Some((_, entry)) = self.read_entry(set.half, at)?.filter(|(number, _)| *number == set.number) {
            at += length(&entry);
            entries.push(entry);
        }
        Ok((entries, at))
    }

    /// The entry at this place in a half, and the number of its set; `None` if there is no whole one.
    fn read_entry(&self, half: u64, at: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        let mut head = [0; HEAD];
        if at + HEAD as u64 > self.half {
            return Ok(None);
        }
        let mut file = &self.file;
        file.seek(SeekFrom::Start(half * self.half + at))?;
        file.read_exact(&mut head)?;
        let Some((checksum, number, length)) = parse_head(&head) else { return Ok(None) };
        if at + HEAD as u64 + length > self.half {
            return Ok(None);
        }
        let mut entry = Vec::new();
        file.take(length).read_to_end(&mut entry)?;
        Ok((checksum == sum(number, &entry)).then_some((number, entry)))
    }

    /// Writes an entry at this place, and returns where the next one begins.
    fn write(&self, set: Set, at: u64, entry: &[u8]) -> io::Result<u64> {
        let end = at + length(entry);
        if end > self.half {
            return Err(io::Error::new(ErrorKind::StorageFull, "the reserve for a full disk is used up, too"));
        }
        let mut bytes =
            format!("{:016x} {:016x} {:08x}\n", sum(set.number, entry), set.number, entry.len()).into_bytes();
        bytes.extend_from_slice(entry);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(set.half * self.half + at))?;
        file.write_all(&bytes)?;
        Ok(end)
    }
}

/// How many bytes an entry takes.
fn length(entry: &[u8]) -> u64 {
    (HEAD + entry.len()) as u64
}

fn sum(number: u64, entry: &[u8]) -> u64 {
    fnv(number.to_le_bytes().into_iter().chain(entry.iter().copied()))
}

fn parse_head(head: &[u8; HEAD]) -> Option<(u64, u64, u64)> {
    let line = std::str::from_utf8(head).ok()?.strip_suffix('\n')?;
    let mut numbers = line.split(' ').map(|digits| u64::from_str_radix(digits, 16).ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::Reserve;
    use std::fs::File;
    use std::io::{ErrorKind, Seek, SeekFrom, Write};

    fn reserve(size: usize) -> Reserve {
        let mut file = tempfile::tempfile().unwrap();
        Reserve::fill(&mut file, size).unwrap();
        Reserve::open(file).unwrap()
    }

    fn texts(reserve: &Reserve) -> Vec<String> {
        reserve.entries().unwrap().into_iter().map(|entry| String::from_utf8(entry).unwrap()).collect()
    }

    fn reopened(reserve: &Reserve) -> Reserve {
        Reserve::open(reserve.file.try_clone().unwrap()).unwrap()
    }

    #[test]
    fn entries_are_read_again_and_the_file_does_not_grow() {
        let reserve = reserve(4096);
        assert!(texts(&reserve).is_empty());
        reserve.push(b"one\nline").unwrap();
        reserve.push(b"").unwrap();
        reserve.push("zwölf".as_bytes()).unwrap();
        assert_eq!(texts(&reopened(&reserve)), ["one\nline", "", "zwölf"]);
        reserve.replace(&[b"new"]).unwrap();
        reserve.push(b"er").unwrap();
        assert_eq!(texts(&reopened(&reserve)), ["new", "er"]);
        reserve.clear().unwrap();
        assert!(texts(&reopened(&reserve)).is_empty());
        assert_eq!(reserve.file.metadata().unwrap().len(), 4096);
    }

    #[test]
    fn entries_of_an_older_set_are_not_read() {
        let reserve = reserve(4096);
        ["a1", "b1"].iter().for_each(|entry| reserve.push(entry.as_bytes()).unwrap());
        reserve.replace(&[b"other"]).unwrap();
        // The third set is where the first one was, and as long.
        reserve.replace(&[b"a1"]).unwrap();
        assert_eq!(texts(&reserve), ["a1"]);
    }

    #[test]
    fn a_full_half_takes_no_entry_and_keeps_its_own() {
        let reserve = reserve(600);
        let mut count = 0;
        while reserve.push(b"forty bytes, forty bytes, forty bytes, ..").is_ok() {
            count += 1;
        }
        assert_eq!((count, texts(&reserve).len()), (2, 2));
        assert_eq!(reserve.push(&[b'x'; 100]).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(reserve.replace(&[[b'x'; 300]]).unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(texts(&reserve).len(), 2);
    }

    /// A crash may leave any beginning of what was written.
    #[test]
    fn a_cut_write_leaves_the_entries_before_it() {
        let written = |count: usize| {
            let mut file = tempfile::tempfile().unwrap();
            Reserve::fill(&mut file, 1000).unwrap();
            let reserve = Reserve::open(file).unwrap();
            reserve.push(b"first").unwrap();
            let (_, end) = reserve.read(reserve.current().unwrap()).unwrap();
            reserve.push(b"second").unwrap();
            let mut file: &File = &reserve.file;
            file.seek(SeekFrom::Start(end + count as u64)).unwrap();
            file.write_all(&vec![b'.'; 60 - count]).unwrap();
            texts(&reserve)
        };
        assert!((0..48).all(|count| written(count) == ["first"]));
        assert_eq!(written(49), ["first", "second"]);
    }

    #[test]
    fn a_reserve_of_an_older_version_is_used() {
        for size in [0, 7, 16 * 1024, 512 * 1024] {
            let reserve = reserve(size);
            assert!(texts(&reserve).is_empty());
            assert_eq!(reserve.push(b"entry").is_ok(), size > 1000, "{size}");
        }
    }
}
