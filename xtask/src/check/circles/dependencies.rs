//! The files that each file of a crate needs, by the paths written in it.

use std::collections::BTreeMap;

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, ImplItem, Item, ItemUse, LitStr, Macro, Meta, Path, Stmt, TraitItem, Visibility,
};

use super::syntax::{self, Import};
use super::tree::Tree;

/// For each file the files that it needs, each with one path that says so.
pub type Dependencies = BTreeMap<String, BTreeMap<String, String>>;

/// What the files of a crate need of each other. Tables of contents are left out: paths lead through them.
pub fn dependencies(tree: &Tree) -> Dependencies {
    let mut found = Dependencies::new();
    for (index, module) in tree.modules.iter().enumerate() {
        if tree.is_contents(&module.file) {
            continue;
        }
        let needs = found.entry(module.file.clone()).or_default();
        let mut visitor = PathVisitor { tree, module: index, blocks: Vec::new(), needs };
        for item in &module.items {
            visitor.visit_item(item);
        }
    }
    found
}

/// Walks over the items of one module.
struct PathVisitor<'a> {
    tree: &'a Tree,
    module: usize,
    /// What the blocks around the place import, the innermost last.
    blocks: Vec<Vec<Import>>,
    needs: &'a mut BTreeMap<String, String>,
}

impl PathVisitor<'_> {
    fn add(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let imports = self.blocks.iter().rev().flatten();
        let import = imports.into_iter().find(|import| import.name.as_ref() == Some(first));
        let path = match import {
            Some(import) => [import.path.as_slice(), rest].concat(),
            None => path.to_vec(),
        };
        for file in self.tree.files(self.module, &path) {
            if file != self.tree.modules[self.module].file && !self.tree.is_contents(file) {
                self.needs.entry(file.to_owned()).or_insert_with(|| path.join("::"));
            }
        }
    }

    /// Adds the paths among tokens that nobody has parsed. A name behind a dot is a field or a method.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut position = 0;
        while let Some(token) = tokens.get(position) {
            position += 1;
            match token {
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let before = &tokens[..position - 1];
                    let mut path = vec![first.to_string()];
                    while let [colons @ .., TokenTree::Ident(next)] =
                        &tokens[position..].get(..3).unwrap_or_default()
                        && ends_with_separator(colons)
                    {
                        path.push(next.to_string());
                        position += 3;
                    }
                    if !ends_with_dot(before) && !ends_with_separator(before) {
                        self.add(&path);
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Adds the paths that attributes name in strings, as serde's do.
    fn add_strings(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.add_strings(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = syn::parse_str::<LitStr>(&literal.to_string());
                    let path = text.and_then(|text| text.parse::<Path>());
                    if let Ok(path) = path {
                        self.visit_path(&path);
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

/// Whether tokens end with `::`.
fn ends_with_separator(tokens: &[TokenTree]) -> bool {
    match tokens {
        [.., TokenTree::Punct(first), TokenTree::Punct(second)] => {
            first.as_char() == ':' && first.spacing() == Spacing::Joint && second.as_char() == ':'
        }
        _ => false,
    }
}

fn ends_with_dot(tokens: &[TokenTree]) -> bool {
    let is_dot = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '.');
    match tokens {
        // `..name` is a range.
        [.., before, last] if is_dot(before) && is_dot(last) => false,
        [.., last] => is_dot(last),
        [] => false,
    }
}

impl<'ast> Visit<'ast> for PathVisitor<'_> {
    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none() {
            let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.add(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for import in syntax::imports(item) {
            self.add(&import.path);
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let items = block.stmts.iter().filter_map(|statement| match statement {
            Stmt::Item(Item::Use(item)) => Some(item),
            _ => None,
        });
        self.blocks.push(items.flat_map(syntax::imports).collect());
        visit::visit_block(self, block);
        self.blocks.pop();
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        self.add_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        visit::visit_attribute(self, attribute);
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone());
            self.add_strings(list.tokens.clone());
        }
    }

    /// Who may see an item is no need of the item.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item(&mut self, item: &'ast Item) {
        if !syntax::is_test_only(syntax::item_attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !syntax::is_test_only(syntax::impl_item_attributes(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !syntax::is_test_only(syntax::trait_item_attributes(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        let attributes = match statement {
            Stmt::Local(local) => local.attrs.as_slice(),
            Stmt::Macro(call) => call.attrs.as_slice(),
            Stmt::Item(_) | Stmt::Expr(..) => &[],
        };
        if !syntax::is_test_only(attributes) {
            visit::visit_stmt(self, statement);
        }
    }
}
