//! Where a path lies: on which file system, and where in it. Two paths may lead to the same place of a file system, by bind
//! mounts, and no folder on the way needs to be the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::platform;

/// A place in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file system.
    device: Vec<u8>,
    path: PathBuf,
}

impl Location {
    /// Whether this is the other place, or below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.device == other.device && self.path.starts_with(&other.path)
    }
}

/// The mounts of this machine. On other systems than Linux it is empty, and a path's place is the path itself.
#[derive(Debug, Default)]
pub struct MountTable(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    id: u32,
    /// The mount that has this one's mount point.
    parent: u32,
    root: Location,
    point: PathBuf,
    readonly: bool,
}

impl MountTable {
    /// The mounts of this moment.
    pub fn read() -> io::Result<Self> {
        if !cfg!(target_os = "linux") {
            return Ok(Self::default());
        }
        Self::parse(&fs::read("/proc/self/mountinfo")?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a line of it has another format"))
    }

    /// See proc_pid_mountinfo(5).
    fn parse(text: &[u8]) -> Option<Self> {
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(Entry::parse)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Where an absolute path without links lies.
    pub fn location(&self, path: &Path) -> Location {
        let Some(entry) = self.entry_of(path) else { return Location { device: Vec::new(), path: path.to_owned() } };
        let below = path.strip_prefix(&entry.point).unwrap_or(path);
        Location { device: entry.root.device.clone(), path: entry.root.path.join(below) }
    }

    /// The places of the file systems that are mounted below a path, with whether nothing can be written to them.
    pub fn below<'t>(&'t self, path: &'t Path) -> impl Iterator<Item = (&'t Location, bool)> {
        let is_below = move |entry: &&Entry| entry.point != path && entry.point.starts_with(path);
        self.0.iter().filter(is_below).map(|entry| (&entry.root, entry.readonly))
    }

    /// The mount that a path is on. One that is covered by another is passed by.
    fn entry_of(&self, path: &Path) -> Option<&Entry> {
        let has = |id| self.0.iter().any(|entry| entry.id == id);
        let mut on = self.0.iter().find(|entry| !has(entry.parent) || entry.id == entry.parent)?;
        for _ in &self.0 {
            let is_next = |entry: &&Entry| entry.parent == on.id && entry.id != on.id && path.starts_with(&entry.point);
            let next = self.0.iter().filter(is_next).min_by_key(|entry| entry.point.components().count());
            let Some(next) = next else { break };
            on = next;
        }
        path.starts_with(&on.point).then_some(on)
    }
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut next = || fields.next();
        let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
        let (id, parent, device) = (number(next()?)?, number(next()?)?, next()?.to_owned());
        let (root, point) = (unescape(next()?)?, unescape(next()?)?);
        let is_readonly = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
        let readonly = is_readonly(next()?) || is_readonly(fields.next_back()?);
        Some(Self { id, parent, root: Location { device, path: root }, point, readonly })
    }
}

/// A path in which blanks and some other characters are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| *byte == b'\\');
        let value = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    platform::from_bytes(&bytes).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::MountTable;
    use std::path::Path;

    const TABLE: &[u8] = b"\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 8:2 / /share rw - ext4 /dev/sdb1 rw
31 30 8:3 /sub /share/disk\\040one rw - ext4 /dev/sdc1 rw
32 21 8:1 /srv/x /alias rw - ext4 /dev/sda1 rw
33 30 0:5 / /share/ro ro - tmpfs tmpfs rw
34 30 0:6 / /share/frozen rw - tmpfs tmpfs ro
40 21 8:9 / /a/b rw - ext4 /dev/sdd rw
41 21 8:7 / /a rw - ext4 /dev/sde rw
42 41 8:8 / /a rw - ext4 /dev/sdf rw
";

    #[test]
    fn a_place_is_that_of_the_uppermost_mount() {
        let table = MountTable::parse(TABLE).unwrap();
        for (path, device, place) in [
            ("/srv/x/sub", "8:1", "/srv/x/sub"),
            ("/alias/sub", "8:1", "/srv/x/sub"),
            ("/aliased", "8:1", "/aliased"),
            ("/share/disk one/ref", "8:3", "/sub/ref"),
            ("/share", "8:2", "/"),
            ("/a/b", "8:8", "/b"),
        ] {
            let found = table.location(Path::new(path));
            assert_eq!(
                (found.device.as_slice(), found.path.as_path()),
                (device.as_bytes(), Path::new(place)),
                "{path}"
            );
        }
        let outer = table.location(Path::new("/srv"));
        assert!(table.location(Path::new("/alias/sub")).is_within(&outer));
        assert!(!table.location(Path::new("/share/srv")).is_within(&outer));
    }

    #[test]
    fn what_is_mounted_below_a_path_is_listed_with_what_cannot_be_written() {
        let table = MountTable::parse(TABLE).unwrap();
        let below: Vec<bool> = table.below(Path::new("/share")).map(|(_, readonly)| readonly).collect();
        assert_eq!(below, [false, true, true]);
        assert!(MountTable::parse(b"21 1 8:1\n").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_machines_own_table_is_read() {
        let table = MountTable::read().unwrap();
        assert!(!table.location(Path::new("/proc/self")).is_within(&table.location(Path::new("/"))));
    }
}
