//! The citations in comments exist: points of the protocol, promises, and headings of README and the manual.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every source file, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![root().join("src"), root().join("tests")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("read a folder") {
            let path = entry.expect("an entry of the folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with(file!()) {
                let text = fs::read_to_string(&path).expect("read a source file");
                files.push((path, text));
            }
        }
    }
    files
}

/// The lines of comments, each joined with the next one, since a citation may continue there.
fn comments(text: &str) -> String {
    let lines = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
    lines.map(|line| line.trim_start_matches(['/', '!']).trim()).collect::<Vec<_>>().join(" ")
}

/// The numbers right after the word: `3`, `1 and 5`, `3, 4`.
fn numbers_after(rest: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    let mut rest = rest;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let Ok(number) = rest[..end].parse() else { return numbers };
        numbers.push(number);
        let Some(more) = [" and ", ", "].iter().find_map(|word| rest[end..].strip_prefix(word)) else { return numbers };
        rest = more;
    }
}

#[test]
fn cited_points_of_the_protocol_exist() {
    let page = read("src/manual/protocol.md");
    let mut count = 0;
    for (path, text) in sources() {
        let text = comments(&text);
        for rest in text.split("PROTOCOL").skip(1) {
            for number in numbers_after(rest.trim_start()) {
                count += 1;
                assert!(page.contains(&format!("\n{number}. **")), "{} cites PROTOCOL {number}", path.display());
            }
            if let Some((heading, _)) = rest.strip_prefix(", \"").and_then(|rest| rest.split_once('"')) {
                count += 1;
                assert!(page.contains(&format!("\n## {heading}\n")), "{} cites {heading:?}", path.display());
            }
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn files_of_the_map_in_the_crate_documentation_exist() {
    let text = comments(&read("src/main.rs"));
    let names: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs")).collect();
    assert!(names.len() >= 20, "{names:?}");
    let missing: Vec<&&str> = names.iter().filter(|name| !root().join("src").join(name).is_file()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn cited_promises_exist() {
    let page = read("src/manual/promises.md");
    let mut count = 0;
    for (path, text) in sources() {
        let text = comments(&text);
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let Some(number) = word.strip_prefix('P').and_then(|number| number.parse::<u32>().ok()) else { continue };
            count += 1;
            assert!(page.contains(&format!("\n- **P{number}. ")), "{} cites {word}", path.display());
        }
    }
    assert!(count > 5, "{count}");
}

#[test]
fn cited_headings_of_documents_exist() {
    let mut count = 0;
    for (path, text) in sources() {
        let text = comments(&text);
        for (at, _) in text.match_indices(", \"") {
            let document = text[..at].rsplit([' ', '(']).next().unwrap_or_default();
            let file = match document {
                "README" => "README.md".to_owned(),
                page if page.starts_with("manual/") => format!("src/{page}"),
                _ => continue,
            };
            let heading = text[at + 3..].split('"').next().unwrap_or_default();
            count += 1;
            assert!(read(&file).contains(&format!("\n## {heading}\n")), "{} cites {file}, {heading:?}", path.display());
        }
    }
    assert!(count > 8, "{count}");
}

/// Where a message changes, the page that explains it has to.
#[test]
fn messages_that_the_manual_explains_are_in_the_source() {
    let page = read("src/manual/troubleshooting.md");
    let (_, messages) = page.split_once("## Messages\n").expect("a list of messages");
    let messages = messages.split("\n## ").next().unwrap_or_default();
    // A text that goes over a line's end in the source is one text.
    let text = |(_, text): (PathBuf, String)| text.split("\\\n").map(str::trim_start).collect::<String>();
    let sources: Vec<String> =
        sources().into_iter().filter(|(path, _)| path.starts_with(root().join("src"))).map(text).collect();
    let mut count = 0;
    for message in messages.split("\n- `").skip(1).map(|item| item.split("`:").next().unwrap_or_default()) {
        let message = message.replace('\n', " ");
        for part in message.split(['…', '`']).flat_map(|part| part.split(": ")).map(str::trim) {
            if part.len() > 3 {
                count += 1;
                assert!(sources.iter().any(|source| source.contains(part)), "{part:?} of {message:?}");
            }
        }
    }
    assert!(count > 10, "{count}");
}

/// Links in documents lead to files and headings.
#[test]
fn links_of_documents_have_a_target() {
    let pages = fs::read_dir(root().join("src/manual")).expect("read the manual");
    let pages = pages.map(|entry| format!("src/manual/{}", entry.expect("an entry").file_name().to_string_lossy()));
    for file in pages.chain(["README.md", "tests/README.md", "executor-example/README.en.md"].map(str::to_owned)) {
        let text = read(&file);
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap_or_default();
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = root().join(&file).parent().expect("a file is in a folder").to_owned();
            let target = if path.is_empty() { root().join(&file) } else { folder.join(path) };
            assert!(target.exists(), "{file} links to {link}");
            let headings = if anchor.is_empty() { String::new() } else { fs::read_to_string(&target).expect("read") };
            let found = headings.lines().filter(|line| line.starts_with('#')).any(|line| anchor_of(line) == anchor);
            assert!(anchor.is_empty() || found, "{file} links to {link}");
        }
    }
}

/// A heading's anchor on a repository's web page.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
