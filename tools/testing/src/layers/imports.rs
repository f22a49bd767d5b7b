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

/// Identifiers, `::` and single other characters, without comments, strings and white space.
/// Literal strings stay as one word with their quotes: `#[path = "…"]` needs them.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if c == '"' {
            let len = string(rest);
            words.push(rest.get(..len).unwrap_or_default().to_string());
            len
        } else if let Some(len) = character(rest) {
            len
        } else if c.is_alphanumeric() || c == '_' {
            let word = |c: char| !(c.is_alphanumeric() || c == '_');
            let len = rest.find(word).unwrap_or(rest.len());
            words.push(rest.get(..len).unwrap_or_default().to_string());
            len
        } else if rest.starts_with("::") {
            words.push("::".into());
            2
        } else {
            if !c.is_whitespace() {
                words.push(c.to_string());
            }
            c.len_utf8()
        };
        rest = rest.get(len..).unwrap_or_default();
    }
    words
}

/// Length of the string literal at the start of `text`.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the character literal at the start of `text`; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let escaped = rest.starts_with('\\');
    let end = rest.char_indices().skip(if escaped { 2 } else { 1 });
    let (at, _) = end.take(10).find(|(_, c)| *c == '\'')?;
    let plain = rest.get(..at)?.chars().count() == 1;
    (escaped || plain).then_some(at + 2)
}

/// Removes what stands under `#[cfg(test)]`, `#[cfg(CONFIG_KUNIT…)]` and `#[kunit_tests(…)]`: one
/// item each.
fn without_tests(words: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let attribute =
            words.get(at).is_some_and(|w| w == "#") && words.get(at + 1).is_some_and(|w| w == "[");
        if !attribute {
            kept.extend(words.get(at).cloned());
            at += 1;
            continue;
        }
        let end = closing(&words, at + 1);
        let inside = words.get(at + 2..end).unwrap_or_default();
        let test = match inside.first().map(String::as_str) {
            Some("cfg") => inside
                .iter()
                .any(|w| w == "test" || w.starts_with("CONFIG_KUNIT")),
            Some(first) => first == "kunit_tests" || inside.iter().any(|w| w == "kunit_tests"),
            None => false,
        };
        if test {
            at = item_end(&words, end + 1);
        } else {
            kept.extend(words.get(at..=end).unwrap_or_default().iter().cloned());
            at = end + 1;
        }
    }
    kept
}

/// The index of the bracket that closes the one at `open`.
fn closing(words: &[String], open: usize) -> usize {
    let mut depth = 0u32;
    for (at, word) in words.iter().enumerate().skip(open) {
        match word.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    words.len()
}

/// The index behind the item at `start`.
fn item_end(words: &[String], start: usize) -> usize {
    let mut at = start;
    while let Some(word) = words.get(at) {
        match word.as_str() {
            ";" | "," => return at + 1,
            "{" => return closing(words, at) + 1,
            "(" | "[" => at = closing(words, at) + 1,
            _ => at += 1,
        }
    }
    at
}

/// `mod x;` and the `#[path]` before it.
fn submodules(words: &[String]) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    let mut place = None;
    for (at, word) in words.iter().enumerate() {
        let next = |n: usize| words.get(at + n).map(String::as_str);
        match word.as_str() {
            "path" if next(1) == Some("=") => {
                place = next(2).map(|p| p.trim_matches('"').to_string());
            }
            "mod" if next(2) == Some(";") => {
                found.extend(next(1).map(|name| (name.to_string(), place.take())));
            }
            _ => {}
        }
    }
    found
}

/// One name of a `use` declaration.
struct Taken {
    /// What it is called here; a glob has no name.
    name: Option<String>,
    path: Vec<String>,
    /// Others can take it from here.
    public: bool,
}

/// All names of `use` declarations.
fn uses(words: &[String]) -> Vec<Taken> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if word == "use" {
            let before = at.checked_sub(1).and_then(|at| words.get(at));
            let public = before.is_some_and(|w| w == "pub" || w == ")");
            let end = words.iter().skip(at).position(|w| w == ";");
            let tree = words.get(at + 1..at + end.unwrap_or(0)).unwrap_or_default();
            branches(tree, &[], public, &mut found);
        }
    }
    found
}

/// One level of a tree of `use`: `prefix` stands before it.
fn branches(tree: &[String], prefix: &[String], public: bool, found: &mut Vec<Taken>) {
    let mut at = 0;
    while at < tree.len() {
        let mut path = prefix.to_vec();
        let mut name = None;
        while let Some(word) = tree.get(at) {
            match word.as_str() {
                "," => break,
                "::" => {}
                "{" => {
                    let end = closing(tree, at);
                    let inside = tree.get(at + 1..end).unwrap_or_default();
                    branches(inside, &path, public, found);
                    path.clear();
                    at = end;
                }
                "as" => {
                    name = tree.get(at + 1).cloned();
                    at += 1;
                }
                "*" => name = Some(String::new()),
                "self" if !path.is_empty() => {}
                word => path.push(word.to_string()),
            }
            at += 1;
        }
        if !path.is_empty() {
            let name = name.or_else(|| path.last().cloned());
            found.push(Taken {
                name: name.filter(|name| !name.is_empty()),
                path,
                public,
            });
        }
        at += 1;
    }
}

/// Paths of two words or more outside of `use`.
fn paths(words: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words.get(at).is_some_and(|w| w == "use") {
            at += words.iter().skip(at).position(|w| w == ";").unwrap_or(0) + 1;
            continue;
        }
        let mut path = Vec::new();
        while let Some(word) = words.get(at).filter(|w| is_name(w)) {
            path.push(word.clone());
            let goes_on = words.get(at + 1).is_some_and(|w| w == "::")
                && words.get(at + 2).is_some_and(|w| is_name(w));
            if !goes_on {
                break;
            }
            at += 2;
        }
        if path.len() > 1 {
            found.push(path);
        }
        at += 1;
    }
    found
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
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
