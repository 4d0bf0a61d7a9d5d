//! Random trees of files, with random rights on each level: every file is delivered, or named with the reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid, setfsuid};
use proptest::collection::vec;
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};
use walkdir::WalkDir;

use super::{Budget, ExtractOptions, Extracted, Pass};
use crate::config::{Exclude, OutputsConfig};
use crate::server::protocol::LeftOut;
use crate::task::outputs::scan::{self, Pulse};
use crate::task::outputs::{ReservedPaths, Selection, shown_name};

/// The account `nobody`, to which no other files here belong.
const USER: u32 = 65534;
/// The names of entries, of which some are reserved in the workspace, or excluded.
const NAMES: [&str; 8] = ["a", "b.tmp", "input", "m", "output", "scratch", "task.json", "z"];

/// An entry of a random tree.
#[derive(Debug, Clone)]
enum Node {
    Folder(Rights, BTreeMap<usize, Node>),
    File(Rights),
    /// Another name of one of the files that there are before it.
    Name(usize),
    Link,
}

/// What the agent's user may do with an entry, and whether it is root's.
type Rights = (u32, bool);

fn rights() -> impl Strategy<Value = Rights> {
    let bits = prop_oneof![3 => Just(7), 1 => Just(5), 1 => Just(3), 1 => Just(1), 1 => Just(0)];
    (bits, any::<bool>())
}

fn folder(nodes: impl Strategy<Value = Node>) -> impl Strategy<Value = Node> {
    let entries = vec((0..NAMES.len(), nodes), 0..6);
    (rights(), entries).prop_map(|(rights, entries)| Node::Folder(rights, entries.into_iter().collect()))
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf =
        prop_oneof![6 => rights().prop_map(Node::File), 3 => (0..9usize).prop_map(Node::Name), 1 => Just(Node::Link)];
    folder(leaf.prop_recursive(4, 40, 6, folder))
}

/// A tree on the disk. Dropping it removes it, also where its rights would forbid that.
struct Tree {
    dir: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Drop for Tree {
    fn drop(&mut self) {
        let open = |path: &Path| drop(fs::set_permissions(path, Permissions::from_mode(0o700)));
        // From the top to the bottom: what is closed can't be looked into.
        open(&self.workspace());
        for entry in WalkDir::new(self.workspace()).into_iter().flatten() {
            if entry.file_type().is_dir() {
                fs::read_dir(entry.path()).into_iter().flatten().flatten().for_each(|inner| {
                    if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
                        open(&inner.path());
                    }
                });
            }
        }
    }
}

impl Tree {
    fn make(root: &Node) -> (Self, Vec<(PathBuf, Rights)>) {
        let dir = tempfile::tempdir().expect("make a folder");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("open the folder");
        fs::create_dir(dir.path().join("into")).expect("make a folder");
        fs::set_permissions(dir.path().join("into"), Permissions::from_mode(0o777)).expect("open the folder");
        let mut tree = Self { dir, files: Vec::new() };
        let mut all = Vec::new();
        tree.add(&tree.workspace(), root, &mut all);
        (tree, all)
    }

    fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    fn add(&mut self, path: &Path, node: &Node, all: &mut Vec<(PathBuf, Rights)>) {
        match node {
            Node::Folder(rights, entries) => {
                fs::create_dir(path).expect("make a folder");
                entries.iter().for_each(|(name, node)| self.add(&path.join(NAMES[*name]), node, all));
                all.push((path.to_owned(), *rights));
            }
            Node::File(rights) => {
                fs::write(path, path.as_os_str().as_encoded_bytes()).expect("write a file");
                all.push((path.to_owned(), *rights));
                self.files.push(path.to_owned());
            }
            Node::Name(number) => {
                let Some(file) = self.files.get(*number) else { return };
                fs::hard_link(file, path).expect("make another name");
            }
            Node::Link => symlink("a", path).expect("make a link"),
        }
    }

    /// What `docker cp` sends of a place: everything, each file's bytes under the first of its names.
    fn archive(&self, place: &Path) -> Vec<u8> {
        let (top, mut builder) = (self.workspace().join(place), Builder::new(Vec::new()));
        let base = place.file_name().unwrap_or("mount".as_ref());
        let mut first_names = HashMap::new();
        for entry in WalkDir::new(&top).follow_root_links(false).sort_by_file_name() {
            let entry = entry.expect("an entry");
            let name = Path::new(base).join(entry.path().strip_prefix(&top).expect("a path below it"));
            let metadata = entry.metadata().expect("look at it");
            let mut header = Header::new_gnu();
            header.set_mtime(0);
            if metadata.is_file() {
                if let Some(first) = first_names.get(&metadata.ino()) {
                    header.set_entry_type(EntryType::Link);
                    header.set_size(0);
                    builder.append_link(&mut header, &name, first).expect("write to memory");
                    continue;
                }
                header.set_size(metadata.len());
                builder
                    .append_data(&mut header, &name, fs::File::open(entry.path()).expect("open it"))
                    .expect("add it");
                first_names.insert(metadata.ino(), name);
                continue;
            }
            header.set_size(0);
            header.set_entry_type(EntryType::Directory);
            if !metadata.is_dir() {
                header.set_entry_type(EntryType::Symlink);
                header.set_link_name("a").expect("a short name");
            }
            builder.append_data(&mut header, &name, &b""[..]).expect("write to memory");
        }
        builder.into_inner().expect("write to memory")
    }
}

/// Puts the rights of this thread back.
struct Back(Uid);

