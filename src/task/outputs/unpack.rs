//! Takes results out of the archive that `docker cp` streams, under the same policy as those that are read in place.
//!
//! Nothing of the archive but the bytes of regular files is written, each under a number of ours, so that names, links,
//! devices and modes in it mean nothing here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tar::{Archive, Entry, EntryType};

use super::{NOT_REGULAR, ReservedPaths, SYMBOLIC_LINK, Skipped, excluded_by, fits, wire_name};
use crate::config::OutputsConfig;
use crate::os::platform;
use crate::task::record::Fetched;

/// What was brought here.
#[derive(Debug, Default)]
pub struct Extracted {
    /// The files, each under its own number.
    pub files: Vec<Fetched>,
    /// What else was there, and why it isn't a result.
    pub left_out: Skipped,
    bytes: u64,
    /// Where a file lies that has more than one name.
    numbers: HashMap<PathBuf, usize>,
}

/// Where and under which rules an archive is unpacked.
pub struct Rules<'r> {
    /// The folder for the files.
    pub into: &'r Path,
    /// What isn't a result.
    pub ours: &'r ReservedPaths,
    /// What may be delivered.
    pub limits: &'r OutputsConfig,
    /// Bytes that the disk must have left.
    pub keep_free: u64,
}

/// Why an archive wasn't unpacked to its end.
#[derive(Debug)]
pub enum UnpackError {
    /// It broke off, or is no archive.
    Archive(io::Error),
    /// A file can't be written here.
    Local(io::Error),
}

/// An archive on its way here, which says how far it is and ends after so many bytes.
pub struct Stream<'s, R> {
    /// Where it comes from.
    pub source: R,
    /// Bytes so far.
    pub progress: &'s AtomicU64,
    /// Where it ends.
    pub limit: u64,
}

impl<R: Read> Read for Stream<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.load(Ordering::Relaxed) > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.source.read(buffer)?;
        self.progress.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// How much of a haul there was at some time.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    files: usize,
    bytes: u64,
}

impl Extracted {
    /// Remembers what there is so far.
    pub fn mark(&self) -> Mark {
        Mark { files: self.files.len(), bytes: self.bytes }
    }

    /// Forgets the files that came after this mark; the next ones take their numbers.
    pub fn return_to(&mut self, mark: Mark) {
        self.files.truncate(mark.files);
        self.bytes = mark.bytes;
        self.numbers.retain(|_, number| *number < mark.files);
    }

