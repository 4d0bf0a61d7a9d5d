//! Volumes that an image declares: the engine mounts a new one at such a path in each container, and removes it with the
//! container. Where it covers a part of the workspace, a task would not see its inputs, or its results would be lost.
//!
//! The engine follows the links of the image on the way to a volume's path, so only the engine can say where a volume
//! lies. It is asked with a container that is created and never started, and that has a folder with a mark in place of
//! each volume: for `docker cp` the engine mounts everything as at a start.

use std::path::{Path, PathBuf};

use crate::config::{Config, WORKSPACE};
use crate::data_dir::DataDir;
use crate::docker::probe::{ProbeSpec, View};
use crate::docker::{Docker, DockerError};
use crate::os::files::{create_for_containers, make_dir_for_containers};
use crate::os::platform;
use crate::os::random::random_u64;

/// The file by which the place of a volume is known.
const MARK: &str = ".agent-core-volume";

/// A volume that hides a part of the workspace.
#[derive(Debug)]
pub struct Hiding {
    /// What it hides: a path in the container.
    pub hidden: PathBuf,
    /// Whether the image declares another path, which leads there by a link.
    is_by_link: bool,
}

impl Hiding {
    /// What is wrong with an image that has such a volume.
    pub fn describe(&self, image: &str) -> String {
        let hidden = self.hidden.display();
        let declares = if self.is_by_link {
            format!("declares a volume that a link in the image leads to `{hidden}`")
        } else {
            format!("declares the volume `{hidden}`")
        };
        format!(
            "the image `{image}` {declares}, which hides that part of a task's workspace, and its results there would be \
             lost; make an image without that `VOLUME`, or set `executor.image` to another one"
        )
    }
}

/// A search for parts of the workspace that the volumes of the executor image hide.
pub struct HiddenParts<'p> {
    pub config: &'p Config,
    pub docker: &'p Docker,
    /// The name for a container of the search.
    pub name: &'p str,
    pub labels: Vec<(&'static str, String)>,
    /// The agent that such a container of an earlier search belongs to.
    pub owner: Option<&'p str>,
    /// A folder among the workspaces.
    pub beside: &'p Path,
}

impl HiddenParts<'_> {
    /// The first hidden part. A mount of the configuration takes the place of a volume.
    pub fn find(self) -> Result<Option<Hiding>, DockerError> {
        let mounts = &self.config.paths.mounts;
        let mut volumes = self.docker.image_volumes(&self.config.executor.image)?;
        volumes.retain(|volume| {
            let is_mounted = mounts.iter().any(|mount| volume.starts_with(&mount.container));
            volume != Path::new(WORKSPACE) && !is_mounted
        });
        if let Some(hidden) = volumes.iter().find(|volume| volume.starts_with(WORKSPACE)) {
            return Ok(Some(Hiding { hidden: hidden.clone(), is_by_link: false }));
        }
        if volumes.is_empty() {
            return Ok(None);
        }
        // What a killed process leaves of it, the agent and the next `check` remove.
        let folder = self.beside.with_file_name(DataDir::probe_name(format_args!("{:016x}", random_u64())));
        let hidden = make_dir_for_containers(&folder)
            .and_then(|()| create_for_containers(&folder.join(MARK)))
            .map_err(|error| DockerError::Refused(error.to_string()))
            .and_then(|_| self.look(&folder, &volumes));
        if let Err(error) = platform::remove_tree(&folder) {
            log::debug!("`{}` can't be removed yet: {error}", folder.display());
        }
        Ok(hidden?.map(|hidden| Hiding { hidden, is_by_link: true }))
    }

    fn look(&self, folder: &Path, volumes: &[PathBuf]) -> Result<Option<PathBuf>, DockerError> {
        // A killed agent has left it.
        if let Some(old) = self.docker.inspect(self.name)?.filter(|old| old.labels.instance.as_deref() == self.owner) {
            self.docker.remove(&old.id)?;
        }
        let id = self.docker.create_probe(&ProbeSpec {
            name: self.name,
            labels: self.labels.clone(),
            image: &self.config.executor.image,
            platform: self.config.executor.options.docker_args.platform.as_deref(),
            source: folder,
            view: View::InPlaceOf(volumes),
        })?;
        // A refusal means that the image has no such folder, and that no volume led there.
        let hidden = match self.docker.find_folder_of(MARK, self.name, Path::new(WORKSPACE)) {
            Err(DockerError::Refused(_)) => Ok(None),
            found => found,
        };
        self.docker.remove(&id)?;
        hidden
    }
}
