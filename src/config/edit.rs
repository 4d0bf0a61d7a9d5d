//! Writes configuration files: the template of `init`, and single keys into a file that a person has edited.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml_edit::{DocumentMut, Item, Table, TomlError, Value};

use crate::os::platform;

/// What `init` writes: every key with its default and a comment.
pub const TEMPLATE: &str = include_str!("template.toml");

/// A value to set: section, key, text or number.
pub type Setting<'a> = (&'a str, &'a str, Value);

/// Why a file couldn't be edited.
#[derive(Debug, Error)]
pub enum EditError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Syntax(#[from] Box<TomlError>),
    #[error("`{0}` is not a section")]
    NoSection(String),
}

/// Sets texts in the file, in place: comments, order and formatting stay as they are.
/// The file is replaced in one step and is readable by its owner only afterwards, since it holds a key.
pub fn set(file: &Path, settings: &[Setting<'_>]) -> Result<(), EditError> {
    let edited = apply(&fs::read_to_string(file)?, settings)?;
    save(file, edited.as_bytes())?;
    Ok(())
}

/// Replaces a file in one step: whoever reads it meets the old or the new text, also after a power cut.
/// A link is followed, so that the file it leads to is replaced and not the link. Its mode becomes 0600, its owner stays.
pub fn save(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = match fs::canonicalize(file) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
        Err(error) => return Err(error),
    };
    let folder = target.parent().unwrap_or(Path::new("/"));
    let temporary = beside(&target);
    let written = write_new(&temporary, bytes, Some(&target)).and_then(|()| fs::rename(&temporary, &target));
    if written.is_err() {
        // What is left of it would hold the key; that it may not exist is fine.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    platform::sync_dir(folder)
}

/// Writes the template where there is no file yet. With `replace` also where there is one.
pub fn create(file: &Path, text: &str, replace: bool) -> io::Result<()> {
    if replace {
        return save(file, text.as_bytes());
    }
    write_new(file, text.as_bytes(), None)
}

fn write_new(file: &Path, bytes: &[u8], replaces: Option<&Path>) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).open(file)?;
    platform::make_private(&out)?;
    match replaces.map_or(Ok(()), |old| platform::keep_owner(old, &out)) {
        // There is none to be replaced.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    out.write_all(bytes)?;
    out.sync_all()
}

fn beside(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// The text with these values set in place.
pub fn apply(text: &str, settings: &[Setting<'_>]) -> Result<String, EditError> {
    // The editor writes plain line ends and drops the mark that some Windows programs begin a file with.
    let (mark, text) = match text.strip_prefix('\u{feff}') {
        Some(rest) => ("\u{feff}", rest),
        None => ("", text),
    };
    let is_crlf = text.contains('\n') && text.matches('\n').count() == text.matches("\r\n").count();
    let edited = apply_to_plain(text, settings)?;
    Ok(format!("{mark}{}", if is_crlf { edited.replace('\n', "\r\n") } else { edited }))
}

fn apply_to_plain(text: &str, settings: &[Setting<'_>]) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(Box::new)?;
    for (section, key, new) in settings {
        let table = document
            .entry(section)
            .or_insert_with(|| Item::Table(Table::new()))
            .as_table_like_mut()
            .ok_or_else(|| EditError::NoSection((*section).to_owned()))?;
        match table.get_mut(key).and_then(Item::as_value_mut) {
            // Only the value is exchanged: the blanks and the comment around it are kept.
            Some(old) => {
                let decor = old.decor().clone();
                *old = new.clone();
                *old.decor_mut() = decor;
            }
            None => {
                table.insert(key, Item::Value(new.clone()));
            }
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[test]
    fn edits_keep_comments_order_and_formatting() {
        let text = "# head\n[executor]\nimage   =  'x'   # mine\n\n[agent]   # who\nname = \"old\" # why\n# tail\n";
        let edited = apply(text, &[("agent", "name", "new".into()), ("agent", "api_key", "ak".into())]).unwrap();
        assert_eq!(
            edited,
            "# head\n[executor]\nimage   =  'x'   # mine\n\n[agent]   # who\nname = \"new\" # why\napi_key = \"ak\"\n# tail\n"
        );
    }

    #[test]
    fn windows_line_ends_and_byte_order_mark_are_kept() {
        let text = "\u{feff}# head\r\n[agent]\r\nname = \"old\"\r\n";
        let edited = apply(text, &[("agent", "name", "new".into()), ("agent", "api_key", "ak".into())]).unwrap();
        assert_eq!(edited, "\u{feff}# head\r\n[agent]\r\nname = \"new\"\r\napi_key = \"ak\"\r\n");
    }

    #[test]
    fn missing_sections_are_added() {
        assert_eq!(apply("", &[("agent", "name", "n".into())]).unwrap(), "[agent]\nname = \"n\"\n");
    }

    #[cfg(unix)]
    #[test]
    fn saving_follows_a_link_and_makes_the_file_private() {
        use super::{save, set};
        use std::fs;
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real.toml"), dir.path().join("link.toml"));
        fs::write(&real, "a = 1\n").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        set(&link, &[("agent", "name", "n".into())]).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "a = 1\n\n[agent]\nname = \"n\"\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        save(&dir.path().join("new"), b"x").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "no temporary file is left");
    }
}
