//! Volumes that an image declares: the engine mounts a new one at such a path in each container, and removes it with the
//! container.

use std::path::{Path, PathBuf};

use crate::config::{Config, WORKSPACE};
use crate::docker::{Docker, DockerError};

/// The first volume of the executor image that would hide a part of the workspace, so that a task would not see its
/// inputs, or its results would be lost. A mount of the configuration takes the place of a volume.
pub fn hiding_volume(config: &Config, docker: &Docker) -> Result<Option<PathBuf>, DockerError> {
    let volumes = docker.image_volumes(&config.executor.image)?;
    Ok(volumes.into_iter().find(|volume| {
        let is_mounted = config.paths.mounts.iter().any(|mount| volume.starts_with(&mount.container));
        volume.starts_with(WORKSPACE) && volume != Path::new(WORKSPACE) && !is_mounted
    }))
}

/// What is wrong with an image that declares this volume.
pub fn describe(image: &str, volume: &Path) -> String {
    format!(
        "the image `{image}` declares the volume `{}`, which hides that part of a task's workspace, and its results there \
         would be lost; make an image without that `VOLUME`, or set `executor.image` to another one",
        volume.display()
    )
}
