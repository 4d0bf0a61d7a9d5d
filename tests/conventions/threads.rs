//! No thread is started by a call that panics where the machine has none: the agent would end.

use super::source::{Crate, Module};

/// The places that start a thread by `thread::spawn` or by `spawn` of a `thread::scope`.
fn panicking_starts(source: &Crate) -> Vec<String> {
    source.modules.values().flat_map(starts_in).collect()
}

fn starts_in(module: &Module) -> Vec<String> {
    let mut found = Vec::new();
    for (path, line) in module.references() {
        if path.windows(2).any(|pair| pair == ["thread", "spawn"]) {
            found.push(format!("src/{}:{line}: `thread::spawn`", module.file));
        }
    }
    // A scope is called `scope` or `s`.
    let is_scope = |variable: &Option<String>| matches!(variable.as_deref(), Some("scope" | "s"));
    let scoped = module.method_calls().into_iter().filter(|call| call.method == "spawn" && is_scope(&call.variable));
    found.extend(scoped.map(|call| format!("src/{}:{}: `scope.spawn`", module.file, call.line)));
    found
}

#[test]
fn every_thread_is_started_by_a_call_that_can_fail() {
    let found = panicking_starts(&Crate::read());
    assert!(found.is_empty(), "use `thread::Builder`:\n{}", found.join("\n"));
}

#[test]
fn thread_starts_that_panic_are_found() {
    let found = |high| panicking_starts(&Crate::from_files(&[("main.rs", "mod high;\n"), ("high.rs", high)]));
    assert_eq!(found("fn f() { thread::Builder::new().spawn(g)?; command.spawn()?; }"), [""; 0]);
    assert_eq!(found("fn f() { std::thread::spawn(g) }"), ["src/high.rs:1: `thread::spawn`"]);
    assert_eq!(found("fn f() {\n thread::scope(|scope| { scope.spawn(g); }) }"), ["src/high.rs:2: `scope.spawn`"]);
    assert_eq!(found("#[cfg(test)]\nmod tests { fn f() { std::thread::spawn(g) } }"), [""; 0]);
}
