//! Where the configuration file is.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The file in the current directory.
const HERE: &str = "config.toml";
/// The variable that names a file.
const VARIABLE: &str = "AGENT_CORE_CONFIG";
/// The file of the whole machine.
const OF_MACHINE: &str = "/etc/agent-core/config.toml";

/// The configuration file: the one that `--config` names, else `config.toml` in the current directory, else the one that
/// `AGENT_CORE_CONFIG` names, else the machine's. Where there is none of them, it is the first that could be made.
pub fn find_file(given: Option<&Path>) -> PathBuf {
    let named = std::env::var_os(VARIABLE);
    given.map_or_else(|| choose(named, Path::new(OF_MACHINE), is_there), Path::to_owned)
}

/// The file that `init` makes where `--config` names none: it never writes for the whole machine unasked.
pub fn find_new_file(given: Option<&Path>) -> PathBuf {
    let named = std::env::var_os(VARIABLE);
    given.map_or_else(
        || choose(named, Path::new(OF_MACHINE), |file| file == Path::new(HERE) && is_there(file)),
        Path::to_owned,
    )
}

fn choose(named: Option<OsString>, of_machine: &Path, is_there: impl Fn(&Path) -> bool) -> PathBuf {
    let here = PathBuf::from(HERE);
    let named = named.filter(|file| !file.is_empty()).map(PathBuf::from);
    if is_there(&here) {
        return here;
    }
    named.or_else(|| is_there(of_machine).then(|| of_machine.to_owned())).unwrap_or(here)
}

/// Whether there is a file, or one that this user may not see: then another account has to be used, and no other file.
fn is_there(file: &Path) -> bool {
    match file.symlink_metadata() {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::{HERE, choose};
    use std::path::Path;

    #[test]
    fn the_file_is_looked_for_here_then_in_the_variable_then_in_etc() {
        let etc = Path::new("/etc/x.toml");
        let chosen = |named: &str, there: &[&str]| {
            let is_there = |file: &Path| there.iter().any(|known| Path::new(known) == file);
            choose(Some(named.into()), etc, is_there).to_string_lossy().into_owned()
        };
        assert_eq!(chosen("named", &[HERE, "named", "/etc/x.toml"]), HERE);
        // A named file that is missing is reported, and none is taken in its place.
        assert_eq!(chosen("named", &["/etc/x.toml"]), "named");
        assert_eq!(chosen("", &["/etc/x.toml"]), "/etc/x.toml");
        assert_eq!(chosen("", &[]), HERE);
        assert_eq!(choose(None, etc, |_| false), Path::new(HERE));
    }
}
