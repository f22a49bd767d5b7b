// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Counts the guests of a run of tests, and those that the emulated processor has killed. The tests
//! are processes of their own, so each guest is a line of a file.

use std::{collections::BTreeSet, env, fmt, fs::OpenOptions, io::Write, path::PathBuf, process};

use anyhow::{Context, Result};

/// Variable with the path of the file. Without it nothing is counted.
pub const CENSUS: &str = "DLR_CENSUS";

/// Of a hundred guests so many may be excused.
const PERCENT: usize = 3;

/// What is to be said of a guest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// It begins to run. It is not counted again where it moves to.
    Begins,
    /// The emulated processor has killed it, which excuses its test.
    Excused,
}

/// Enters a guest into the file.
///
/// # Errors
///
/// The file cannot be written.
pub(super) fn enter(event: Event, vm: &str) -> Result<()> {
    let Some(path) = env::var_os(CENSUS).map(PathBuf::from) else {
        return Ok(());
    };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .with_context(|| format!("the census in {}", path.display()))?;
    let line = format!("{event} {} {vm}\n", process::id());
    Ok(file.write_all(line.as_bytes())?)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begins => "begins",
            Self::Excused => "excused",
        })
    }
}

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Guests that began to run.
    pub guests: usize,
    /// Guests that were excused.
    pub excused: usize,
}

impl Census {
    /// Reads the text of the file. A line that is there twice counts once: of one guest several
    /// errors may be told.
    pub fn read(text: &str) -> Self {
        let lines: BTreeSet<&str> = text.lines().collect();
        let count = |event: Event| {
            let word = event.to_string();
            let is_one = |line: &&&str| line.split(' ').next() == Some(word.as_str());
            lines.iter().filter(is_one).count()
        };
        Self {
            guests: count(Event::Begins),
            excused: count(Event::Excused),
        }
    }

    /// Adds the guests of other tests.
    pub fn add(&mut self, other: Self) {
        self.guests += other.guests;
        self.excused += other.excused;
    }

    /// How many may be excused: three in a hundred, and one of any number.
    pub fn limit(&self) -> usize {
        (self.guests * PERCENT / 100).max(1)
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} guests excused", self.excused, self.guests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_counts_once() {
        let text = "begins 7 vm0\nbegins 7 vm2\nexcused 7 vm2\nexcused 7 vm2\nbegins 8 vm0\n";
        let census = Census::read(text);
        assert_eq!(
            census,
            Census {
                guests: 3,
                excused: 1
            }
        );
        assert_eq!(census.to_string(), "1 of 3 guests excused");
        assert_eq!(Census::read(""), Census::default());
    }

    #[test]
    fn three_in_a_hundred_may_be_excused_and_one_of_any_number() {
        for (guests, limit) in [
            (1, 1),
            (40, 1),
            (66, 1),
            (67, 2),
            (99, 2),
            (100, 3),
            (140, 4),
        ] {
            let census = Census { guests, excused: 0 };
            assert_eq!(census.limit(), limit, "of {guests}");
        }
    }
}
