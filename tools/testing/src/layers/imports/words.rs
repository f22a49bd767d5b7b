// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The words of a source file, as far as imports need them.

/// Identifiers, `::` and single other characters, without comments, strings and white space.
/// Literal strings stay as one word with their quotes: `#[path = "…"]` needs them.
pub(super) fn words(text: &str) -> Vec<String> {
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
pub(super) fn without_tests(words: Vec<String>) -> Vec<String> {
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
pub(super) fn closing(words: &[String], open: usize) -> usize {
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
