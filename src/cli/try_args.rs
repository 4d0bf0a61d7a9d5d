//! The options of `try`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["prompt", "replay"]).required(true))]
pub struct TryArgs {
    /// What the task is to do
    #[arg(long, value_name = "TEXT", value_hint = ValueHint::Other, allow_hyphen_values = true)]
    pub prompt: Option<String>,

    /// What the result should look like
    #[arg(long, value_name = "TEXT", value_hint = ValueHint::Other, allow_hyphen_values = true)]
    pub output_prompt: Option<String>,

    /// A file to work on; may be given more than once
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub input: Vec<PathBuf>,

    /// Run a kept task again, with its prompts and input files
    #[arg(
        long,
        value_name = "TASK_ID", value_hint = ValueHint::Other,
        allow_hyphen_values = true,
        conflicts_with_all = ["output_prompt", "input"]
    )]
    pub replay: Option<String>,

    /// The image, instead of `executor.image`
    #[arg(long, value_name = "IMAGE", value_hint = ValueHint::Other)]
    pub image: Option<String>,

    /// Put copies of the results into this folder, which must be new or empty
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,

    /// Take a folder for --out that isn't empty, and replace files in it that have
    /// the name of a result
    #[arg(long, requires = "out")]
    pub force: bool,

    /// Keep the workspace, so that the logged command can be repeated
    #[arg(long)]
    pub keep: bool,

    /// Let the container's output control the terminal, with colours and all else
    #[arg(long)]
    pub raw: bool,
}
