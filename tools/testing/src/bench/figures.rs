// SPDX-License-Identifier: Apache-2.0 OR MIT

//! From the lines that the driver's benchmark writes to figures. Pure.

use std::collections::BTreeMap;

use anyhow::{bail, ensure, Context, Result};
use serde::Serialize;

use super::targets::{Bound, Target, NATIVE};

/// Begins every line of the benchmark.
const MARK: &str = "bench: ";

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// As the performance page calls it.
    pub name: String,
    /// A ratio of times, or bits.
    pub value: f64,
    /// This is promised.
    pub target: Option<f64>,
    /// Whether at least the target is promised, and not at most.
    pub at_least: bool,
    /// Whether it is kept; nothing when nothing is promised.
    pub holds: Option<bool>,
    /// Smallest and largest of the passes.
    pub spread: [f64; 2],
    /// Nanoseconds an entry, a call or a page: ours and the baseline's, the medians of each.
    pub ns: Option<[f64; 2]>,
}

impl Figure {
    pub(super) fn new(name: &str, values: &[f64], ns: Option<[f64; 2]>) -> Self {
        let bound = Target::of(name).map_or(Bound::None, |t| t.bound);
        let value = median(values);
        Self {
            name: name.into(),
            value,
            target: bound.value(),
            at_least: matches!(bound, Bound::Least(_)),
            holds: bound.holds(value),
            spread: [
                values.iter().copied().fold(f64::INFINITY, f64::min),
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ],
            ns,
        }
    }

    /// Of passes: what ours took, what the baseline took, and the number of entries.
    ///
    /// # Errors
    ///
    /// A pass took no time.
    pub(super) fn of_passes(name: &str, passes: &[[f64; 3]]) -> Result<Self> {
        ensure!(
            passes.iter().flatten().all(|n| *n > 0.0),
            "{name}: a pass took no time"
        );
        // Where at least so much is promised, rates are compared, not times.
        let rate = Target::of(name).is_some_and(|t| matches!(t.bound, Bound::Least(_)));
        let ratio = |[ours, base, _]: &[f64; 3]| if rate { base / ours } else { ours / base };
        let ratios: Vec<_> = passes.iter().map(ratio).collect();
        let ns = |at: usize| median(&passes.iter().map(|p| p[at] / p[2]).collect::<Vec<_>>());
        Ok(Self::new(name, &ratios, Some([ns(0), ns(1)])))
    }

    /// Nanoseconds an entry, a call or a byte of a part of something. Of passes: what the part took,
    /// what the whole took, which is shown beside it, and the number of entries.
    ///
    /// # Errors
    ///
    /// A pass took no time.
    pub(super) fn of_part(name: &str, passes: &[[f64; 3]]) -> Result<Self> {
        ensure!(
            passes.iter().flatten().all(|n| *n > 0.0),
            "{name}: a pass took no time"
        );
        let each = |at: usize| -> Vec<f64> { passes.iter().map(|p| p[at] / p[2]).collect() };
        let (part, whole) = (each(0), each(1));
        let ns = [median(&part), median(&whole)];
        Ok(Self::new(name, &part, Some(ns)))
    }

    /// Words about a figure that is beyond `margin` times what is promised or, where that is out of
    /// reach, what was reached. Bits are counted and do not depend on the machine, so they have no
    /// margin.
    pub fn slide(&self, margin: f64) -> Option<String> {
        let target = NATIVE.iter().find(|t| t.name == self.name)?;
        let Bound::Most(most) = target.bound else {
            return None;
        };
        let counted = self.name.starts_with("memory.");
        let most = most.max(target.reached) * if counted { 1.0 } else { margin };
        // The best pass: what else runs on the machine does not count.
        let best = self.spread[0];
        (best > most).then(|| format!("{} is {best:.3}, and at most {most:.3} is good", self.name))
    }
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        Some(upper) if sorted.len() % 2 == 0 => (sorted[middle - 1] + upper) / 2.0,
        Some(value) => *value,
        None => f64::NAN,
    }
}

/// The passes of one case: ours and base in nanoseconds, and the number of entries.
type Samples = BTreeMap<String, Vec<[f64; 3]>>;

