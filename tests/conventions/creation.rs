//! Files and folders are made in `src/os` only, where they have their final mode from the start.

use super::source::{Crate, Module};

/// The last two names of paths that create a file or folder, or change its mode.
const CREATORS: [(&str, &str); 17] = [
    ("File", "create"),
    ("File", "create_new"),
    ("File", "options"),
    ("fs", "OpenOptions"),
    ("fs", "DirBuilder"),
    ("fs", "write"),
    ("fs", "copy"),
    ("fs", "create_dir"),
    ("fs", "create_dir_all"),
    ("fs", "hard_link"),
    ("fs", "set_permissions"),
    ("fs", "symlink"),
    ("fcntl", "open"),
    ("fcntl", "openat"),
    ("stat", "mkdirat"),
    ("unistd", "mkdir"),
    ("unistd", "mkfifo"),
];

/// The places outside `src/os` that create a file.
fn creations(source: &Crate) -> Vec<String> {
    let outside = source.modules.iter().filter(|(path, _)| path.first().is_none_or(|first| first != "os"));
    outside.flat_map(|(_, module)| creations_in(module)).collect()
}

fn creations_in(module: &Module) -> Vec<String> {
    let mut found = Vec::new();
    for (path, line) in module.references() {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let creator = names.windows(2).find(|pair| CREATORS.contains(&(pair[0], pair[1])));
        found.extend(creator.map(|pair| format!("src/{}:{line}: `{}`", module.file, pair.join("::"))));
    }
    let changes = module.method_calls().into_iter().filter(|call| call.method == "set_permissions");
    found.extend(changes.map(|call| format!("src/{}:{}: `set_permissions`", module.file, call.line)));
    found
}

#[test]
fn files_are_made_in_one_place() {
    let found = creations(&Crate::read());
    assert!(found.is_empty(), "use `crate::os::files`:\n{}", found.join("\n"));
}

#[test]
fn files_made_elsewhere_are_found() {
    let main = "mod os;\nmod high;\n";
    let found = |high| {
        let bad = "use std::fs;\nfn f() { fs::write(\"a\", \"b\") }\n";
        creations(&Crate::from_files(&[("main.rs", main), ("os.rs", bad), ("high.rs", high)]))
    };
    assert_eq!(found("use std::fs::{self, File};\nfn f() { fs::read(\"a\"); File::open(\"a\"); }"), [""; 0]);
    assert_eq!(found("\nuse std::fs::{File, OpenOptions};\n"), ["src/high.rs:2: `fs::OpenOptions`"]);
    assert_eq!(found("fn f() { File::create(\"a\") }"), ["src/high.rs:1: `File::create`"]);
    assert_eq!(found("fn f() { std::fs::File::options().write(true) }"), ["src/high.rs:1: `File::options`"]);
    assert_eq!(found("fn f() {\n    g().or_else(fs::create_dir_all)\n}"), ["src/high.rs:2: `fs::create_dir_all`"]);
    assert_eq!(found("fn f(file: File) {\n    file.set_permissions(mode)\n}"), ["src/high.rs:2: `set_permissions`"]);
    assert_eq!(found("use nix::sys::stat::mkdirat;"), ["src/high.rs:1: `stat::mkdirat`"]);
    assert_eq!(found("#[cfg(test)]\nmod tests { fn f() { std::fs::write(\"a\", \"b\") } }"), [""; 0]);
}
