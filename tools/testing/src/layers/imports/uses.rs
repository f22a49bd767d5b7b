// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Declarations of submodules, `use`, and paths, among the words of a file.

use super::words::closing;

/// `mod x;` and the `#[path]` before it.
pub(super) fn submodules(words: &[String]) -> Vec<(String, Option<String>)> {
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
pub(super) struct Taken {
    /// What it is called here; a glob has no name.
    pub(super) name: Option<String>,
    pub(super) path: Vec<String>,
    /// Others can take it from here.
    pub(super) public: bool,
}

/// All names of `use` declarations.
pub(super) fn uses(words: &[String]) -> Vec<Taken> {
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
pub(super) fn paths(words: &[String]) -> Vec<Vec<String>> {
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
