//! Writes an archive, member by member.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::os::files::{Durability, Replacement};
use crate::task::outputs::OutputFile;
use crate::task::record::Member;

/// How much is copied at once.
const PIECE: usize = 64 * 1024;
/// The rights that members are unpacked with.
const RIGHTS: u32 = 0o644;

/// How writing an archive has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is there, with these members.
    Written(Vec<Member>),
    /// `goes_on` has said no.
    Stopped,
    /// The file of this name couldn't be read to the end that it had when it was opened.
    Unreadable(String),
}

/// Writes an archive of these files, which is private to its owner, and complete or not there. A file that can't be opened,
/// or is larger than it was when it was found, isn't in it. `goes_on` is asked for each piece.
///
/// # Errors
/// It can't be written.
pub fn write(path: &Path, files: &[&OutputFile], goes_on: &mut dyn FnMut() -> bool) -> io::Result<Ended> {
    let mut ended = Ended::Stopped;
    let new = Replacement::write_by(path, Durability::PowerCut, |out| {
        ended = write_to(out, files, goes_on)?;
        Ok(())
    })?;
    if let Ended::Written(members) = &ended {
        if !members.is_empty() {
            new.commit()?;
        }
    }
    Ok(ended)
}

fn write_to(
    out: &mut (impl Write + Seek),
    files: &[&OutputFile],
    goes_on: &mut dyn FnMut() -> bool,
) -> io::Result<Ended> {
    let failed = Cell::new(None);
    let check = || failed.take().map_or(Ok(()), Err);
    let mut zip = ZipWriter::new(Sink { out, failed: &failed, at: 0, end: 0 });
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(RIGHTS);
    let mut members = Vec::new();
    for file in files {
        // Alone it is sent by the rules for what has changed, or can't be read now.
        let Some((source, size)) = file.open().ok().filter(|(_, size)| *size <= file.size) else { continue };
        zip.start_file(file.name.as_str(), options)?;
        let copied = copy(source, size, &mut zip, goes_on);
        check()?;
        match copied? {
            Copied::Whole => members.push(Member { file: file.name.clone(), size }),
            Copied::Stopped => return Ok(Ended::Stopped),
            Copied::Unreadable => return Ok(Ended::Unreadable(file.name.clone())),
        }
    }
    zip.finish()?;
    check()?;
    Ok(Ended::Written(members))
}

enum Copied {
    Whole,
    Stopped,
    Unreadable,
}

fn copy(mut from: File, size: u64, to: &mut impl Write, goes_on: &mut dyn FnMut() -> bool) -> io::Result<Copied> {
    let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE))];
    let mut left = size;
    while goes_on() {
        if left == 0 {
            return Ok(Copied::Whole);
        }
        let room = piece.len().min(usize::try_from(left).unwrap_or(PIECE));
        match from.read(&mut piece[..room]) {
            Ok(count) if count > 0 => {
                to.write_all(&piece[..count])?;
                left -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It became shorter, or its disk fails.
            Ok(_) | Err(_) => return Ok(Copied::Unreadable),
        }
    }
    Ok(Copied::Stopped)
}

/// What an archive is written to. It keeps its first error, and seems to take everything from then on: the writer of an
/// archive ends that in any case when it is dropped, and prints what fails then.
struct Sink<'w, W> {
    out: &'w mut W,
    failed: &'w Cell<Option<io::Error>>,
    /// Where it seems to be, and where its end seems to be.
    at: u64,
    end: u64,
}

impl<W> Sink<'_, W> {
    fn call(&mut self, call: impl FnOnce(&mut W) -> io::Result<()>) {
        let before = self.failed.take();
        let failed = if before.is_some() { before } else { call(self.out).err() };
        self.failed.set(failed);
    }
}

impl<W: Write> Write for Sink<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call(|out| out.write_all(bytes));
        self.at += bytes.len() as u64;
        self.end = self.end.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.call(W::flush);
        Ok(())
    }
}

