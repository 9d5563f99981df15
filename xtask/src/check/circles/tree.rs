//! The modules of one crate: for each its file, its items, and what its names mean.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use syn::Item;

use super::syntax;

/// A crate's modules; the first one is its root.
pub struct Tree {
    pub modules: Vec<Module>,
}

/// A module, in a file of its own or within one.
pub struct Module {
    pub file: String,
    pub parent: Option<usize>,
    pub names: BTreeMap<String, Vec<Meaning>>,
    /// The paths that are imported with a `*`.
    pub globs: Vec<Vec<String>>,
    /// What the module holds besides other modules. What only tests see is left out.
    pub items: Vec<Item>,
}

/// What a name in a module stands for. One name can have several: a function may be called as its module is.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Something that this file defines.
    Item(String),
    /// A module, as an index of [`Tree::modules`].
    Module(usize),
    /// Another name.
    Import(Vec<String>),
}

/// Gives the text of a file, if there is such a file.
pub type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Tree {
    /// Reads the crate that begins with the file `root`, whatever modules it declares.
    pub fn read(root: &str, read: Read<'_>) -> Result<Self> {
        let mut tree = Self { modules: Vec::new() };
        let (folder, _) = root.rsplit_once('/').context("a crate's root is in a folder")?;
        tree.add_file(root.to_owned(), folder, None, read)?;
        Ok(tree)
    }

    /// Whether a file only declares modules and re-exports.
    pub fn is_contents(&self, file: &str) -> bool {
        let defines = |module: &Module| {
            let own = |meaning: &Meaning| *meaning == Meaning::Item(file.to_owned());
            module.file == file && module.names.values().flatten().any(own)
        };
        is_contents_name(file) && !self.modules.iter().any(defines)
    }

    /// Adds the module of a file; none if the file is for tests only. The files of the modules below it are
    /// in `folder`.
    fn add_file(
        &mut self,
        file: String,
        folder: &str,
        parent: Option<usize>,
        read: Read<'_>,
    ) -> Result<Option<usize>> {
        let text = read(&file).with_context(|| format!("cannot read {file}"))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("cannot parse {file}"))?;
        if syntax::is_test_only(&parsed.attrs) {
            return Ok(None);
        }
        self.add(file, folder, parent, parsed.items, read).map(Some)
    }

    fn add(
        &mut self,
        file: String,
        folder: &str,
        parent: Option<usize>,
        items: Vec<Item>,
        read: Read<'_>,
    ) -> Result<usize> {
        let index = self.modules.len();
        let (names, globs) = (BTreeMap::new(), Vec::new());
        self.modules.push(Module { file: file.clone(), parent, names, globs, items: Vec::new() });
        for item in items {
            if syntax::is_test_only(syntax::item_attributes(&item)) {
                continue;
            }
            if let Item::Mod(declared) = item {
                let name = declared.ident.to_string();
                let below = format!("{folder}/{name}");
                let child = match declared.content {
                    Some((_, items)) => Some(self.add(file.clone(), &below, Some(index), items, read)?),
                    None => self.add_file(module_file(&file, &below, read)?, &below, Some(index), read)?,
                };
                if let Some(child) = child {
                    self.mean(index, name, Meaning::Module(child));
                }
            } else {
                self.add_names(index, &item);
                self.modules[index].items.push(item);
            }
        }
        Ok(index)
    }

    fn add_names(&mut self, module: usize, item: &Item) {
        if let Item::Use(item) = item {
            for import in syntax::imports(item) {
                match import.name {
                    Some(name) => self.mean(module, name, Meaning::Import(import.path)),
                    None => self.modules[module].globs.push(import.path),
                }
            }
        }
        let exported =
            syntax::item_attributes(item).iter().any(|attribute| attribute.path().is_ident("macro_export"));
        // `#[macro_export]` puts a macro at the root, wherever it is written.
        let scope = if exported { 0 } else { module };
        for name in syntax::defined_names(item) {
            let file = self.modules[module].file.clone();
            self.mean(scope, name, Meaning::Item(file));
        }
    }

    fn mean(&mut self, module: usize, name: String, meaning: Meaning) {
        self.modules[module].names.entry(name).or_default().push(meaning);
    }
}

/// Whether a file is by its name a table of contents.
pub fn is_contents_name(file: &str) -> bool {
    ["mod.rs", "lib.rs"].contains(&file.rsplit('/').next().unwrap_or_default())
}

/// The file of a module whose own modules are in the folder `below`.
fn module_file(declared_in: &str, below: &str, read: Read<'_>) -> Result<String> {
    let candidates = [format!("{below}.rs"), format!("{below}/mod.rs")];
    match candidates.into_iter().find(|candidate| read(candidate).is_some()) {
        Some(file) => Ok(file),
        None => bail!("{declared_in} declares a module, but there is no {below}.rs and no {below}/mod.rs"),
    }
}
