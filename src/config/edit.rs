//! Writes configuration files: the template of `init`, and single values into a file that a person has edited.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml_edit::{DocumentMut, Item, Table, TomlError, Value};

use crate::os::files::{Durability, Replacement, create_new, read};
use crate::os::platform::{self, Untrusted, Why};
use crate::os::trust::{check_folder_of, place_of_file};

/// The file that `init` writes: every key with its default and a comment.
pub const TEMPLATE: &str = include_str!("template.toml");

/// After so many copies of a file, no other one is made.
const MOST_COPIES: u32 = 100;

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

/// Sets values in the file; comments, order and formatting stay as they are. The file is replaced as by [`save`].
pub fn set(file: &Path, settings: &[Setting<'_>]) -> Result<(), EditError> {
    let edited = apply(&fs::read_to_string(file)?, settings)?;
    Ok(save(file, edited.as_bytes())?)
}

/// Replaces a file in one step: readers see the old or the new text, also after a power cut. A link is followed, so that
/// its target is replaced and not the link. The file's mode becomes 0600, its owner stays.
pub fn save(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // A file that another user puts there from now on is replaced, and doesn't say whose the new one is.
    let (target, ownership) = place_of_file(file).map_err(as_io)?;
    let replacement = Replacement::write(&target, bytes, Durability::PowerCut)?;
    if let Some(ownership) = ownership {
        platform::keep_owner(ownership, replacement.file())?;
    }
    replacement.commit()
}

/// The bytes of a file that is about to be changed; where it is a link, of its target.
pub fn read_old(file: &Path) -> io::Result<Vec<u8>> {
    read(&place_of_file(file).map_err(as_io)?.0)
}

/// Copies a file to the first free name beside it: `NAME.bak`, `NAME.bak.2` and so on. The copy is its owner's only, since
/// there may be a key in it. One with the same bytes isn't made twice.
pub fn back_up(file: &Path) -> io::Result<PathBuf> {
    let (target, ownership) = place_of_file(file).map_err(as_io)?;
    let bytes = read_old(file)?;
    for number in 1..MOST_COPIES {
        let mut name = target.clone().into_os_string();
        name.push(if number == 1 { ".bak".to_owned() } else { format!(".bak.{number}") });
        let copy = PathBuf::from(name);
        match create(&copy, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if read(&copy).is_ok_and(|earlier| earlier == bytes) {
                    return Ok(copy);
                }
            }
            Err(error) => return Err(error),
            Ok(new) => return ownership.map_or(Ok(()), |old| platform::keep_owner(old, &new)).map(|()| copy),
        }
    }
    Err(io::Error::other("there are too many copies of it already"))
}

/// Removes keys of a section; the rest stays as it is. The file is replaced as by [`save`].
pub fn remove(file: &Path, section: &str, keys: &[&str]) -> Result<(), EditError> {
    let text = fs::read_to_string(file)?;
    let edited = edit_plain(&text, |document| {
        let table = document.get_mut(section).and_then(Item::as_table_like_mut);
        let table = table.ok_or_else(|| EditError::NoSection(section.to_owned()))?;
        keys.iter().for_each(|key| drop(table.remove(key)));
        Ok(())
    })?;
    Ok(save(file, edited.as_bytes())?)
}

/// What the text of a configuration has for these keys, as far as it is written as a text. `None` for a text that isn't TOML.
pub fn texts<const N: usize>(text: &str, keys: [(&str, &str); N]) -> Option<[Option<String>; N]> {
    let document: DocumentMut = text.trim_start_matches('\u{feff}').parse().ok()?;
    Some(keys.map(|(section, key)| {
        document.get(section)?.as_table_like()?.get(key)?.as_str().map(str::to_owned).filter(|text| !text.is_empty())
    }))
}

/// Writes a file that doesn't exist yet, for its owner only.
pub fn create(file: &Path, bytes: &[u8]) -> io::Result<File> {
    check_folder_of(file).map_err(as_io)?;
    let mut new = create_new(file)?;
    new.write_all(bytes)?;
    new.sync_all().map(|()| new)
}

fn as_io(wrong: Untrusted) -> io::Error {
    match wrong.why {
        Why::Unreadable(error) => error,
        _ => io::Error::other(wrong),
    }
}

/// The text with these values set; comments, order and formatting stay as they are.
pub fn apply(text: &str, settings: &[Setting<'_>]) -> Result<String, EditError> {
    edit_plain(text, |document| apply_to(document, settings))
}

fn edit_plain(text: &str, edit: impl Fn(&mut DocumentMut) -> Result<(), EditError>) -> Result<String, EditError> {
    // The editor writes plain line ends, and drops the byte order mark with which some Windows programs begin a file.
    let (mark, text) = text.strip_prefix('\u{feff}').map_or(("", text), |rest| ("\u{feff}", rest));
    let is_crlf = text.contains('\n') && text.matches('\n').count() == text.matches("\r\n").count();
    let mut document: DocumentMut = text.parse().map_err(Box::new)?;
    edit(&mut document)?;
    let edited = document.to_string();
    Ok(format!("{mark}{}", if is_crlf { edited.replace('\n', "\r\n") } else { edited }))
}

fn apply_to(document: &mut DocumentMut, settings: &[Setting<'_>]) -> Result<(), EditError> {
    for (section, key, new) in settings {
        let table = document
            .entry(section)
            .or_insert_with(|| Item::Table(Table::new()))
            .as_table_like_mut()
            .ok_or_else(|| EditError::NoSection((*section).to_owned()))?;
        match table.get_mut(key).and_then(Item::as_value_mut) {
            // The blanks and the comment around the value are kept.
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
    Ok(())
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
