// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which file of a crate takes names from which other one, read from the text: `use` declarations
//! and paths. `mod x;` is no such thing, nor is a `pub use` by which a module hands on what its
//! submodules have; tests do not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use self::{
    uses::{paths, submodules, uses},
    words::{without_tests, words},
};

mod uses;
mod words;

/// Names of modules from the root of the crate down.
type ModulePath = Vec<String>;

/// The modules of one crate.
#[derive(Default)]
pub(super) struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

struct Module {
    file: PathBuf,
    words: Vec<String>,
    /// Names that the module has by `use`, and where they come from.
    imports: BTreeMap<String, Vec<String>>,
}

impl Crate {
    /// Reads a crate from its root file on.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut this = Self::default();
        let folder = root.parent().context("a file has a folder")?;
        this.add(Vec::new(), root, folder)?;
        Ok(this)
    }

    /// `folder` holds the files of the submodules.
    fn add(&mut self, path: ModulePath, file: &Path, folder: &Path) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
        let words = without_tests(words(&text));
        for (name, place) in submodules(&words) {
            let candidates = match &place {
                Some(place) => vec![file.parent().unwrap_or(folder).join(place)],
                None => vec![
                    folder.join(format!("{name}.rs")),
                    folder.join(&name).join("mod.rs"),
                ],
            };
            let Some(found) = candidates.into_iter().find(|path| path.is_file()) else {
                continue;
            };
            let below = match found.file_name().is_some_and(|n| n == "mod.rs") {
                true => found.parent().unwrap_or(folder).to_path_buf(),
                false => folder.join(&name),
            };
            let mut inner = path.clone();
            inner.push(name);
            self.add(inner, &found, &below)?;
        }
        let imports = uses(&words)
            .into_iter()
            .filter_map(|taken| Some((taken.name?, taken.path)))
            .collect();
        let module = Module {
            file: file.to_path_buf(),
            words,
            imports,
        };
        self.modules.insert(path, module);
        Ok(())
    }

    /// The modules, and their files.
    pub(super) fn files(&self) -> impl Iterator<Item = (&ModulePath, &Path)> {
        let files = self.modules.iter();
        files.map(|(path, module)| (path, module.file.as_path()))
    }

    /// From each file to the files that it takes names from.
    pub(super) fn arrows(&self) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
        let mut arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
        for (path, module) in &self.modules {
            let to = arrows.entry(module.file.clone()).or_default();
            for taken in uses(&module.words) {
                let below = self.module_of(path, &taken.path);
                let handed_on = taken.public && below.is_some_and(|m| m.starts_with(path));
                if !handed_on {
                    to.extend(self.file_of(path, &taken.path, 0));
                }
            }
            for taken in paths(&module.words) {
                to.extend(self.file_of(path, &taken, 0));
            }
            to.remove(&module.file);
        }
        arrows
    }

    /// The module that `taken` begins with, as module `from` writes it.
    fn module_of(&self, from: &ModulePath, taken: &[String]) -> Option<ModulePath> {
        let mut at = from.clone();
        for word in taken {
            match word.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()?),
                word => {
                    at.push(word.to_string());
                    if !self.modules.contains_key(&at) {
                        at.pop();
                        break;
                    }
                }
            }
        }
        (at != *from).then_some(at)
    }

    /// The file in which the name at the end of `taken`, as module `from` writes it, is defined.
    fn file_of(&self, from: &ModulePath, taken: &[String], depth: u32) -> Option<PathBuf> {
        let mut at = from.clone();
        let mut rest = taken;
        let mut anchored = false;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()?),
                _ => break,
            }
            anchored = true;
            rest = others;
        }
        while let Some((first, others)) = rest.split_first() {
            let mut inner = at.clone();
            inner.push(first.clone());
            if self.modules.contains_key(&inner) {
                at = inner;
                anchored = true;
                rest = others;
                continue;
            }
            let import = self.modules.get(&at)?.imports.get(first);
            return match import {
                // Of a name that comes from elsewhere the place counts where it is defined.
                Some(import) if anchored && depth < 8 && import != taken => {
                    let whole: Vec<_> = import.iter().chain(others).cloned().collect();
                    let own = self.modules.get(&at).map(|m| m.file.clone());
                    self.file_of(&at, &whole, depth + 1).or(own)
                }
                _ if anchored => self.modules.get(&at).map(|m| m.file.clone()),
                _ => None,
            };
        }
        anchored.then(|| self.modules.get(&at).map(|m| m.file.clone()))?
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A crate in a folder, and its arrows as `from>to`.
    fn arrows(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = folder.path().join("lib.rs");
        let name = |path: &Path| {
            let path = path.strip_prefix(folder.path()).unwrap();
            path.display().to_string()
        };
        let all = Crate::read(&root).unwrap().arrows();
        let mut list: Vec<_> = all
            .iter()
            .flat_map(|(from, to)| to.iter().map(|to| format!("{}>{}", name(from), name(to))))
            .collect();
        list.sort();
        list
    }

    #[test]
    fn declarations_paths_and_reexports() {
        let found = arrows(&[
            (
                "lib.rs",
                "mod a; mod b; mod c { } pub use a::{A, x::X}; use b::B;",
            ),
            ("a.rs", "pub mod x; pub struct A; fn f() { super::b::g(); }"),
            ("a/x.rs", "use super::A; pub struct X; // crate::b"),
            ("b/mod.rs", "use crate::X; const S: &str = \"crate::a\";"),
        ]);
        assert_eq!(
            found,
            [
                "a.rs>b/mod.rs",
                "a/x.rs>a.rs",
                "b/mod.rs>a/x.rs",
                "lib.rs>b/mod.rs"
            ]
        );
    }

    #[test]
    fn tests_do_not_count() {
        let found = arrows(&[
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod t;"),
            (
                "a.rs",
                "#[cfg(test)] mod tests { use crate::b::B; } \
                 #[cfg(CONFIG_KUNIT = \"y\")] use crate::b::C; fn f<'a>(c: char) { c == '\"'; }",
            ),
            ("b.rs", "#[kunit_tests(x)] mod tests { use crate::a::A; }"),
            ("t.rs", "use crate::a;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
