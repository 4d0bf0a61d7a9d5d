//! Paths of this machine as the configuration writes them.
//!
//! Only `~/` means something else than its letters. What a shell or another system would expand is refused: as letters it
//! would make a folder of that name beside the file, and the data would be missing where it was meant to be.

use std::path::{Path, PathBuf, absolute};

/// Whether a path begins at the home.
pub(super) fn is_at_home(written: &str) -> bool {
    written == "~" || written.starts_with("~/")
}

/// The absolute path of this machine that a path in the file means: `~/` is the home, and a relative path begins at the
/// file's folder.
///
/// # Errors
/// What the path must be instead.
pub(super) fn resolve_host(file: &Path, written: &str) -> Result<PathBuf, String> {
    if written.is_empty() || written.contains('\0') {
        return Err("must be a path of this machine".to_owned());
    }
    check_literal(written)?;
    let path = if is_at_home(written) {
        let home = std::env::home_dir().filter(|home| home.is_absolute()).ok_or_else(|| {
            format!("begins with `~`, but HOME isn't set; write the whole path instead of `{written}`")
        })?;
        home.join(written.trim_start_matches('~').trim_start_matches('/'))
    } else {
        file.parent().unwrap_or(Path::new("/")).join(written)
    };
    let path = absolute(&path).map_err(|error| format!("can't be resolved: {error}"))?;
    // It becomes a part of docker's command line, as text.
    if path.to_str().is_none() {
        return Err("must be valid UTF-8, with all folders above it".to_owned());
    }
    Ok(path)
}

/// Refuses what a shell or another system would replace by something else.
///
/// # Errors
/// What is to be written instead.
pub(super) fn check_literal(written: &str) -> Result<(), String> {
    let instead = |what: &str| Err(format!("`{written}` {what}; write the whole path"));
    if written == "$HOME" || written.starts_with("$HOME/") || written.starts_with("${HOME}") {
        return Err(format!("`{written}` has a variable, and none is replaced here; write `~/` for the home"));
    }
    if has_shell_variable(written) || has_percent_variable(written) {
        return instead("has a variable, and none is replaced here");
    }
    if written.starts_with('~') && !is_at_home(written) {
        return instead("would be another user's home, which isn't looked up here");
    }
    if cfg!(unix) && is_of_windows(written) {
        return instead("is a path of Windows, and this is another system");
    }
    Ok(())
}

/// Whether a text has `$NAME` or `${NAME}`.
fn has_shell_variable(text: &str) -> bool {
    let begins_name = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '{');
    text.split('$').skip(1).any(begins_name)
}

/// Whether a text has `%NAME%`.
fn has_percent_variable(text: &str) -> bool {
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_()".contains(&byte))
    };
    let parts: Vec<&str> = text.split('%').collect();
    parts.len() > 2 && parts[1..parts.len() - 1].iter().any(|part| is_name(part))
}

/// Whether a text begins with a drive (`C:`, `C:\`, `C:/`) or is a path of the network (`\\server\share`).
fn is_of_windows(text: &str) -> bool {
    let is_drive = matches!(text.as_bytes(), [letter, b':', rest @ ..]
        if letter.is_ascii_alphabetic() && matches!(rest.first(), None | Some(b'/' | b'\\')));
    is_drive || text.starts_with("\\\\") || text.starts_with(".\\") || text.starts_with("..\\")
}

#[cfg(test)]
mod tests {
    use super::{check_literal, resolve_host};
    use std::path::Path;

    #[test]
    fn what_another_program_would_replace_is_refused() {
        for written in [
            "$HOME",
            "$HOME/agent",
            "${HOME}/agent",
            "/srv/$USER/data",
            "/srv/${LAB}",
            "data$_x",
            "%APPDATA%",
            "%USERPROFILE%/agent",
            "/srv/%ProgramFiles(x86)%/a",
            "~other",
            "~other/data",
            "~+/x",
        ] {
            let refused = resolve_host(Path::new("/etc/config.toml"), written).unwrap_err();
            assert!(refused.contains(&format!("`{written}`")) && refused.contains("write "), "{refused}");
        }
        assert!(check_literal("$HOME/x").unwrap_err().ends_with("write `~/` for the home"));
    }

    #[cfg(unix)]
    #[test]
    fn paths_of_windows_are_refused_elsewhere() {
        for written in ["C:\\data", "c:/data", "D:", "\\\\server\\share", ".\\data", "..\\data"] {
            let refused = resolve_host(Path::new("/etc/config.toml"), written).unwrap_err();
            assert!(refused.contains("a path of Windows"), "{written}: {refused}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn letters_that_mean_nothing_stay_letters() {
        for written in
            ["/srv/50%/a%b", "/srv/cash$/x", "price$5", "a~b", "/srv/~x", "c:d/x", "100%", "%20", "a%20b%20c"]
        {
            let path = resolve_host(Path::new("/etc/config.toml"), written).unwrap();
            assert_eq!(path, Path::new("/etc").join(written));
        }
    }
}
