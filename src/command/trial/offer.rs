//! The task of a trial: from the command line, or a kept one (`--replay`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::copier::copy_with_progress;
use crate::cli::TryArgs;
use crate::command::failure::Failure;
use crate::command::find_task::find_task;
use crate::config::Config;
use crate::os::files::create_for_containers;
use crate::os::platform;
use crate::server::known_type;
use crate::server::protocol::{InputFile, Task};
use crate::task::workspace::{Workspace, input_names};

/// A task and the places of its input files.
pub struct Offer {
    /// The task, as a Server would offer it. The sizes of files from the command line are 0 until they are copied.
    pub task: Task,
    inputs: Inputs,
}

enum Inputs {
    CommandLine(Vec<PathBuf>),
    /// The kept task's workspace.
    Kept(PathBuf),
}

impl Offer {
    /// The task that the options name. `id` is for a new task.
    pub fn new(args: &TryArgs, config: &Config, id: &str) -> Result<Self, Failure> {
        if let Some(kept) = &args.replay {
            let (files, record) = find_task(config, kept)?;
            let workspace = Workspace::new(&config.paths.data_dir, files.key());
            let offer = files.load_offer().map_err(Failure::context("the kept task's offer can't be read"))?;
            return Ok(Self { task: offer.unwrap_or(record.task), inputs: Inputs::Kept(workspace.dir().to_owned()) });
        }
        let mut input_files = Vec::new();
        for (index, path) in args.input.iter().enumerate() {
            let wrong = |why: String| Failure::new(format!("the input file `{}` {why}", path.display()));
            let metadata = fs::metadata(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
            let name = path.file_name().filter(|_| metadata.is_file());
            let Some(name) = name else { return Err(wrong("is no file".to_owned())) };
            let filename = name.to_string_lossy().into_owned();
            let mime_type = known_type(&filename).map(str::to_owned);
            input_files.push(InputFile { id: format!("input-{}", index + 1), filename, mime_type, size_bytes: 0 });
        }
        let task = Task {
            id: id.to_owned(),
            task_prompt: args.prompt.clone().unwrap_or_default(),
            output_prompt: args.output_prompt.clone(),
            session_id: None,
            input_files,
        };
        Ok(Self { task, inputs: Inputs::CommandLine(args.input.clone()) })
    }

    /// Copies the input files into a new workspace.
    pub fn copy_inputs(&mut self, workspace: &Workspace, interrupted: &AtomicBool) -> Result<(), Failure> {
        let names = input_names(&self.task);
        for (index, (file, name)) in self.task.input_files.iter_mut().zip(&names).enumerate() {
            let (source, shown) = match &self.inputs {
                Inputs::CommandLine(paths) => (File::open(&paths[index]), paths[index].clone()),
                // The task's container may have replaced the file, for example by a link.
                Inputs::Kept(root) => {
                    let relative = Path::new("input").join(name);
                    (platform::open_beneath(root, &relative), root.join(relative))
                }
            };
            let place = workspace.input(name);
            let copied = source.and_then(|source| copy(name, source, &place, interrupted));
            let wrong = |why: String| Failure::new(format!("the input file `{}` {why}", shown.display()));
            let count = copied.map_err(|error| wrong(format!("can't be copied: {error}")))?;
            if matches!(self.inputs, Inputs::Kept(_)) && count != file.size_bytes {
                let announced = file.size_bytes;
                return Err(wrong(format!(
                    "has {count} bytes now and not the {announced} that were received, so the task can't be replayed"
                )));
            }
            file.size_bytes = count;
        }
        Ok(())
    }
}

fn copy(name: &str, source: File, place: &Path, interrupted: &AtomicBool) -> io::Result<u64> {
    if !source.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    copy_with_progress(name, source, create_for_containers(place)?, interrupted)
}
