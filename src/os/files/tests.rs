use super::{
    Durability, Replacement, append, create, create_for_containers, create_new, is_temporary, make_dir_for_containers,
    make_dirs, make_new_dir, open_existing, open_to_read,
};
use crate::os::trust::make_folder;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    Replacement::write(path, content, Durability::Crash)?.commit()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("look at the mode").permissions().mode() & 0o7777
}

#[test]
fn new_files_and_folders_are_their_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    make_dirs(&at("a/b/c")).unwrap();
    make_dirs(&at("a/b/c")).unwrap();
    make_new_dir(&at("d")).unwrap();
    assert_eq!(make_new_dir(&at("d")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    for folder in ["a", "a/b", "a/b/c", "d"] {
        assert_eq!(mode(&at(folder)), 0o700, "{folder}");
    }
    create_new(&at("new")).unwrap();
    assert_eq!(create_new(&at("new")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    create(&at("created")).unwrap();
    append(&at("appended")).unwrap();
    let folder = make_folder(dir.path()).unwrap();
    folder.open_or_create("opened").unwrap();
    folder.replace("replaced", b"x", Durability::PowerCut).unwrap();
    for file in ["new", "created", "appended", "opened", "replaced"] {
        assert_eq!(mode(&at(file)), 0o600, "{file}");
    }
    make_dir_for_containers(&at("open")).unwrap();
    create_for_containers(&at("open/file")).unwrap();
    assert_eq!((mode(&at("open")), mode(&at("open/file"))), (0o777, 0o666));
}

#[test]
fn an_open_file_of_an_older_version_is_closed_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ledger");
    fs::write(&file, "one\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
    append(&file).unwrap().write_all(b"two\n").unwrap();
    assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().as_str()), (0o600, "one\ntwo\n"));
    let held = File::open(&file).unwrap();
    create(&file).unwrap().write_all(b"new").unwrap();
    assert_eq!(io::read_to_string(held).unwrap(), "one\ntwo\n", "a reader of the old file doesn't see the new text");
}

/// The ways to open a file that another user may have put a link or a FIFO in the place of.
const OPENERS: [Opener; 3] = [("append", append), ("existing", open_existing), ("read", open_to_read)];

type Opener = (&'static str, fn(&Path) -> io::Result<File>);

#[test]
fn links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    let link = dir.path().join("link");
    symlink(&victim, &link).unwrap();
    for exists in [false, true] {
        if exists {
            fs::write(&victim, "kept").unwrap();
        }
        for (name, open) in OPENERS {
            assert!(open(&link).is_err(), "{name}");
        }
        assert!(create_new(&link).is_err());
        assert_eq!(victim.exists(), exists);
    }
    replace(&link, b"new").unwrap();
    assert_eq!((fs::read(&victim).unwrap(), fs::read(&link).unwrap()), (b"kept".to_vec(), b"new".to_vec()));
    fs::remove_file(&link).unwrap();
    symlink(&victim, &link).unwrap();
    create(&link).unwrap().write_all(b"newer").unwrap();
    assert_eq!((fs::read(&victim).unwrap(), mode(&link)), (b"kept".to_vec(), 0o600));
    let (folder, to) = (dir.path().join("folder"), dir.path().join("to"));
    fs::create_dir(&folder).unwrap();
    symlink(&folder, &to).unwrap();
    let before = mode(&folder);
    assert!(make_dir_for_containers(&to).is_err());
    assert_eq!(mode(&folder), before);
}

#[test]
fn a_fifo_is_an_error_and_blocks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, open) in OPENERS {
        let error = open(&fifo).expect_err(name);
        assert_eq!(error.to_string(), "it isn't a regular file", "{name}");
    }
    assert!(open_existing(dir.path()).is_err());
}

#[test]
fn a_temporary_file_has_a_name_of_its_own_and_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let names = || {
        let entries = fs::read_dir(dir.path()).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let written: Vec<_> = (0..2).map(|_| Replacement::write(&file, b"x", Durability::Crash).unwrap()).collect();
    let temporary = names();
    assert!(temporary.len() == 2 && temporary.iter().all(|name| is_temporary(name, "file")), "{temporary:?}");
    assert!(temporary.iter().all(|name| mode(&dir.path().join(name)) == 0o600));
    drop(written);
    assert_eq!(names(), [""; 0]);
    let unwritable = PathBuf::from("/dev/full/file");
    assert!(replace(&unwritable, b"x").is_err());
    replace(&file, b"x").unwrap();
    assert_eq!(names(), ["file"]);
    assert!(is_temporary("record.json.tmp", "record.json"), "the name that older versions used");
    assert!(!is_temporary("record.json.mine.tmp", "record.json") && !is_temporary("record.json", "record.json"));
}
