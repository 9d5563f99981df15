//! Where a path leads: the files whose code it needs.

use std::collections::BTreeSet;

use super::tree::{Meaning, Module, Tree};

/// Where a path, or a part of it, leads.
#[derive(Default)]
struct Reached<'a> {
    /// The modules that the path may go on from.
    modules: Vec<usize>,
    /// The files that define what is named, and those whose imports were followed.
    files: BTreeSet<&'a str>,
}

/// The imports that are being followed. An import may name itself, as `use run::run` beside `mod run` does.
type Open<'a> = Vec<(usize, &'a [String])>;

impl Tree {
    /// The files that `path`, written in `module`, leads to. There are none if it leads out of the crate.
    pub fn files<'a>(&'a self, module: usize, path: &[String]) -> BTreeSet<&'a str> {
        let mut reached = self.reach(module, path, &mut Vec::new());
        let modules = reached.modules.iter().map(|module| self.modules[*module].file.as_str());
        reached.files.extend(modules);
        reached.files
    }

    fn reach<'a>(&'a self, module: usize, path: &[String], open: &mut Open<'a>) -> Reached<'a> {
        let mut modules = vec![module];
        let mut files = BTreeSet::new();
        let mut is_ours = false;
        for (position, name) in path.iter().enumerate() {
            let is_last = position + 1 == path.len();
            if let Some(from) = self.keyword(&modules, name) {
                (modules, is_ours) = (from, true);
                continue;
            }
            let mut next = Reached::default();
            for &module in &modules {
                let mut meanings = self.look_up(module, name, open);
                if meanings.is_empty() && is_ours {
                    // A macro may define it there; we see no names that macros make.
                    files.extend(self.origins(module, open));
                }
                // Only a module can stand before `::`, if the name means a module and something else.
                if !is_last && meanings.iter().any(|reached| !reached.modules.is_empty()) {
                    meanings.retain(|reached| !reached.modules.is_empty());
                }
                for reached in meanings {
                    next.modules.extend(reached.modules);
                    next.files.extend(reached.files);
                }
            }
            files.extend(next.files);
            (modules, is_ours) = (next.modules, true);
        }
        Reached { modules, files }
    }

    /// The modules that `crate`, `self` or `super` stands for; none if `name` is another word.
    fn keyword(&self, modules: &[usize], name: &str) -> Option<Vec<usize>> {
        match name {
            "crate" => Some(vec![0]),
            "self" => Some(modules.to_vec()),
            "super" => Some(modules.iter().filter_map(|module| self.modules[*module].parent).collect()),
            _ => None,
        }
    }

    /// Every meaning of a name in a module. As in Rust, a `*` counts only if the module itself has no such name.
    fn look_up<'a>(&'a self, module: usize, name: &str, open: &mut Open<'a>) -> Vec<Reached<'a>> {
        let Module { file, names, globs, .. } = &self.modules[module];
        let mut found = Vec::new();
        for meaning in names.get(name).into_iter().flatten() {
            match meaning {
                Meaning::Item(file) => {
                    found.push(Reached { modules: Vec::new(), files: BTreeSet::from([file.as_str()]) });
                }
                Meaning::Module(child) => {
                    found.push(Reached { modules: vec![*child], files: BTreeSet::new() });
                }
                Meaning::Import(path) => found.extend(self.follow(module, path, open)),
            }
        }
        if found.is_empty() {
            for glob in globs {
                let Some(sources) = self.follow(module, glob, open) else { continue };
                open.push((module, glob));
                for source in sources.modules {
                    found.extend(self.look_up(source, name, open));
                }
                open.pop();
            }
            for reached in &mut found {
                reached.files.insert(file);
            }
        }
        found
    }

    /// Where an import of a module leads; nothing if it is being followed already.
    fn follow<'a>(&'a self, module: usize, path: &'a [String], open: &mut Open<'a>) -> Option<Reached<'a>> {
        if open.contains(&(module, path)) {
            return None;
        }
        open.push((module, path));
        let mut reached = self.reach(module, path, open);
        open.pop();
        // An import of another crate's name gives nothing, but the name is this module's nevertheless.
        reached.files.insert(&self.modules[module].file);
        Some(reached)
    }

    /// The files that may define a name which a module is asked for and which nobody writes down.
    fn origins<'a>(&'a self, module: usize, open: &mut Open<'a>) -> BTreeSet<&'a str> {
        let Module { file, globs, .. } = &self.modules[module];
        let mut files = BTreeSet::from([file.as_str()]);
        for glob in globs {
            let sources = self.follow(module, glob, open).map_or_else(Vec::new, |from| from.modules);
            files.extend(sources.iter().map(|source| self.modules[*source].file.as_str()));
        }
        files
    }
}
