//! Patterns and paths. Except where a letter outside of ASCII is matched as a whole, the crate globset 0.4 says the same.

use super::{DEEPEST, Glob, letters};
use std::path::Path;

fn matches(pattern: &str, path: &str) -> bool {
    Glob::new(pattern).unwrap().matches(&letters(Path::new(path)))
}

#[test]
fn patterns_match_whole_paths() {
    for (pattern, fits, misses) in [
        ("", &[""][..], &["a", "/"][..]),
        ("a", &["a"], &["", "aa", "b/a", "a/b"]),
        ("*", &["", "a", "a.b"], &["a/b", "/"]),
        ("a*b", &["ab", "axb", "a.b"], &["a/b", "abx"]),
        ("?", &["a", "ü", "文"], &["", "/", "ab"]),
        ("**", &["", "a", "a/b", "/"], &[]),
        ("**/a", &["a", "b/a", "/a", "b//c/a"], &["ba", "a/b"]),
        ("a/**", &["a/", "a/b", "a/b/c"], &["a", "ab/c"]),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a//b"], &["ab", "a/xb", "a/b/x"]),
        ("a**", &["a", "ab"], &["a/b"]),
        ("**a", &["a", "ba"], &["b/a"]),
        ("**/**/a", &["a", "b/c/a"], &["ba"]),
        ("a/**/**", &["a/", "a/b/c"], &["a"]),
        ("a/**b", &["a/b", "a/xb"], &["a/x/b"]),
    ] {
        for path in fits {
            assert!(matches(pattern, path), "`{pattern}` matches `{path}`");
        }
        for path in misses {
            assert!(!matches(pattern, path), "`{pattern}` doesn't match `{path}`");
        }
    }
}

#[test]
fn letters_are_matched_by_classes() {
    for (pattern, fits, misses) in [
        ("[abc]", &["a", "c"][..], &["d", "", "ab"][..]),
        ("[a-c]x", &["ax", "bx"], &["dx"]),
        ("[!a-c]", &["d", "-", "ü"], &["a", "b"]),
        ("[^a]", &["b"], &["a"]),
        ("[]a]", &["]", "a"], &["b"]),
        ("[!]a]", &["b"], &["]", "a"]),
        ("[-a]", &["-", "a"], &["b"]),
        ("[a-]", &["-", "a"], &["b"]),
        ("[+--]", &["+", ",", "-"], &["."]),
        ("[ä-ü]", &["ö"], &["a"]),
        ("[*?]", &["*", "?"], &["a"]),
        ("[{,}]", &["{", ",", "}"], &["a"]),
        ("[\\]", &["\\"], &["a"]),
    ] {
        if cfg!(windows) && pattern.contains('\\') {
            continue;
        }
        for path in fits {
            assert!(matches(pattern, path), "`{pattern}` matches `{path}`");
        }
        for path in misses {
            assert!(!matches(pattern, path), "`{pattern}` doesn't match `{path}`");
        }
    }
}

#[test]
fn one_of_several_branches_matches() {
    for (pattern, fits, misses) in [
        ("{a,b}c", &["ac", "bc"][..], &["c", "abc", "ab"][..]),
        ("{a}", &["a"], &[""]),
        ("{,a}", &["a"], &[""]),
        ("{}", &[""], &["a"]),
        ("x{,}y", &["xy"], &["x,y"]),
        ("{a,{b,c}d}", &["a", "bd", "cd"], &["b", "ad"]),
        ("{*.a,b/**}", &["x.a", "b/c/d"], &["x/y.a", "b"]),
        ("{**/a,b}", &["a", "x/a", "b"], &["x/b"]),
        ("a,b", &["a,b"], &["a", "b"]),
        ("{a\\,b}", &["a,b"], &["a", "b"]),
        ("\\*\\{", &["*{"], &["a{"]),
    ] {
        for path in fits {
            assert!(matches(pattern, path), "`{pattern}` matches `{path}`");
        }
        for path in misses {
            assert!(!matches(pattern, path), "`{pattern}` doesn't match `{path}`");
        }
    }
}

#[test]
fn what_is_no_pattern_says_why() {
    for (wrong, why) in [
        ("[", "a `[` without its `]`"),
        ("[a-", "a `[` without its `]`"),
        ("[]", "a `[` without its `]`"),
        ("[z-a]", "`z-a`"),
        ("{a", "a `{` without its `}`"),
        ("a}", "a `}` without its `{`"),
        ("a\\", "a `\\` at its end"),
    ] {
        let error = Glob::new(wrong).unwrap_err();
        assert!(error.contains(why), "`{wrong}`: {error}");
    }
    assert!(Glob::new(&format!("{}a{}", "{".repeat(DEEPEST), "}".repeat(DEEPEST))).is_ok());
    assert!(Glob::new(&format!("{}a{}", "{".repeat(100_000), "}".repeat(100_000))).unwrap_err().contains("too many"));
}

#[test]
fn no_name_makes_a_match_take_long() {
    // A matcher that goes back for each star would take longer than the universe is old.
    let pattern = Glob::new(&format!("{}b", "*a".repeat(100))).unwrap();
    assert!(!pattern.matches(&letters(Path::new(&"a".repeat(255)))));
    let branches = Glob::new(&format!("{}c", "{a,aa,*,b}".repeat(60))).unwrap();
    assert!(!branches.matches(&letters(Path::new(&"a".repeat(255)))));
}

#[cfg(unix)]
#[test]
fn bytes_that_are_no_text_are_matched_one_by_one() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let path = letters(Path::new(OsStr::from_bytes(b"\xff\xfe.raw")));
    for (pattern, fits) in
        [("??.raw", true), ("*.raw", true), ("[!a]?.raw", true), ("?.raw", false), ("[a-\u{10ffff}]*", false)]
    {
        assert_eq!(Glob::new(pattern).unwrap().matches(&path), fits, "{pattern}");
    }
}
