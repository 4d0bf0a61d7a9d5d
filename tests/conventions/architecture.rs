//! The layers in the documentation of `src/main.rs`, and the imports that keep to them.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Crate, ModulePath};

/// The lines of the diagram, the highest layer first.
fn layers(main: &str) -> Vec<Vec<String>> {
    let diagram = main.split("//! ```text\n").nth(1).and_then(|rest| rest.split("//! ```").next()).expect("a diagram");
    let words = |line: &str| line.trim_start_matches("//!").split_whitespace().map(str::to_owned).collect();
    diagram.lines().map(words).collect()
}

/// An import from one child of a module to another.
struct Arrow {
    from: String,
    to: String,
    place: String,
}

/// The imports between the children of each module.
fn arrows(source: &Crate) -> BTreeMap<ModulePath, Vec<Arrow>> {
    let mut arrows: BTreeMap<ModulePath, Vec<Arrow>> = BTreeMap::new();
    for (from, module) in &source.modules {
        for (path, line) in module.references() {
            let Some(to) = source.resolve(from, &path) else { continue };
            let common = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
            // The root's own file is the highest layer. Else a parent and its children may import each other.
            let name = if from.is_empty() { Some("main") } else { from.get(common).map(String::as_str) };
            let (Some(name), Some(target)) = (name, to.get(common)) else { continue };
            let place = format!("src/{}:{line}", module.file);
            let arrow = Arrow { from: name.to_owned(), to: target.clone(), place };
            arrows.entry(from[..common].to_vec()).or_default().push(arrow);
        }
    }
    arrows
}

/// What breaks the rule of the layers.
fn wrong_layers(source: &Crate) -> Vec<String> {
    let layers = layers(&source.modules[&ModulePath::new()].text);
    let rank = |name: &str| layers.iter().position(|layer| layer.iter().any(|module| module == name));
    let modules: BTreeSet<&str> = source.modules.keys().filter_map(|path| path.first()).map(String::as_str).collect();
    let drawn: BTreeSet<&str> = layers.iter().flatten().map(String::as_str).filter(|name| *name != "main").collect();
    let missing = modules.difference(&drawn).map(|name| format!("`{name}` is not in the diagram"));
    let left = drawn.difference(&modules).map(|name| format!("`{name}` is in the diagram, but no module"));
    let arrows = arrows(source);
    let wrong = arrows.get(&ModulePath::new()).into_iter().flatten().filter_map(|arrow| {
        let (from, to) = (rank(&arrow.from)?, rank(&arrow.to)?);
        (to <= from).then(|| format!("{}: `{}` imports `{}`, which isn't below it", arrow.place, arrow.from, arrow.to))
    });
    missing.chain(left).chain(wrong).collect()
}

/// Imports by which files of one folder depend on each other in a circle.
fn cycles(source: &Crate) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (folder, arrows) in arrows(source) {
        let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for arrow in &arrows {
            next.entry(&arrow.from).or_default().insert(&arrow.to);
        }
        for arrow in &arrows {
            let (mut reached, mut open) = (BTreeSet::new(), vec![arrow.to.as_str()]);
            while let Some(name) = open.pop() {
                if reached.insert(name) {
                    open.extend(next.get(name).into_iter().flatten());
                }
            }
            if reached.contains(arrow.from.as_str()) {
                let folder = folder.join("::");
                found.insert(format!("{}: `{folder}`: `{}` imports `{}`, a cycle", arrow.place, arrow.from, arrow.to));
            }
        }
    }
    found.into_iter().collect()
}

#[test]
fn modules_import_from_lower_layers_only() {
    let wrong = wrong_layers(&Crate::read());
    assert!(wrong.is_empty(), "against the diagram in src/main.rs:\n{}", wrong.join("\n"));
}

#[test]
fn files_of_a_folder_import_each_other_without_cycles() {
    let cycles = cycles(&Crate::read());
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

#[test]
fn the_diagram_has_all_modules() {
    let layers = layers(&Crate::read().modules[&ModulePath::new()].text);
    assert_eq!(layers.first(), Some(&vec!["main".to_owned()]));
    assert!(layers.len() > 8 && layers.iter().all(|layer| !layer.is_empty()), "{layers:?}");
}

const MAIN: &str = "//! ```text\n//! main\n//! high\n//! low  side\n//! ```\nmod high;\nmod low;\nmod side;\n";

#[test]
fn imports_against_the_layers_are_found() {
    let wrong = |high, low, side| {
        wrong_layers(&Crate::from_files(&[("main.rs", MAIN), ("high.rs", high), ("low.rs", low), ("side.rs", side)]))
    };
    assert_eq!(wrong("use crate::{low::A, side};\nfn f() { crate::low::b() }", "struct A;", ""), [""; 0]);
    assert_eq!(wrong("", "\nuse crate::high::A;", ""), ["src/low.rs:2: `low` imports `high`, which isn't below it"]);
    assert_eq!(wrong("", "", "use super::{low};"), ["src/side.rs:1: `side` imports `low`, which isn't below it"]);
    let in_code = "fn f() -> u8 {\n    println!(\"{}\", crate::high::A);\n    crate::high::f(1)\n}";
    assert_eq!(wrong("", in_code, "").len(), 2);
    let in_tests = "#[cfg(test)]\nmod tests { use crate::high::A; }\n#[cfg(all(test, unix))]\nuse crate::high::B;";
    assert_eq!(wrong("", in_tests, ""), [""; 0]);
    assert_eq!(wrong("", "#[cfg(not(test))]\nuse crate::high::B;", "").len(), 1);
}

#[test]
fn modules_outside_the_diagram_are_found() {
    let main = MAIN.replace("//! high", "//! other");
    let files = [("main.rs", main.as_str()), ("high.rs", ""), ("low.rs", ""), ("side.rs", "")];
    let expected = ["`high` is not in the diagram", "`other` is in the diagram, but no module"];
    assert_eq!(wrong_layers(&Crate::from_files(&files)), expected);
    let main = format!("{MAIN}#[cfg(test)]\nmod for_tests;\n");
    let files = [("main.rs", main.as_str()), ("high.rs", ""), ("low.rs", ""), ("side.rs", "")];
    assert_eq!(wrong_layers(&Crate::from_files(&files)), [""; 0]);
}

#[test]
fn cycles_between_files_of_a_folder_are_found() {
    let count = |a, b, c, parent: &str| {
        let high = format!("mod a;\nmod b;\nmod c;\n{parent}");
        let files = [
            ("main.rs", MAIN),
            ("high.rs", high.as_str()),
            ("high/a.rs", a),
            ("high/b.rs", b),
            ("high/c.rs", c),
            ("low.rs", ""),
            ("side.rs", ""),
        ];
        cycles(&Crate::from_files(&files)).len()
    };
    assert_eq!(count("use super::b::B;", "use crate::high::c;", "", "use a::A;"), 0);
    assert_eq!(count("use super::b::B;", "use crate::high::a;", "", ""), 2, "two files");
    assert_eq!(count("use super::b::B;", "use super::c;", "fn f() { super::a::f() }", ""), 3, "three files");
    assert_eq!(count("use super::B;", "use super::A;", "", "pub use a::A;\nuse b::B;"), 2, "through the parent");
    assert_eq!(count("use super::P;", "use super::P;", "", "pub struct P(a::A);"), 0, "a parent and its children");
}
