//! The disk on which the engine keeps its containers. A container may fill it by what it writes outside its workspace, and
//! then none can be created, for any task.

use std::path::PathBuf;

use crate::docker::Docker;
use crate::os::platform;
use crate::units::Bytes;

/// With less room than this, an engine may not be able to create a container.
const WANTED: u64 = 64 << 20;

/// The engine's disk, once the engine was asked for it.
#[derive(Default)]
pub struct EngineDisk {
    dir: Option<PathBuf>,
}

impl EngineDisk {
    /// Checks that the engine's disk has room for containers, unless fewer bytes are to stay `free` on disks.
    ///
    /// # Errors
    /// It has none. An engine whose disk can't be looked at from here, as one in a virtual machine, is taken to have room.
    pub fn check(&mut self, docker: &Docker, free: u64) -> Result<(), String> {
        let wanted = WANTED.min(free);
        if self.dir.is_none() {
            self.dir = docker.data_root().ok();
        }
        let Some(dir) = &self.dir else { return Ok(()) };
        match platform::free_disk(dir) {
            Ok(left) if left < wanted => {
                let (wanted, dir) = (Bytes(wanted), dir.display());
                Err(format!("the disk of the Docker engine, `{dir}`, has less than {wanted} left"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EngineDisk, WANTED};
    use crate::docker::Docker;
    use std::path::PathBuf;

    #[test]
    fn only_a_disk_without_room_keeps_tasks_out() {
        let docker = Docker { program: "true".into(), ..Docker::default() };
        let mut missing = EngineDisk { dir: Some(PathBuf::from("/no/such/folder")) };
        assert_eq!(missing.check(&docker, u64::MAX), Ok(()));
        // It has no blocks at all.
        let mut full = EngineDisk { dir: Some(PathBuf::from("/proc")) };
        assert_eq!(full.check(&docker, 0), Ok(()));
        if cfg!(target_os = "linux") {
            let why = full.check(&docker, u64::MAX).unwrap_err();
            assert!(why.contains("`/proc`, has less than") && WANTED > 0, "{why}");
        }
    }
}