    /// Takes in an archive of what lies at `base`, relative to the workspace. An archive that goes on for much longer
    /// than what may be delivered is left where it stands: what isn't seen of it is said in one line.
    pub fn unpack(&mut self, stream: Stream<'_, impl Read>, base: &Path, rules: &Rules<'_>) -> Result<(), UnpackError> {
        let mut archive = Archive::new(stream);
        for entry in archive.entries().map_err(UnpackError::Archive)? {
            let taken = entry.map_err(UnpackError::Archive).and_then(|mut entry| self.take(&mut entry, base, rules));
            match taken {
                Err(UnpackError::Archive(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
                    let name = wire_name(Path::new(""), base);
                    self.left_out.skip_deliverable(
                        name,
                        "there is far more in it than is delivered; the rest was not looked at",
                    );
                    return Ok(());
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn take<R: Read>(&mut self, entry: &mut Entry<'_, R>, base: &Path, rules: &Rules<'_>) -> Result<(), UnpackError> {
        let Some(relative) = below(base, &entry.path_bytes()) else {
            let path = String::from_utf8_lossy(&entry.path_bytes()).escape_default().to_string();
            self.left_out.skip(path, "its path leads elsewhere");
            return Ok(());
        };
        let exclude = &rules.limits.exclude;
        if rules.ours.holds(&relative) || exclude.holds_above(&relative) {
            return Ok(());
        }
        let name = wire_name(Path::new(""), &relative);
        let is_folder = entry.header().entry_type() == EntryType::Directory;
        if let Some(pattern) = exclude.pattern_for(&relative, is_folder) {
            self.left_out.skip(name + if is_folder { "/" } else { "" }, excluded_by(pattern));
            return Ok(());
        }
        match entry.header().entry_type() {
            EntryType::Directory => Ok(()),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.take_file(entry, relative, name, rules)
            }
            EntryType::Link => {
                let other = entry.link_name_bytes().and_then(|path| below(base, &path));
                match other.and_then(|path| self.numbers.get(&path).copied()) {
                    Some(number) if self.files.len() < rules.limits.max_files => {
                        self.files.push(Fetched { file: name, number });
                    }
                    _ => self.left_out.skip_deliverable(name, "another name of a file that isn't delivered"),
                }
                Ok(())
            }
            EntryType::Symlink => {
                self.left_out.skip(name, SYMBOLIC_LINK);
                Ok(())
            }
            _ => {
                self.left_out.skip(name, NOT_REGULAR);
                Ok(())
            }
        }
    }

    fn take_file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        relative: PathBuf,
        name: String,
        rules: &Rules<'_>,
    ) -> Result<(), UnpackError> {
        let size = entry.size();
        let limits = rules.limits;
        let room = if self.files.len() >= limits.max_files {
            Err(format!("beyond the {} files that are delivered (`outputs.max_files`)", limits.max_files))
        } else if self.bytes + size > limits.max_total {
            Err(format!("beyond the {} MB that are delivered (`outputs.max_total_mb`)", limits.max_total >> 20))
        } else {
            Ok(())
        };
        if let Err(reason) = fits(size, limits).and(room) {
            self.left_out.skip_deliverable(name, reason);
            return Ok(());
        }
        if platform::free_disk(rules.into).map_err(UnpackError::Local)? < size.saturating_add(rules.keep_free) {
            return Err(UnpackError::Local(io::ErrorKind::StorageFull.into()));
        }
        let number = self.files.len();
        let mut file = File::create(rules.into.join(number.to_string())).map_err(UnpackError::Local)?;
        platform::make_private(&file).map_err(UnpackError::Local)?;
        copy(entry, &mut file, size)?;
        // The record will say that it is here, so it has to outlive a power cut as the record does.
        file.sync_all().map_err(UnpackError::Local)?;
        self.bytes += size;
        self.numbers.insert(relative, number);
        self.files.push(Fetched { file: name, number });
        Ok(())
    }
}

/// Copies exactly so many bytes.
fn copy(from: &mut impl Read, to: &mut impl io::Write, size: u64) -> Result<(), UnpackError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Err(UnpackError::Archive(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(UnpackError::Archive(error)),
        };
        to.write_all(&buffer[..count]).map_err(UnpackError::Local)?;
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}

/// Where an entry lies relative to the workspace: the first part of its path is the name of what was asked for.
fn below(base: &Path, path: &[u8]) -> Option<PathBuf> {
    let path = platform::from_bytes(path)?;
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    let first = parts.next()?;
    let mut relative = base.to_owned();
    for part in parts {
        match part {
            Component::Normal(name) => relative.push(name),
            _ => return None,
        }
    }
    matches!(first, Component::Normal(_) | Component::RootDir).then_some(relative)
}

#[cfg(all(test, unix))]
mod tests {
    use super::{Extracted, Rules, Stream, UnpackError};
    use crate::config::{Exclude, OutputsConfig};
    use crate::task::outputs::ReservedPaths;
    use std::fs;
    use std::io::{self, Read};
    use std::path::Path;
    use std::sync::atomic::AtomicU64;
    use tar::{Builder, EntryType, Header};

    fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, bytes: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        // What the library refuses to write somebody else could.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        if kind == EntryType::Link || kind == EntryType::Symlink {
            header.set_link_name("secret/a").expect("a short name");
        }
        header.set_mode(0o4777);
        header.set_cksum();
        builder.append(&header, bytes).expect("write to memory");
    }

    fn unpack(archive: impl Read, into: &Path, limit: u64) -> (Extracted, Result<(), UnpackError>) {
        let mut haul = Extracted::default();
        let ours = ReservedPaths::new(["/workspace/out/secret/mnt"]);
        let exclude = Exclude::new(&["*.raw".to_owned(), "scratch/".to_owned()]).expect("patterns");
        let limits = OutputsConfig { max_file: 1000, max_files: 4, max_total: 1500, exclude };
        let rules = Rules { into, ours: &ours, limits: &limits, keep_free: 0 };
        let stream = Stream { source: archive, progress: &AtomicU64::new(0), limit };
        let done = haul.unpack(stream, Path::new("out/secret"), &rules);
        (haul, done)
    }

    #[test]
    fn only_regular_files_are_unpacked_under_numbers() {
        let mut builder = Builder::new(Vec::new());
        add(&mut builder, EntryType::Directory, "secret/", b"");
        add(&mut builder, EntryType::Regular, "secret/a", b"one");
        add(&mut builder, EntryType::Regular, "secret/mnt/data", b"not a result");
        add(&mut builder, EntryType::Symlink, "secret/link", b"");
        add(&mut builder, EntryType::Link, "secret/b", b"");
        add(&mut builder, EntryType::Fifo, "secret/pipe", b"");
        add(&mut builder, EntryType::Regular, "secret/x.raw", b"stays here");
        add(&mut builder, EntryType::Directory, "secret/scratch/", b"");
        add(&mut builder, EntryType::Regular, "secret/scratch/deep/y", b"stays here");
        add(&mut builder, EntryType::Char, "secret/null", b"");
        add(&mut builder, EntryType::Regular, "secret/../../x", b"x");
        add(&mut builder, EntryType::Regular, "secret/large", &[b'x'; 1001]);
        add(&mut builder, EntryType::Regular, "secret/deep/c", &[b'c'; 1000]);
        add(&mut builder, EntryType::Regular, "secret/d", &[b'd'; 900]);
        let dir = tempfile::tempdir().unwrap();
        let (haul, done) = unpack(&builder.into_inner().unwrap()[..], dir.path(), u64::MAX);
        done.unwrap();
        let files: Vec<(&str, usize)> = haul.files.iter().map(|one| (one.file.as_str(), one.number)).collect();
        assert_eq!(files, [("out/secret/a", 0), ("out/secret/b", 0), ("out/secret/deep/c", 2)]);
        assert_eq!(fs::read(dir.path().join("0")).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let named: Vec<&str> = haul.left_out.non_results.iter().map(|left| left.file.as_str()).collect();
        assert_eq!(
            named,
            [
                "out/secret/link",
                "out/secret/pipe",
                "out/secret/x.raw",
                "out/secret/scratch/",
                "out/secret/null",
                "secret/../../x"
            ]
        );
        let kept: Vec<&str> = haul.left_out.undelivered.iter().map(|left| left.reason.as_str()).collect();
        assert!(kept[0].contains("1001 bytes") && kept[1].contains("outputs.max_total_mb"), "{kept:?}");
    }

    #[test]
    fn a_truncated_archive_is_an_error() {
        let mut builder = Builder::new(Vec::new());
        add(&mut builder, EntryType::Regular, "secret/a", &[b'a'; 900]);
        let bytes = builder.into_inner().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (haul, done) = unpack(&bytes[..1000], dir.path(), u64::MAX);
        assert!(matches!(done, Err(UnpackError::Archive(_))) && haul.files.is_empty(), "{done:?}");
        let (_, done) = unpack(&b"no archive"[..], dir.path(), u64::MAX);
        assert!(matches!(done, Err(UnpackError::Archive(_))), "{done:?}");
    }

    #[test]
    fn an_endless_archive_is_read_up_to_the_limit() {
        let mut builder = Builder::new(Vec::new());
        add(&mut builder, EntryType::Regular, "secret/a", b"one");
        let begun = builder.into_inner().unwrap()[..1024].to_vec();
        let mut header = Header::new_gnu();
        header.set_path("secret/endless").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = io::Cursor::new(begun).chain(io::Cursor::new(header.as_bytes().to_vec())).chain(io::repeat(0));
        let dir = tempfile::tempdir().unwrap();
        let (haul, done) = unpack(endless, dir.path(), 1 << 20);
        done.unwrap();
        assert_eq!(haul.files.len(), 1);
        let reasons: Vec<&str> = haul.left_out.undelivered.iter().map(|left| left.reason.as_str()).collect();
        assert!(reasons[0].contains("outputs.max_file_mb") && reasons[1].contains("far more"), "{reasons:?}");
    }
}
