//! `init`: creates a configuration file with every key and its default.

use std::io;
use std::path::{Path, absolute};

use super::failure::Failure;
use super::output::print_line;
use crate::cli::InitArgs;
use crate::config::edit::{TEMPLATE, create, save};
use crate::data_dir::last_used;

/// Writes the template. Only `--force` replaces a file.
pub fn init(file: &Path, args: &InitArgs) -> Result<(), Failure> {
    let shown = absolute(file).unwrap_or_else(|_| file.to_owned());
    let shown = shown.display();
    let written = if args.force { save(file, TEMPLATE.as_bytes()) } else { create(file, TEMPLATE) };
    match written {
        Ok(()) => {
            last_used::forget(file).map_err(Failure::context("the note of the earlier data_dir can't be removed"))?;
            print_line(format_args!("Created {shown}."));
            print_line("Next: set server.base_url in it, then run `agent-core register --token rt_…`.");
            Ok(())
        }
        Err(_) if file.is_dir() => Err(Failure::new(format!("`{shown}` is a folder; name a file in it"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::new(format!("`{shown}` can't be made, since its folder isn't there; make the folder first")))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("`{shown}` exists already and was not changed; `init --force` replaces it")))
        }
        Err(error) => Err(Failure::new(format!("`{shown}` can't be written: {error}"))),
    }
}
