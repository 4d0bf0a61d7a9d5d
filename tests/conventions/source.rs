//! The source of the program, parsed, without its tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syn::visit::Visit;
use syn::{Attribute, Expr, ExprMethodCall, Item, ItemMod, ItemUse, UseTree};

/// The names of a module below the crate root, from the top: `["os", "platform", "unix"]`.
pub type ModulePath = Vec<String>;

/// The modules of a crate that have a file each.
pub struct Crate {
    pub modules: BTreeMap<ModulePath, Module>,
}

/// One file, with the modules that are written inside it.
pub struct Module {
    /// Its path below `src`.
    pub file: String,
    pub text: String,
    pub syntax: syn::File,
}

impl Crate {
    /// The program.
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        Self::load("main.rs", |file| fs::read_to_string(root.join(file)).ok())
    }

    /// A crate of these files.
    pub fn from_files(files: &[(&str, &str)]) -> Self {
        Self::load("main.rs", |file| files.iter().find(|(name, _)| *name == file).map(|(_, text)| (*text).to_owned()))
    }

    /// Reads the root, and each module that a file declares. Modules for tests only are left out.
    fn load(root: &str, read: impl Fn(&str) -> Option<String>) -> Self {
        let mut modules = BTreeMap::new();
        let mut declared = vec![(ModulePath::new(), root.to_owned())];
        while let Some((path, file)) = declared.pop() {
            let text = read(&file).unwrap_or_else(|| panic!("no file {file}"));
            let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            for item in &syntax.items {
                let Item::Mod(ItemMod { attrs, ident, content: None, .. }) = item else { continue };
                if !is_for_tests(attrs) {
                    let path: ModulePath = path.iter().cloned().chain([ident.to_string()]).collect();
                    let file = format!("{}.rs", path.join("/"));
                    declared.push((path, file));
                }
            }
            modules.insert(path, Module { file, text, syntax });
        }
        Self { modules }
    }

    /// The module that a path leads to, through imports and re-exports of the modules on its way.
    pub fn resolve(&self, from: &[String], path: &[String]) -> Option<ModulePath> {
        let (mut module, mut rest) = match path.first()?.as_str() {
            "crate" => (ModulePath::new(), &path[1..]),
            "super" => (from[..from.len().checked_sub(1)?].to_vec(), &path[1..]),
            "self" => (from.to_vec(), &path[1..]),
            first => {
                let child: ModulePath = from.iter().cloned().chain([first.to_owned()]).collect();
                self.modules.contains_key(&child).then_some((child, &path[1..]))?
            }
        };
        while let Some((name, more)) = rest.split_first() {
            if name == "super" {
                module.pop();
                rest = more;
                continue;
            }
            let child: ModulePath = module.iter().cloned().chain([name.clone()]).collect();
            if self.modules.contains_key(&child) {
                (module, rest) = (child, more);
                continue;
            }
            let import = self.imports(&module).into_iter().find(|import| import.last() == Some(name));
            return match import {
                // An import of the name from itself would go round for ever.
                Some(import) if import != path => self.resolve(&module, &import).or(Some(module)),
                _ => Some(module),
            };
        }
        Some(module)
    }

    /// The paths that a module imports.
    fn imports(&self, module: &[String]) -> Vec<Vec<String>> {
        let items = self.modules.get(module).map_or(&[][..], |module| &module.syntax.items);
        let uses = items.iter().filter_map(|item| match item {
            Item::Use(ItemUse { attrs, tree, .. }) if !is_for_tests(attrs) => Some(tree),
            _ => None,
        });
        let mut paths = Vec::new();
        uses.for_each(|tree| flatten(tree, &mut Vec::new(), &mut paths));
        paths.into_iter().map(|(path, _)| path).collect()
    }
}

impl Module {
    /// The paths that the module names, each with its line.
    pub fn references(&self) -> Vec<(Vec<String>, usize)> {
        let mut references = References::default();
        references.visit_file(&self.syntax);
        references.0
    }

    /// The calls of methods in the module.
    pub fn method_calls(&self) -> Vec<MethodCall> {
        let mut calls = MethodCalls::default();
        calls.visit_file(&self.syntax);
        calls.0
    }
}

pub struct MethodCall {
    /// The variable whose method is called, where it is one.
    pub variable: Option<String>,
    pub method: String,
    pub line: usize,
}

#[derive(Default)]
struct MethodCalls(Vec<MethodCall>);

impl<'ast> Visit<'ast> for MethodCalls {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let variable = match &*call.receiver {
            Expr::Path(receiver) => receiver.path.get_ident().map(ToString::to_string),
            _ => None,
        };
        let line = call.method.span().start().line;
        self.0.push(MethodCall { variable, method: call.method.to_string(), line });
        syn::visit::visit_expr_method_call(self, call);
    }
}

#[derive(Default)]
struct References(Vec<(Vec<String>, usize)>);

impl<'ast> Visit<'ast> for References {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        flatten(&item.tree, &mut Vec::new(), &mut self.0);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.0.push((names, line));
        syn::visit::visit_path(self, path);
    }

    /// A macro's arguments are no syntax yet: only paths from `crate` on are found in them.
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        paths_in(call.tokens.clone(), &mut self.0);
    }
}

fn paths_in(tokens: proc_macro2::TokenStream, found: &mut Vec<(Vec<String>, usize)>) {
    use proc_macro2::TokenTree;
    let mut open: Option<(Vec<String>, usize)> = None;
    for token in tokens {
        match (token, &mut open) {
            (TokenTree::Ident(name), None) if name == "crate" => {
                open = Some((vec![name.to_string()], name.span().start().line));
            }
            (TokenTree::Ident(name), Some((path, _))) => path.push(name.to_string()),
            (TokenTree::Punct(colon), Some(_)) if colon.as_char() == ':' => {}
            (token, _) => {
                found.extend(open.take());
                if let TokenTree::Group(group) = token {
                    paths_in(group.stream(), found);
                }
            }
        }
    }
    found.extend(open);
}

/// The paths of a `use`, each with its line.
fn flatten(tree: &UseTree, above: &mut Vec<String>, paths: &mut Vec<(Vec<String>, usize)>) {
    match tree {
        UseTree::Path(path) => {
            above.push(path.ident.to_string());
            flatten(&path.tree, above, paths);
            above.pop();
        }
        UseTree::Name(name) => paths.push((with(above, &name.ident), name.ident.span().start().line)),
        UseTree::Rename(name) => paths.push((with(above, &name.ident), name.ident.span().start().line)),
        UseTree::Glob(glob) => paths.push((above.clone(), glob.star_token.spans[0].start().line)),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, above, paths)),
    }
}

fn with(above: &[String], name: &proc_macro2::Ident) -> Vec<String> {
    let name = (name != "self").then(|| name.to_string());
    above.iter().cloned().chain(name).collect()
}

/// Whether an item is compiled for tests only.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        let mut words = condition.split(|c: char| !c.is_alphanumeric() && c != '_');
        list.path.is_ident("cfg") && words.any(|word| word == "test") && !condition.contains("not")
    })
}

/// The attributes of an item of a kind that can be for tests only.
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