impl Drop for Back {
    fn drop(&mut self) {
        setfsuid(self.0);
    }
}

/// Lets this thread use files as an ordinary user, if it may.
fn become_ordinary() -> Back {
    let before = geteuid();
    if before.is_root() {
        setfsuid(Uid::from_raw(USER));
    }
    Back(before)
}

/// The names of the files that are delivered, with the paths of their bytes, and what is named as left out.
type Delivered = (BTreeMap<String, PathBuf>, Vec<LeftOut>, u64);

/// Does what an agent does with a workspace of which it can't read all.
fn collect(tree: &Tree, all: &[(PathBuf, Rights)], limits: &OutputsConfig) -> Delivered {
    let (workspace, into, reserved) = (tree.workspace(), tree.dir.path().join("into"), ReservedPaths::new([]));
    let archives: HashMap<PathBuf, Vec<u8>> = NAMES
        .iter()
        .map(PathBuf::from)
        .chain([PathBuf::new()])
        .filter(|place| workspace.join(place).symlink_metadata().is_ok())
        .map(|place| (place.clone(), tree.archive(&place)))
        .collect();
    for (path, (bits, is_roots)) in all {
        fs::set_permissions(path, Permissions::from_mode(bits * 0o111)).expect("close it");
        if geteuid().is_root() && !is_roots {
            chown(path, Some(USER), None).expect("give it away");
        }
    }
    let _back = become_ordinary();
    let found = scan::scan(&workspace, &reserved, limits, || Pulse::GoOn);
    let mut extracted = Extracted::expecting(found.unreadable.named());
    let budget = Budget::new(1 << 30);
    let places = found.unreadable.places();
    for place in &places {
        let Some(archive) = archives.get(place) else { continue };
        let is_rest = place.as_os_str().is_empty() && places.len() > 1;
        let (into, workspace, base, reserved, budget) = (&into, &workspace, place, &reserved, &budget);
        let done = is_rest.then_some(Path::new("output"));
        let mut pass = Pass::Results;
        loop {
            let (keep_free, leaves_out) = (0, false);
            let options =
                ExtractOptions { into, workspace, base, done, pass, reserved, limits, keep_free, leaves_out, budget };
            extracted.unpack(&archive[..], &options).expect("an archive");
            if pass == Pass::OtherNames || !extracted.needs_other_names() {
                break;
            }
            pass = Pass::OtherNames;
        }
        extracted.end_archive();
    }
    let mut delivered = BTreeMap::new();
    let mut skipped = found.skipped;
    for file in std::mem::take(&mut extracted.files) {
        let before = delivered.insert(file.file, into.join(file.number.to_string()));
        assert_eq!(before, None, "it is extracted once");
    }
    skipped.add(extracted.finish());
    let mut selection = Selection::new(limits);
    found.files.into_iter().for_each(|file| selection.push(file));
    for file in selection.finish(&mut skipped) {
        file.open().expect("it can be read where it lies");
        let path = workspace.join(&file.name);
        assert_eq!(delivered.insert(file.name, path), None, "it is found or extracted");
    }
    (delivered, [skipped.non_results, skipped.undelivered].concat(), skipped.unnamed)
}

/// Whether a name is that of this file, or of a folder around it. That of a closed folder says nothing of its files.
fn names(left: &LeftOut, name: &str) -> bool {
    let is_around = left.file.strip_suffix('/').is_some_and(|folder| Path::new(name).starts_with(folder));
    left.file == name || (is_around && !left.reason.contains("sockets in it"))
}

proptest! {
    #[test]
    fn every_file_of_a_tree_is_delivered_or_named(root in tree(), max_files in 0..40usize) {
        let (tree, all) = Tree::make(&root);
        let exclude = Exclude::new(&["*.tmp".to_owned(), "scratch/".to_owned()]).expect("patterns");
        let limits = OutputsConfig { max_file: 1 << 20, max_files, max_total: 1 << 20, exclude, notes: true, archive: crate::config::Archive::Never };
        let files = WalkDir::new(tree.workspace()).into_iter().flatten().filter(|entry| entry.file_type().is_file());
        let files: Vec<(PathBuf, Vec<u8>)> = files.map(|entry| {
            let bytes = fs::read(entry.path()).expect("read it");
            (entry.into_path(), bytes)
        }).collect();
        let (delivered, left_out, unnamed) = collect(&tree, &all, &limits);
        prop_assert_eq!(unnamed, 0);
        let mut results = BTreeSet::new();
        for (path, bytes) in files {
            let relative = path.strip_prefix(tree.workspace()).expect("a path below it");
            if relative.starts_with("input") || relative.starts_with("task.json") {
                continue;
            }
            let name = shown_name(relative);
            let is_named = left_out.iter().any(|left| names(left, &name));
            match delivered.get(&name) {
                Some(place) => prop_assert_eq!(fs::read(place).expect("read it"), bytes),
                None => prop_assert!(is_named, "{} is lost: {:?}", name, left_out),
            }
            // A file whose other name is excluded is a result all the same.
            let is_excluded = limits.exclude.holds_above(relative)
                || limits.exclude.pattern_for(relative, crate::config::PathKind::File).is_some();
            prop_assert!(!(is_excluded && delivered.contains_key(&name)), "{}", name);
            if !is_excluded {
                results.insert(name);
            }
        }
        if results.len() <= max_files {
            prop_assert_eq!(delivered.keys().cloned().collect::<BTreeSet<_>>(), results);
        }
    }
}
