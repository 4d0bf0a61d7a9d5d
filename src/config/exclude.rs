//! `outputs.exclude`: patterns of files that stay on this machine, in the manner of gitignore(5).
//!
//! - A pattern without a `/`, or with one at its end only, matches a name in any folder.
//! - With a `/` at its beginning or in its middle it matches a path that begins at the workspace.
//! - A `/` at its end makes it match folders only. A folder that matches stays here with all its content.
//! - `*` and `?` match no `/`; `**` matches any number of folders.
//! - The last pattern that matches decides. A pattern that begins with `!` takes its matches out again, except from a
//!   folder that stays here.

use std::path::Path;

use super::glob::{Glob, as_bytes, byte_letters, letters};

/// The patterns of `outputs.exclude`.
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    patterns: Vec<Pattern>,
}

impl PartialEq for Exclude {
    /// The same patterns make the same set.
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

/// The kind of a path: some patterns match folders only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    File,
    Folder,
}

impl PathKind {
    /// The end of a path that is shown.
    pub fn suffix(self) -> &'static str {
        if self == Self::Folder { "/" } else { "" }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Pattern {
    written: String,
    glob: Glob,
    /// The same byte by byte, unless the pattern takes its matches out: what it may mean in either way stays here.
    byte_glob: Option<Glob>,
    takes_out: bool,
    folders_only: bool,
}

impl Exclude {
    /// Reads the patterns.
    ///
    /// # Errors
    /// The text that is no pattern, and why.
    pub fn new(written: &[String]) -> Result<Self, String> {
        let patterns = written.iter().map(|written| Pattern::read(written)).collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// The pattern that excludes a path, which is relative to the workspace. Folders above the path don't count.
    pub fn pattern_for(&self, relative: &Path, kind: PathKind) -> Option<&str> {
        if self.patterns.is_empty() {
            return None;
        }
        let path = letters(relative);
        let mut last_first =
            self.patterns.iter().rev().filter(|pattern| kind == PathKind::Folder || !pattern.folders_only);
        // In ASCII both are the same.
        let bytes = if path.iter().all(|letter| letter.is_some_and(|letter| letter.is_ascii())) {
            Vec::new()
        } else {
            byte_letters(relative)
        };
        let has_bytes = |glob: &Glob| !bytes.is_empty() && glob.matches(&bytes);
        let last = last_first
            .find(|pattern| pattern.glob.matches(&path) || pattern.byte_glob.as_ref().is_some_and(has_bytes))?;
        (!last.takes_out).then_some(last.written.as_str())
    }

    /// Whether a folder above a path is excluded.
    pub fn holds_above(&self, relative: &Path) -> bool {
        let mut above = relative.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
        !self.patterns.is_empty() && above.any(|folder| self.pattern_for(folder, PathKind::Folder).is_some())
    }
}

impl Pattern {
    fn read(written: &str) -> Result<Self, String> {
        let (takes_out, rest) = written.strip_prefix('!').map_or((false, written), |rest| (true, rest));
        let (folders_only, rest) = rest.strip_suffix('/').map_or((false, rest), |rest| (true, rest));
        let path = rest.strip_prefix('/').unwrap_or(rest);
        if path.is_empty() || path.starts_with('/') || path.ends_with('/') {
            return Err(format!("holds `{written}`, which matches nothing"));
        }
        let glob = if rest.contains('/') { path.to_owned() } else { format!("**/{path}") };
        // A class may be a wrong one of bytes, and then means letters only.
        let byte_glob = if takes_out { None } else { Glob::new(&as_bytes(&glob)).ok() };
        let glob = Glob::new(&glob).map_err(|error| format!("holds `{written}`, which is no pattern: {error}"))?;
        Ok(Self { written: written.to_owned(), glob, byte_glob, takes_out, folders_only })
    }
}

#[cfg(test)]
mod tests {
    use super::{Exclude, PathKind};
    use std::path::Path;

    fn stays(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let exclude = Exclude::new(&patterns).unwrap();
        let (path, kind) = path.strip_suffix('/').map_or((path, PathKind::File), |path| (path, PathKind::Folder));
        exclude.pattern_for(Path::new(path), kind).is_some() || exclude.holds_above(Path::new(path))
    }

    #[test]
    fn patterns_match_as_in_gitignore() {
        for (patterns, stay, go) in [
            (&["*.tmp"][..], &["a.tmp", "output/x/b.tmp", ".tmp"][..], &["a.tmpx", "tmp", "a.tmp.md"][..]),
            (&["/top"], &["top", "top/below"], &["output/top", "topless"]),
            (&["output/*.log"], &["output/a.log"], &["output/deep/a.log", "a.log", "x/output/a.log"]),
            (&["cache/"], &["cache/", "cache/a", "x/cache/y/z"], &["cache", "output/cache"]),
            (&["output/**/raw"], &["output/raw", "output/a/b/raw", "output/a/raw/x"], &["raw", "x/output/raw"]),
            (&["**/x"], &["x", "a/b/x"], &["xx"]),
            (&["data/**"], &["data/a", "data/a/b"], &["data"]),
            (&["*", "!*.md", "!*/"], &["a", "output/b.csv"], &["r.md", "output/r.md", "output/"]),
            (&["output/", "!output/r.md"], &["output/r.md"], &["r.md"]),
            (&["!a", "a"], &["a"], &["b"]),
            (&["a?[bc].{x,y}"], &["aQb.x", "aQc.y"], &["aQd.x", "ab.x"]),
            (&["\\!a", "b\\*"], &["!a", "b*"], &["a", "bb"]),
            (&["ü *"], &["ü x"], &["u x"]),
            (&["?.raw"], &["ü.raw"], &["ab.raw", "üx.raw"]),
            (&["??.raw"], &["ab.raw", "ü.raw", "üx.raw"], &["a.raw", "名.raw"]),
            (&["ü?.raw", "[ä]x"], &["üx.raw", "üä.raw", "äx"], &["ü.raw", "ax"]),
            (&["ü??.raw"], &["üä.raw", "üxy.raw"], &["üx.raw"]),
            (&["*", "!??.raw"], &["ü.raw"], &["ab.raw", "üx.raw"]),
            (&[], &[], &["a", "output/a"]),
        ] {
            for path in stay {
                assert!(stays(patterns, path), "{patterns:?} keeps `{path}` here");
            }
            for path in go {
                assert!(!stays(patterns, path), "{patterns:?} lets `{path}` go");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn patterns_match_names_that_are_not_utf8() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let exclude = Exclude::new(&["*.raw".to_owned()]).unwrap();
        assert_eq!(
            exclude.pattern_for(Path::new(OsStr::from_bytes(b"output/\xff.raw")), PathKind::File),
            Some("*.raw")
        );
    }

    #[test]
    fn invalid_patterns_are_named_in_the_error() {
        for wrong in ["", "!", "/", "a//", "//a", "a[", "{a", "[z-a]"] {
            let error = Exclude::new(&["fine".to_owned(), wrong.to_owned()]).unwrap_err();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
