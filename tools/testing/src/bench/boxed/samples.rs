// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What `dlr-measure` prints in a box, and `dlr-nic-bench` beside it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{ensure, Context, Result};

use super::super::figures::Figure;
use crate::HostBox;

/// How long all passes may take.
const LIMIT: Duration = Duration::from_secs(1200);

/// Runs `dlr-measure` and makes figures of its samples.
pub(super) fn figures_of(host: &HostBox, arguments: &str) -> Result<Vec<Figure>> {
    let command = format!("dlr-measure {arguments}");
    let output = host.try_run(&command, LIMIT)?;
    ensure!(
        output.success(),
        "`{command}` {}: {}",
        output.ending(),
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&output.text())
}

/// Passes of each name: ours, the baseline, and the number of calls or bytes. Of a part: its
/// nanoseconds, those of the whole, and the number.
pub(super) fn parse(text: &str) -> Result<Vec<Figure>> {
    let mut samples: BTreeMap<(&str, &str), Vec<[f64; 3]>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind @ ("sample" | "part"), name, ours, base, count] = words[..] else {
            continue;
        };
        let number = |word: &str| word.parse::<f64>().with_context(|| line.to_owned());
        samples.entry((name, kind)).or_default().push([
            number(ours)?,
            number(base)?,
            number(count)?,
        ]);
    }
    ensure!(!samples.is_empty(), "no sample in {text:?}");
    let figures = samples.iter();
    figures
        .map(|((name, kind), passes)| match *kind {
            "part" => Figure::of_part(name, passes),
            _ => Figure::of_passes(name, passes),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_figures() {
        let text = "sample idle.report 300 100 10\nsample idle.report 500 100 10\n\
                    words\nsample idle.precopy 10 10 1\n";
        let figures = parse(text).unwrap();
        assert_eq!(figures[1].name, "idle.report");
        assert_eq!((figures[1].value, figures[1].spread), (4.0, [3.0, 5.0]));
        assert_eq!(figures[1].holds, Some(false));
        assert_eq!(figures[0].holds, Some(true));
        let text = "sample stream.load 900 450 100\npart stream.load.checksum 600 900 100\n\
                    part stream.load.checksum 700 800 100\n";
        let figures = parse(text).unwrap();
        assert_eq!((&*figures[0].name, figures[0].value), ("stream.load", 0.5));
        assert_eq!(figures[1].name, "stream.load.checksum");
        assert_eq!((figures[1].value, figures[1].spread), (6.5, [6.0, 7.0]));
        assert_eq!((figures[1].target, figures[1].ns), (None, Some([6.5, 8.5])));
        assert!(parse("part a 1 1 0").is_err() && parse("part a 0 1 1").is_err());
        assert!(parse("words").is_err() && parse("sample a 0 1 1").is_err());
        assert!(parse("sample a x 1 1").is_err());
    }
}
