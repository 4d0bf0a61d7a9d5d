//! A small disk for an agent's data folder, which a test can fill completely.

use crate::support::agent::Agent;
use crate::support::docker;
use crate::support::ordinary_user::{OrdinaryUser, USER};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// An ext4 of 64 MiB as an agent's data folder, on which a test causes trouble. Dropping the value kills the agent, removes
/// its containers and unmounts the disk.
pub struct Ext4Disk {
    agent: Agent,
    pub place: PathBuf,
}

impl Ext4Disk {
    /// Mounts the disk with these options as the data folder of an agent that hasn't run yet.
    pub fn mount(agent: &Agent, options: &str) -> Self {
        crate::require_root();
        let (place, image) = (agent.data_dir(), agent.path("disk.img"));
        File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("make the disk's image");
        system("mkfs.ext4", &["-q"], &[&image]);
        fs::create_dir(&place).expect("make the data folder");
        system("mount", &["-o", &format!("loop{options}")], &[&image, &place]);
        Self { agent: agent.clone(), place }
    }
}

impl Drop for Ext4Disk {
    fn drop(&mut self) {
        unmount(&self.agent, &self.place);
    }
}

/// Runs a command of the system, which must succeed.
pub fn system(program: &str, words: &[&str], paths: &[&Path]) {
    let output = Command::new(program).args(words).args(paths).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A disk, mostly a tmpfs, as the agent's data folder. Dropping the value kills the agent, removes its containers and unmounts the
/// disk.
pub struct SmallDisk {
    agent: Agent,
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of `mib` MiB as the data folder of an agent that hasn't run yet.
    pub fn mount(agent: &Agent, mib: u64) -> Self {
        Self::mount_with(agent, &format!("size={mib}m"))
    }

    /// As [`SmallDisk::mount`] does, with these options of a tmpfs.
    pub fn mount_with(agent: &Agent, options: &str) -> Self {
        crate::require_root();
        let place = agent.data_dir();
        fs::create_dir(&place).expect("make the data folder");
        let options = format!("{options},mode=0700");
        system("mount", &["-t", "tmpfs", "-o", &options, "agent-core-test"], &[&place]);
        Self { agent: agent.clone(), place }
    }

    /// Mounts an ext4 of `mib` MiB, made with these options of `mkfs.ext4`, as the data folder of an ordinary user's agent.
    /// Root, and so a container of root, also fills the part of it that the system keeps back from that user.
    pub fn mount_ext4(user: &OrdinaryUser, mib: u64, options: &[&str]) -> Self {
        crate::require_root();
        let agent = &user.agent;
        let (place, image) = (agent.data_dir(), agent.path("disk.img"));
        fs::create_dir(&place).expect("make the data folder");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("make the disk's image");
        system("mkfs.ext4", &[&["-q", "-F"], options].concat(), &[&image]);
        system("mount", &["-o", "loop"], &[&image, &place]);
        fs::remove_dir(place.join("lost+found")).expect("remove what `mkfs.ext4` has made");
        chown(&place, Some(USER), Some(USER)).expect("give the disk to the user");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).expect("close the disk");
        Self { agent: agent.clone(), place }
    }

    /// Whether hardly anything can be written, also by root. An ext4 keeps a fiftieth for itself.
    pub fn is_full(&self) -> bool {
        let disk = statvfs(&self.place).expect("ask the disk for its room");
        disk.blocks_free() < disk.blocks() / 40 || disk.files_free() == 0
    }

    /// The free space in bytes.
    pub fn free(&self) -> u64 {
        let disk = statvfs(&self.place).expect("ask the disk for its room");
        disk.blocks_available() * disk.fragment_size()
    }

    /// Fills the disk until `bytes` bytes are free.
    pub fn leave(&self, bytes: u64) {
        let ballast = Ballast::of(&self.place);
        ballast.remove();
        let size = self.free().saturating_sub(bytes);
        ballast.add(&vec![b'x'; usize::try_from(size).expect("a small disk")]);
    }

    /// A function that fills the disk completely, for use in a fault.
    pub fn filler(&self) -> impl Fn() + Send + Sync + 'static {
        let ballast = Ballast::of(&self.place);
        move || {
            for size in [1 << 20, 4096, 1] {
                while ballast.add(&vec![b'x'; size]) {}
            }
        }
    }

    /// Removes the file that [`SmallDisk::leave`] and [`SmallDisk::filler`] write.
    pub fn clear(&self) {
        Ballast::of(&self.place).remove();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.agent, &self.place);
    }
}

/// Ends what uses a disk under an agent's data folder, the agent and its containers, and unmounts the disk.
pub fn unmount(agent: &Agent, place: &Path) {
    if thread::panicking() {
        eprintln!("{}", agent.report());
    }
    // The cleanup of the agent's folder finds containers by a file on this disk, so the containers go first.
    for process in agent.processes() {
        let pid = i32::try_from(process).map(Pid::from_raw).expect("a process id");
        match kill(pid, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => eprintln!("process {process} can't be killed: {error}"),
        }
    }
    if let Some(instance) = agent.instance() {
        docker::remove_containers(&format!("label=open-aaas.instance={instance}"));
    }
    let unmounted = |words: &[&str]| {
        let output = Command::new("umount").args(words).arg(place).output();
        output.is_ok_and(|output| output.status.success())
    };
    // A killed process may need a moment to end.
    for _ in 0..50 {
        if unmounted(&[]) {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    unmounted(&["--lazy"]);
}

/// The file that fills the disk.
struct Ballast(PathBuf);

impl Ballast {
    fn of(disk: &Path) -> Self {
        Self(disk.join("ballast"))
    }

    /// Appends bytes; returns false when the disk is full.
    fn add(&self, bytes: &[u8]) -> bool {
        let file = File::options().create(true).append(true).open(&self.0);
        match file.and_then(|mut file| file.write_all(bytes)) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::StorageFull => false,
            Err(error) => panic!("{}: {error}", self.0.display()),
        }
    }

    fn remove(&self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", self.0.display()),
            _ => {}
        }
    }
}