/// Reads the log of a run. Figures with a target come first, in the order of the table.
///
/// # Errors
///
/// The benchmark has failed, did not come to its end, or left out a figure.
pub(super) fn parse(log: &str) -> Result<Vec<Figure>> {
    let mut samples = Samples::new();
    let mut figures = Vec::new();
    let mut ended = false;
    for line in log.lines() {
        let Some((_, words)) = line.split_once(MARK) else {
            continue;
        };
        match words.split_whitespace().collect::<Vec<_>>()[..] {
            ["sample", name, ours, base, count] => samples.entry(name.into()).or_default().push([
                number(ours)?,
                number(base)?,
                number(count)?,
            ]),
            ["value", name, thousandths] => {
                figures.push(Figure::new(name, &[number(thousandths)? / 1000.0], None));
            }
            ["end"] => ended = true,
            // Those of the script: see `native`.
            ["failed", ..] => bail!("{line}"),
            _ => bail!("the benchmark says {words:?}"),
        }
    }
    ensure!(ended, "the benchmark did not come to its end");
    for (name, passes) in samples {
        figures.push(Figure::of_passes(&name, &passes)?);
    }
    figures.sort_by_key(|figure| (Target::place(&figure.name), figure.name.clone()));
    for Target { name, .. } in NATIVE {
        ensure!(
            figures.iter().any(|figure| figure.name == *name),
            "the benchmark says nothing of {name}"
        );
    }
    Ok(figures)
}

fn number(word: &str) -> Result<f64> {
    word.parse().with_context(|| format!("no number: {word}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Every target, with this line in the place of one.
    fn log(line: &str) -> String {
        let name = line.split_whitespace().nth(2).unwrap_or_default();
        let mut text = String::from("[ 0.1] dlr_vfio_pci: bench: end\r\n");
        for target in NATIVE.iter().filter(|t| t.name != name) {
            text += &format!("bench: sample {} 100 100 10\n", target.name);
        }
        text + line
    }

    #[test]
    fn the_median_of_the_ratios_of_the_passes_counts() {
        let passes = "bench: sample mark.random.1g 100 50 10\n\
                      bench: sample mark.random.1g 900 100 10\n\
                      bench: sample mark.random.1g 400 100 10\n";
        let figures = parse(&log(passes)).unwrap();
        let figure = &figures[0];
        assert_eq!(figure.name, "mark.random.1g");
        assert_eq!((figure.value, figure.spread), (4.0, [2.0, 9.0]));
        assert_eq!((figure.target, figure.holds), (Some(3.0), Some(false)));
        assert_eq!(figure.ns, Some([40.0, 10.0]));
        // The best pass decides, with the margin.
        assert!(figure.slide(2.0).is_none());
        assert!(figure.slide(0.1).is_some());
    }

    #[test]
    fn rates_are_compared_where_at_least_so_much_is_promised() {
        let figure = Figure::of_passes("stream.save", &[[50.0, 40.0, 1.0]]).unwrap();
        assert_eq!((figure.value, figure.holds), (0.8, Some(true)));
        assert_eq!(figure.ns, Some([50.0, 40.0]));
        let figure = Figure::of_passes("stream.save", &[[51.0, 40.0, 1.0]]).unwrap();
        assert_eq!((figure.at_least, figure.holds), (true, Some(false)));
        assert!(figure.slide(0.1).is_none(), "not of the native part");
    }

    #[test]
    fn what_is_counted_is_in_thousandths() {
        let figures = parse(&log("bench: value memory.sparse 40000")).unwrap();
        let figure = figures.iter().find(|f| f.name == "memory.sparse").unwrap();
        assert_eq!((figure.value, figure.holds), (40.0, Some(true)));
    }

    #[test]
    fn a_run_that_failed_or_says_too_little_has_no_figures() {
        let good = log("bench: value memory.clean 0");
        assert!(parse(&good).is_ok());
        assert!(parse(&good.replace("bench: end", "")).is_err());
        assert!(parse(&good.replace("path.xor", "path.zor")).is_err());
        assert!(parse(&(good.clone() + "\nbench: failed: ENOMEM")).is_err());
        assert!(parse(&(good + "\nbench: sample a 0 1 1")).is_err());
    }
}
