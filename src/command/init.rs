//! `init`: creates a configuration file with every key and its default.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf, absolute};

use super::failure::Failure;
use super::output::print_line;
use crate::cli::InitArgs;
use crate::config::edit::{self, TEMPLATE, create, save};
use crate::data_dir::last_used;
use crate::os::files::if_exists;
use crate::shell::{Earlier, agent_command, register_command};

/// What a registered agent needs to reach its Server and the work that is here, beside `agent.api_key` and the service's id:
/// the key must not be sent to another address, nor results be left behind in another folder.
const KEPT: [(&str, &str); 5] =
    [("agent", "service_id"), ("agent", "api_key"), ("agent", "name"), ("server", "base_url"), ("paths", "data_dir")];

/// Writes the template. Only `--force` replaces a file, of which a copy and the registration are kept.
pub fn init(file: &Path, args: &InitArgs) -> Result<(), Failure> {
    let file = absolute(file).unwrap_or_else(|_| file.to_owned());
    let made = if args.force { replace(&file)? } else { create(&file, TEMPLATE.as_bytes()).map(|_| Made::default()) };
    let made = made.map_err(|error| explain(&file, &error))?;
    print_line(format_args!("Created {}.", file.display()));
    if let Some(copy) = &made.copy {
        print_line(format_args!("The old file is {}.", copy.display()));
    }
    if made.is_registered {
        print_line("The registration was kept, with server.base_url and paths.data_dir. All else has its default.");
        let check = agent_command(&file, &["check"]);
        print_line(format_args!("Next: copy from the old file what you need, then run `{check}`."));
        return Ok(());
    }
    last_used::forget(&file).map_err(Failure::context("the note of the earlier data_dir can't be removed"))?;
    let data_dir = file.parent().unwrap_or(&file).join("data");
    print_line(format_args!(
        "Next: set server.base_url in it, and paths.data_dir if tasks and results are not to be in {}; then run `{}`.",
        data_dir.display(),
        register_command(&file, Earlier::None)
    ));
    Ok(())
}

/// What was made beside the new file.
#[derive(Default)]
struct Made {
    /// The copy of the old file.
    copy: Option<PathBuf>,
    /// Whether the new file has the old one's registration.
    is_registered: bool,
}

/// Replaces a file, if there is one, and keeps a copy of it.
fn replace(file: &Path) -> Result<io::Result<Made>, Failure> {
    if file.is_dir() {
        return Ok(Err(ErrorKind::IsADirectory.into()));
    }
    check_old(file)?;
    let copied = if_exists(edit::back_up(file));
    let copy = match copied {
        Ok(copy) => copy,
        Err(error) => {
            let what = format!("`{}` was not changed, since no copy of it can be made", file.display());
            return Err(Failure::context(what)(error));
        }
    };
    let kept = copy.as_deref().and_then(kept_settings);
    let text = match &kept {
        Some(values) => {
            let values = KEPT
                .iter()
                .zip(values)
                .filter_map(|(&(section, key), value)| Some((section, key, value.as_deref()?.into())));
            edit::apply(TEMPLATE, &values.collect::<Vec<_>>()).map_err(Failure::with_path(file, "can't be made"))?
        }
        None => TEMPLATE.to_owned(),
    };
    Ok(save(file, text.as_bytes()).map(|()| Made { copy, is_registered: kept.is_some() }))
}

/// Checks that the registration in a file can be kept.
fn check_old(file: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| {
        Err(Failure::new(format!("`{}` was not changed: {why}; correct it, or move it away first", file.display())))
    };
    let old = if_exists(edit::read_old(file)).map_err(Failure::with_path(file, "can't be read"))?;
    let Some(bytes) = old else { return Ok(()) };
    match std::str::from_utf8(&bytes).ok().and_then(|text| edit::texts(text, KEPT)) {
        None => refuse("it isn't TOML, so that a registration in it could not be kept"),
        Some([Some(_), Some(_), _, None, _]) => {
            refuse("it has a registration and no `server.base_url`: the key would then go to another Server")
        }
        Some(_) => Ok(()),
    }
}

/// The values of [`KEPT`] in a file that is registered.
fn kept_settings(file: &Path) -> Option<[Option<String>; 5]> {
    let text = crate::os::files::read_text(file).ok()?;
    edit::texts(&text, KEPT).filter(|[service_id, api_key, ..]| service_id.is_some() && api_key.is_some())
}

fn explain(file: &Path, error: &io::Error) -> Failure {
    let shown = file.display();
    Failure::new(match error.kind() {
        _ if file.is_dir() => format!("`{shown}` is a folder; name a file in it"),
        ErrorKind::NotFound => {
            format!("`{shown}` can't be made, since its folder isn't there; make the folder first")
        }
        ErrorKind::AlreadyExists => {
            let force = agent_command(file, &["init", "--force"]);
            format!(
                "`{shown}` exists already and was not changed; `{force}` replaces it, but keeps its registration and a copy"
            )
        }
        _ => format!("`{shown}` can't be written: {error}"),
    })
}
