//! `outputs.exclude`: patterns of files that stay on this machine, in the manner of gitignore(5).
//!
//! - A pattern without a `/`, or with one at its end only, matches a name in any folder.
//! - With a `/` at its beginning or in its middle it matches a path from the workspace on.
//! - A `/` at its end makes it match folders only. A folder that matches stays here with all that is in it.
//! - `*` and `?` match no `/`; `**` matches any number of folders.
//! - The last pattern that matches decides, and one that begins with `!` takes its matches out again. What is in a
//!   folder that stays here can't be taken out.

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    set: GlobSet,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    written: String,
    takes_out: bool,
    folders_only: bool,
}

impl Exclude {
    /// Reads the patterns. The error says which one is none, and why.
    pub fn new(written: &[String]) -> Result<Self, String> {
        let mut set = GlobSetBuilder::new();
        let mut patterns = Vec::new();
        for written in written {
            let (pattern, glob) = Pattern::read(written)?;
            let glob = GlobBuilder::new(&glob).literal_separator(true).backslash_escape(true).build();
            set.add(glob.map_err(|error| format!("holds `{written}`, which is no pattern: {}", error.kind()))?);
            patterns.push(pattern);
        }
        let set = set.build().map_err(|error| format!("holds patterns that can't be used together: {error}"))?;
        Ok(Self { set, patterns })
    }

    /// The pattern by which a path relative to the workspace stays here. Says nothing of the folders above it.
    pub fn pattern_for(&self, relative: &Path, is_folder: bool) -> Option<&str> {
        if self.patterns.is_empty() {
            return None;
        }
        let matching = self.set.matches(relative).into_iter().rev().filter_map(|number| self.patterns.get(number));
        let last = matching.into_iter().find(|pattern| is_folder || !pattern.folders_only)?;
        (!last.takes_out).then_some(last.written.as_str())
    }

    /// Whether a path stays here because a folder above it does.
    pub fn holds_above(&self, relative: &Path) -> bool {
        let above = relative.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
        !self.patterns.is_empty() && above.into_iter().any(|folder| self.pattern_for(folder, true).is_some())
    }
}

impl Pattern {
    /// The pattern, and the glob that it is for a whole path.
    fn read(written: &str) -> Result<(Self, String), String> {
        let (takes_out, rest) = match written.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, written),
        };
        let (folders_only, rest) = match rest.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let path = rest.strip_prefix('/').unwrap_or(rest);
        if path.is_empty() || path.starts_with('/') || path.ends_with('/') {
            return Err(format!("holds `{written}`, which matches nothing"));
        }
        let glob = if rest.contains('/') { path.to_owned() } else { format!("**/{path}") };
        Ok((Self { written: written.to_owned(), takes_out, folders_only }, glob))
    }
}

#[cfg(test)]
mod tests {
    use super::Exclude;
    use std::path::Path;

    fn stays(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let exclude = Exclude::new(&patterns).unwrap();
        let (path, is_folder) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        exclude.pattern_for(Path::new(path), is_folder).is_some() || exclude.holds_above(Path::new(path))
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
        assert_eq!(exclude.pattern_for(Path::new(OsStr::from_bytes(b"output/\xff.raw")), false), Some("*.raw"));
    }

    #[test]
    fn invalid_patterns_are_named_in_the_error() {
        for wrong in ["", "!", "/", "a//", "//a", "a[", "{a", "[z-a]"] {
            let error = Exclude::new(&["fine".to_owned(), wrong.to_owned()]).unwrap_err();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
