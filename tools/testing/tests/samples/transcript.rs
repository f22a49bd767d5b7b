// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What `vfio-mig check` says of the drivers of `samples/vfio`, as the documentation shows it.

use std::{collections::BTreeMap, env, fmt::Write, fs, path::Path};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

/// A variable that has the files written instead of compared.
const REWRITE: &str = "DLR_REWRITE_TRANSCRIPTS";

/// Compares a report with `samples/vfio/NAME`, case by case.
///
/// # Errors
///
/// The file has another case or another result, or cannot be read.
pub(crate) fn compare(report: &Value, name: &str) -> Result<()> {
    let shown = render(report)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../samples/vfio")
        .join(name);
    if env::var_os(REWRITE).is_some() {
        return fs::write(&path, shown).with_context(|| path.display().to_string());
    }
    let expected = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = || expected.lines().zip(shown.lines());
    let first = lines().position(|(expected, shown)| expected != shown);
    ensure!(
        expected == shown,
        "{} has not what `vfio-mig check` says, from line {} on ({REWRITE}=1 rewrites it):\n{shown}",
        path.display(),
        first.unwrap_or_else(|| lines().count()) + 1
    );
    Ok(())
}

/// The cases as the tool prints them, without its first line, notes and known deviations. Of skipped
/// cases it has the reasons and how many there are of each.
fn render(report: &Value) -> Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let results = report["results"].as_array().context("no results")?;
    let mut shown = String::new();
    let mut group = &Value::Null;
    let mut skipped = BTreeMap::<_, usize>::new();
    for case in results {
        if case["status"] == "skip" {
            *skipped.entry(text(&case["text"])).or_default() += 1;
            continue;
        }
        if case["group"] != *group {
            group = &case["group"];
            let gap = if shown.is_empty() { "" } else { "\n" };
            writeln!(shown, "{gap}{}", text(group))?;
        }
        let line = format!(
            "  {:<6} {:<37} {}",
            text(&case["status"]),
            text(&case["id"]),
            text(&case["text"])
        );
        writeln!(shown, "{}", line.trim_end())?;
    }
    writeln!(shown, "\nskipped")?;
    for (reason, cases) in skipped {
        writeln!(shown, "  {cases:>4}   {reason}")?;
    }
    let count = |name: &str| report["counts"][name].as_u64().context("no count");
    writeln!(
        shown,
        "\n{} passed, {} deviations, {} skipped, {} not carried out",
        count("passed")?,
        count("failed")?,
        count("skipped")?,
        count("errors")?
    )?;
    Ok(shown)
}
