// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The table and `bench.json`.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{json, Value};

use super::figures::Figure;

/// Prints the table; with the figures of another tree beside ours.
pub(super) fn print(figures: &[Figure], before: Option<&[Figure]>) {
    println!("{}", table(figures, before));
}

fn table(figures: &[Figure], before: Option<&[Figure]>) -> String {
    let mut text = format!(
        "{:<20} {:>9} {:>8} {:>7}  {:>17}  {:>19}{}\n",
        "name",
        "value",
        "target",
        "holds",
        "spread",
        "ns, ours and base",
        if before.is_some() { "     before" } else { "" },
    );
    for figure in figures {
        let sign = if figure.at_least { ">= " } else { "" };
        let target = figure
            .target
            .map_or(String::new(), |t| format!("{sign}{t}"));
        let holds = match figure.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let ns = figure
            .ns
            .map_or(String::new(), |[a, b]| format!("{a:9.2} {b:9.2}"));
        let [low, high] = figure.spread;
        text += &format!(
            "{:<20} {:>9.3} {:>8} {:>7}  {:>8.3}-{:<8.3}  {:>19}",
            figure.name, figure.value, target, holds, low, high, ns
        );
        if let Some(other) = before.and_then(|b| b.iter().find(|f| f.name == figure.name)) {
            text += &format!("  {:>9.3}", other.value);
        }
        text += "\n";
    }
    text
}

/// Writes the list.
pub(super) fn write(path: &Path, figures: &[Figure], before: Option<&[Figure]>) -> Result<()> {
    let mut list = Vec::new();
    for figure in figures {
        let mut value = serde_json::to_value(figure)?;
        let other = before.and_then(|b| b.iter().find(|f| f.name == figure.name));
        if let (Some(other), Value::Object(fields)) = (other, &mut value) {
            fields.insert("before".into(), json!(other.value));
        }
        list.push(value);
    }
    let text = serde_json::to_string_pretty(&list)?;
    fs::write(path, text + "\n").with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_what_the_issue_asks_for_and_the_other_tree() {
        let figure = Figure {
            name: "path.runs".into(),
            value: 0.5,
            target: Some(0.05),
            at_least: false,
            holds: Some(false),
            spread: [0.4, 0.6],
            ns: Some([1.0, 2.0]),
        };
        let other = Figure {
            value: 0.7,
            ..figure.clone()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench.json");
        write(
            &path,
            std::slice::from_ref(&figure),
            Some(std::slice::from_ref(&other)),
        )
        .unwrap();
        let list: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(list[0]["name"], "path.runs");
        assert_eq!(list[0]["holds"], false);
        assert_eq!(list[0]["spread"][1], 0.6);
        assert_eq!(list[0]["before"], 0.7);
        let text = table(&[figure], Some(&[other]));
        assert!(text.contains("NO") && text.contains("0.700"), "{text}");
    }
}
