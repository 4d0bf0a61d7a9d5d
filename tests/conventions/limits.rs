//! How large a function, a file and a struct may be.

use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Block, ImplItemFn, Item, ItemFn, ItemStruct, Signature};

use super::source::{Crate, Module, attributes, is_for_tests};

const FUNCTION_LINES: usize = 60;
const PARAMETERS: usize = 4;
const FILE_LINES: usize = 400;
const STRUCT_FIELDS: usize = 16;
/// Files whose structs have as many fields as the format that they describe: the wire, the configuration, and the
/// status that is printed and written as JSON.
const FORMATS: [&str; 3] = ["config.rs", "server/protocol.rs", "command/status.rs"];

/// What is too large in a file.
fn too_large(module: &Module) -> Vec<String> {
    let mut sizes = Sizes { module, found: Vec::new() };
    sizes.visit_file(&module.syntax);
    let tests = module.syntax.items.iter().filter(|item| is_for_tests(attributes(item)));
    let tests: usize = tests.map(|item| lines(item.span())).sum();
    let file = module.text.lines().count() - tests;
    if file > FILE_LINES {
        sizes.found.push(format!("src/{}: {file} lines without its tests", module.file));
    }
    sizes.found
}

fn lines(span: proc_macro2::Span) -> usize {
    span.end().line + 1 - span.start().line
}

struct Sizes<'m> {
    module: &'m Module,
    found: Vec<String>,
}

impl Sizes<'_> {
    fn check_function(&mut self, signature: &Signature, block: &Block) {
        let start = signature.span().start().line;
        let place = format!("src/{}:{start}: `{}`", self.module.file, signature.ident);
        let lines = block.span().end().line + 1 - start;
        if lines > FUNCTION_LINES {
            self.found.push(format!("{place} has {lines} lines"));
        }
        let parameters = signature.inputs.iter().filter(|input| matches!(input, syn::FnArg::Typed(_))).count();
        if parameters > PARAMETERS {
            self.found.push(format!("{place} has {parameters} parameters"));
        }
    }
}

impl<'ast> Visit<'ast> for Sizes<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.check_function(&function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.check_function(&function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        let fields = item.fields.len();
        if fields > STRUCT_FIELDS && !FORMATS.contains(&self.module.file.as_str()) {
            let line = item.ident.span().start().line;
            self.found.push(format!("src/{}:{line}: `{}` has {fields} fields", self.module.file, item.ident));
        }
    }
}

#[test]
fn functions_files_and_structs_are_small() {
    let source = Crate::read();
    let found: Vec<String> = source.modules.values().flat_map(too_large).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn large_functions_files_and_structs_are_found() {
    let found = |text: &str| {
        let source = Crate::from_files(&[("main.rs", text)]);
        source.modules.values().flat_map(too_large).collect::<Vec<_>>()
    };
    let body = |count| "    f();\n".repeat(count);
    assert_eq!(found(&format!("/// A comment.\nfn g() {{\n{}}}\n", body(58))), [""; 0]);
    assert_eq!(found(&format!("fn g() {{\n{}}}\n", body(59))), ["src/main.rs:1: `g` has 61 lines"]);
    let method = format!("struct S;\nimpl S {{\n    fn g(&self) {{\n{}    }}\n}}\n", body(60));
    assert_eq!(found(&method), ["src/main.rs:3: `g` has 62 lines"]);
    assert_eq!(found("fn g(a: u8, b: u8, c: u8, d: u8) {}"), [""; 0]);
    assert_eq!(found("fn g(a: u8, b: u8, c: u8, d: u8, e: u8) {}"), ["src/main.rs:1: `g` has 5 parameters"]);
    let fields = |count| (0..count).map(|n| format!("f{n}: u8, ")).collect::<String>();
    assert_eq!(found(&format!("struct S {{ {} }}", fields(16))), [""; 0]);
    assert_eq!(found(&format!("struct S {{ {} }}", fields(17))), ["src/main.rs:1: `S` has 17 fields"]);
    let file = "const A: u8 = 1;\n".repeat(401);
    assert_eq!(found(&file), ["src/main.rs: 401 lines without its tests"]);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{file}}}\nfn f() {{}}\n");
    assert_eq!(found(&tests), [""; 0]);
}
