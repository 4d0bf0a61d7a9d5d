//! The archive that `docker cp` sends: a header for each file, and before it, where a header has too little room,
//! extensions with the path, the link or the size.
//!
//! A container chooses the names and the contents in it. So an extension is read by the lengths that it states, is never
//! larger than [`MAX_EXTENSION`], and ends the archive where it is malformed: otherwise the content of a file could be
//! taken for headers.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// How many bytes an extension has at most. The program that writes these archives reads no larger ones, either.
pub const MAX_EXTENSION: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// A reader of an archive. It reads the content of the member that was returned last.
pub struct Archive<R> {
    source: R,
    /// How much of the member's content wasn't read yet.
    left: u64,
    /// How many bytes fill up the content's last block.
    padding: u64,
}

/// A file, folder or other thing in an archive.
#[derive(Debug)]
pub struct Member {
    pub kind: EntryType,
    pub path: Vec<u8>,
    /// The path of which this is another name, or to which this symbolic link leads.
    pub link: Option<Vec<u8>>,
    /// The length of its content.
    pub size: u64,
    /// The time of the last change, in seconds since 1970.
    pub changed: u64,
}

/// What stands before a member's header.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Archive<R> {
    pub fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0 }
    }

    /// The next member, or `None` at the end of the archive.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip(self.left)?;
            self.skip(self.padding)?;
            let Some(header) = self.read_header()? else { return Ok(None) };
            self.start(header.entry_size()?);
            match header.entry_type() {
                EntryType::XHeader => extensions.add(&self.read_extension()?)?,
                EntryType::GNULongName => extensions.path = Some(until_nul(self.read_extension()?)),
                EntryType::GNULongLink => extensions.link = Some(until_nul(self.read_extension()?)),
                EntryType::XGlobalHeader => {}
                // Further headers would follow, and the engine writes none of these.
                EntryType::GNUSparse => return Err(invalid("it has a sparse file")),
                kind => {
                    // The header of what has no content may state the size of something else.
                    let size = if has_content(kind) { extensions.size.unwrap_or(self.left) } else { 0 };
                    self.start(size);
                    let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
                    let link = extensions.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
                    return Ok(Some(Member { kind, path, link, size, changed: header.mtime()? }));
                }
            }
        }
    }

    fn start(&mut self, size: u64) {
        (self.left, self.padding) = (size, size.wrapping_neg() % BLOCK);
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        match io::copy(&mut self.source.by_ref().take(count), &mut io::sink())? {
            skipped if skipped == count => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// `None` for the empty block that ends an archive.
    fn read_header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        self.source.read_exact(header.as_mut_bytes())?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The field of the sum counts as blanks.
        let fields = bytes[..148].iter().chain(&[b' '; 8]).chain(&bytes[156..]);
        if fields.map(|byte| u32::from(*byte)).sum::<u32>() == header.cksum()? {
            Ok(Some(header))
        } else {
            Err(invalid("the sum of a header is wrong"))
        }
    }

    fn read_extension(&mut self) -> io::Result<Vec<u8>> {
        if self.left > MAX_EXTENSION {
            return Err(invalid("an extension of a header is too large"));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads the content of the member that was returned last.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        match self.source.read(&mut buffer[..room])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

impl Extensions {
    /// Adds records as POSIX defines them for pax: `LENGTH KEY=VALUE` and a newline, where the length is that of the
    /// whole record. The value may hold newlines.
    fn add(&mut self, mut block: &[u8]) -> io::Result<()> {
        while !block.is_empty() {
            let (key, value, rest) =
                split_record(block).ok_or_else(|| invalid("an extension of a header is malformed"))?;
            match key {
                b"path" => self.path = Some(value.to_owned()),
                b"linkpath" => self.link = Some(value.to_owned()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(|| invalid("a size is no number"))?);
                }
                _ => {}
            }
            block = rest;
        }
        Ok(())
    }
}

/// The key and the value of the first record, and what follows the record.
fn split_record(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = block.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&block[..blank]).ok()?.parse().ok()?;
    let (record, rest) = block.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn has_content(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::{Archive, MAX_EXTENSION};
    use std::io::{self, Cursor, Read};
    use tar::{EntryType, Header};

    fn header(kind: EntryType, path: &str, size: u64) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        header.set_size(size);
        header.set_mtime(7);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn block(content: &[u8]) -> Vec<u8> {
        let mut bytes = content.to_vec();
        bytes.resize(content.len().next_multiple_of(512), 0);
        bytes
    }

    fn record(key: &str, value: &str) -> String {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|length| length.to_string().len() + rest == *length).unwrap();
        format!("{length} {key}={value}\n")
    }

    fn extension(records: &str) -> Vec<u8> {
        [header(EntryType::XHeader, "x", records.len() as u64), block(records.as_bytes())].concat()
    }

    #[test]
    fn a_newline_in_an_extended_path_hides_no_size() {
        let path = "d/x\n12 size=0\nb\u{e9}";
        let records = record("path", path) + &record("size", "1024");
        // The content looks like the header of a large extension.
        let content = [header(EntryType::GNULongName, "evil", 1 << 40), block(b"rest")].concat();
        let next = header(EntryType::Regular, "next", 3);
        let bytes = [
            extension(&records),
            header(EntryType::Regular, "d/x", 0),
            content.clone(),
            next,
            block(b"two"),
            vec![0; 512],
        ];
        let mut archive = Archive::new(Cursor::new(bytes.concat()));
        let member = archive.next_member().unwrap().unwrap();
        assert_eq!((member.path, member.size, member.changed), (path.as_bytes().to_vec(), 1024, 7));
        let mut read = Vec::new();
        archive.read_to_end(&mut read).unwrap();
        assert_eq!(read, content);
        let member = archive.next_member().unwrap().unwrap();
        assert_eq!((member.path, member.size), (b"next".to_vec(), 3));
        assert!(archive.next_member().unwrap().is_none());
    }

    #[test]
    fn a_malformed_or_large_extension_ends_the_archive_unread() {
        for records in
            ["5 path=x\n", "99 path=x\n", "10 path=xx", "9 pathxx\n", "path=x\n", "11 size=-1\n", "1 \n", "0 "]
        {
            let bytes = [extension(records), header(EntryType::Regular, "a", 0), vec![0; 512]].concat();
            let error = Archive::new(&bytes[..]).next_member().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{records}: {error}");
        }
        for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
            let mut source = Cursor::new(header(kind, "x", MAX_EXTENSION + 1)).chain(io::repeat(b'x').take(1 << 30));
            let error = Archive::new(&mut source).next_member().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert_eq!(source.into_inner().1.limit(), 1 << 30, "nothing of it is read");
        }
    }

    #[test]
    fn links_have_no_content_and_long_names_of_gnu_are_read() {
        let long = "n".repeat(300);
        let bytes = [
            header(EntryType::GNULongName, "x", 301),
            block(format!("{long}\0").as_bytes()),
            header(EntryType::GNULongLink, "x", 5),
            block(b"other"),
            // The size of a link is that of the file which it names.
            header(EntryType::Link, "short", 5000),
            header(EntryType::Regular, "a", 0),
        ];
        let mut archive = Archive::new(Cursor::new(bytes.concat()));
        let member = archive.next_member().unwrap().unwrap();
        assert_eq!((member.path, member.link, member.size), (long.into_bytes(), Some(b"other".to_vec()), 0));
        assert_eq!(archive.next_member().unwrap().unwrap().path, b"a");
        // Without the empty block, the rest is missing.
        assert_eq!(archive.next_member().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
