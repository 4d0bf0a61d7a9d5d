//! No thread is started by a call that panics where the machine has none: the agent would end.

use syn::visit::Visit;
use syn::{Expr, ExprMethodCall, Item};

use super::source::{Crate, Module, attributes, is_for_tests};

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
    let mut calls = ScopedStarts { module, found };
    calls.visit_file(&module.syntax);
    calls.found
}

/// Calls of `spawn` of a value that is called `scope` or `s`.
struct ScopedStarts<'m> {
    module: &'m Module,
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for ScopedStarts<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let is_scope = match &*call.receiver {
            Expr::Path(receiver) => receiver.path.is_ident("scope") || receiver.path.is_ident("s"),
            _ => false,
        };
        if is_scope && call.method == "spawn" {
            let line = call.method.span().start().line;
            self.found.push(format!("src/{}:{line}: `scope.spawn`", self.module.file));
        }
        syn::visit::visit_expr_method_call(self, call);
    }
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