impl<W: Seek> Seek for Sink<'_, W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        let at = self.at;
        self.call(|out| out.seek(SeekFrom::Start(at)).map(drop));
        Ok(at)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::{Ended, write, write_to};
    use crate::config::{Archive, Exclude, OutputsConfig};
    use crate::task::archive::plan;
    use crate::task::outputs::OutputFile;
    use std::fs::{self, File};
    use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
    use std::path::Path;
    use zip::{CompressionMethod, ZipArchive};

    fn found(dir: &Path, name: &str, content: &[u8]) -> OutputFile {
        let local = crate::os::digest::fnv(name.bytes()).to_string();
        fs::write(dir.join(&local), content).expect("write a file");
        OutputFile::copied(dir, local.as_ref(), name).expect("open it")
    }

    fn names(ended: &Ended) -> Vec<&str> {
        let Ended::Written(members) = ended else { panic!("{ended:?}") };
        members.iter().map(|member| member.file.as_str()).collect()
    }

    #[test]
    fn an_archive_has_the_bytes_and_names_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0..200_000u32).map(|number| (number / 7) as u8).collect();
        let contents =
            [("output/名 é.csv", &large[..]), ("empty", b""), ("output/a%22b/c", b"x"), ("results.zip", b"PK")];
        let files: Vec<OutputFile> = contents.iter().map(|(name, content)| found(dir.path(), name, content)).collect();
        let path = dir.path().join("results.zip");
        let ended = write(&path, &files.iter().collect::<Vec<_>>(), &mut || true).unwrap();
        assert_eq!(names(&ended), contents.map(|(name, _)| name));
        let mut archive = ZipArchive::new(File::open(&path).unwrap()).unwrap();
        for (name, content) in contents {
            let mut member = archive.by_name(name).unwrap();
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).unwrap();
            assert!(bytes == content && member.is_file() && member.unix_mode() == Some(0o100_644), "{name}");
            assert_eq!(member.compression(), CompressionMethod::Stored);
            // Readers that don't seek need the size in front of the content.
            let header = usize::try_from(member.header_start()).unwrap();
            let bytes = fs::read(&path).unwrap();
            let is_utf8 = !name.is_ascii();
            assert_eq!((bytes[header + 6] & 8, bytes[header + 7] & 8 != 0), (0, is_utf8), "the flags of {name}");
        }
        let limits = OutputsConfig {
            max_file: 1 << 20,
            max_files: 10,
            max_total: 1 << 20,
            exclude: Exclude::default(),
            notes: true,
            archive: Archive::Always,
        };
        let planned = plan(files.iter(), &limits, |_| false);
        assert_eq!(planned[0].size, fs::metadata(&path).unwrap().len(), "the size is known before");
    }

    #[test]
    fn files_that_have_grown_or_are_gone_are_not_in_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["gone", "grown", "shorter", "same"].map(|name| found(dir.path(), name, b"12345"));
        let local = |name: &str| dir.path().join(crate::os::digest::fnv(name.bytes()).to_string());
        fs::remove_file(local("gone")).unwrap();
        fs::write(local("grown"), "123456").unwrap();
        fs::write(local("shorter"), "1").unwrap();
        let ended = write(&dir.path().join("a"), &files.each_ref(), &mut || true).unwrap();
        assert_eq!(names(&ended), ["shorter", "same"]);
    }

    #[test]
    fn a_file_that_becomes_shorter_while_it_is_read_leaves_no_archive() {
        let dir = tempfile::tempdir().unwrap();
        let files = [found(dir.path(), "a", b"1"), found(dir.path(), "b", &[1; 200_000])];
        let (path, shorter) = (dir.path().join("new"), dir.path().join(crate::os::digest::fnv(*b"b").to_string()));
        let mut pieces = 0;
        let ended = write(&path, &files.each_ref(), &mut || {
            pieces += 1;
            if pieces == 4 {
                File::options().write(true).open(&shorter).unwrap().set_len(70_000).unwrap();
            }
            true
        });
        assert_eq!(ended.unwrap(), Ended::Unreadable("b".to_owned()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }

    #[test]
    fn an_archive_that_is_not_wanted_any_more_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = found(dir.path(), "a", &[1; 200_000]);
        let mut pieces = 0;
        let ended = write(&dir.path().join("new"), &[&file], &mut || {
            pieces += 1;
            pieces < 3
        });
        assert_eq!((ended.unwrap(), pieces), (Ended::Stopped, 3));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// A disk with room for so many bytes.
    struct Full(Cursor<Vec<u8>>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = self.1.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn a_disk_that_becomes_full_at_any_byte_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let files = [found(dir.path(), "a", &[1; 100]), found(dir.path(), "b", &[1; 100])];
        let mut room = 0;
        loop {
            match write_to(&mut Full(Cursor::default(), room), &files.each_ref(), &mut || true) {
                Ok(ended) => break assert!(room > 400 && names(&ended).len() == 2, "{room}"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}"),
            }
            room += 1;
        }
    }
}
