//! What a trial works on: what somebody typed, or a task that is kept here.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::progress::Copying;
use crate::cli::TryArgs;
use crate::command::failure::Failure;
use crate::command::find_task::find_task;
use crate::config::Config;
use crate::os::platform;
use crate::server::protocol::{InputFile, Task};
use crate::task::workspace::{Workspace, input_names};

/// A task and where its input files are.
pub struct Offer {
    /// The task, as a Server would offer it. Of files that were typed, the sizes aren't known yet.
    pub task: Task,
    inputs: Inputs,
}

enum Inputs {
    /// Files of this machine.
    Typed(Vec<PathBuf>),
    /// The workspace of a kept task.
    Kept(PathBuf),
}

impl Offer {
    /// What the command line asks for; `id` is for a task that has none yet.
    pub fn new(args: &TryArgs, config: &Config, id: &str) -> Result<Self, Failure> {
        match &args.replay {
            Some(id) => Self::kept(config, id),
            None => Self::typed(args, id),
        }
    }

    fn typed(args: &TryArgs, id: &str) -> Result<Self, Failure> {
        let mut input_files = Vec::new();
        for (index, path) in args.input.iter().enumerate() {
            let wrong = |why: String| Failure::new(format!("the input file `{}` {why}", path.display()));
            let metadata = fs::metadata(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
            let name = path.file_name().filter(|_| metadata.is_file());
            let Some(name) = name else { return Err(wrong("is no file".to_owned())) };
            let filename = name.to_string_lossy().into_owned();
            let mime_type = mime_guess::from_path(&filename).first_raw().map(str::to_owned);
            input_files.push(InputFile { id: format!("input-{}", index + 1), filename, mime_type, size_bytes: 0 });
        }
        let task = Task {
            id: id.to_owned(),
            task_prompt: args.prompt.clone().unwrap_or_default(),
            output_prompt: args.output_prompt.clone(),
            session_id: None,
            input_files,
        };
        Ok(Self { task, inputs: Inputs::Typed(args.input.clone()) })
    }

    fn kept(config: &Config, id: &str) -> Result<Self, Failure> {
        let (files, record) = find_task(config, id)?;
        let workspace = Workspace::new(&config.paths.data_dir, files.key());
        Ok(Self { task: record.task, inputs: Inputs::Kept(workspace.dir().to_owned()) })
    }

    /// Copies the inputs to their places in a fresh workspace.
    pub fn place(&mut self, workspace: &Workspace, copying: &Copying<'_>) -> Result<(), Failure> {
        let names = input_names(&self.task);
        for (index, (file, name)) in self.task.input_files.iter_mut().zip(&names).enumerate() {
            let (source, shown) = match &self.inputs {
                Inputs::Typed(paths) => (File::open(&paths[index]), paths[index].clone()),
                // Its container may have put a link there, or something that isn't a file.
                Inputs::Kept(root) => {
                    let relative = Path::new("input").join(name);
                    (platform::open_beneath(root, &relative), root.join(relative))
                }
            };
            let place = workspace.input(name);
            let copied = source.and_then(|source| copy(copying, name, source, &place));
            let wrong = |why: String| Failure::new(format!("the input file `{}` {why}", shown.display()));
            let count = copied.map_err(|error| wrong(format!("can't be copied: {error}")))?;
            if matches!(self.inputs, Inputs::Kept(_)) && count != file.size_bytes {
                let announced = file.size_bytes;
                return Err(wrong(format!(
                    "has {count} bytes and not the {announced} that came; it can't be replayed"
                )));
            }
            file.size_bytes = count;
        }
        Ok(())
    }
}

fn copy(copying: &Copying<'_>, name: &str, mut source: File, place: &Path) -> io::Result<u64> {
    if !source.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let count = copying.copy(name, &mut source, &mut File::create_new(place)?)?;
    platform::make_world_writable(place)?;
    Ok(count)
}
