// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `make mutants`: each bug of a list is put into the driver or the NIC, and the test that is named
//! for it has to fail.
//!
//! All bugs are in one copy of the tree at once, each behind a switch, so that there is one build
//! for all of them: the driver's switch is a parameter of the module, the NIC's a variable of the
//! environment. With no switch on, every named test has to pass in the same copy.
//!
//! * [`list`] reads the bugs from `tools/testing/mutants/`.
//! * [`patch`] makes the copy.
//! * [`run`] runs the tests, and [`outcome`] says what came out of one.

mod list;
mod outcome;
mod patch;
mod run;

use std::collections::BTreeMap;

use anyhow::{ensure, Result};

use crate::artefacts::Workshop;
use list::Place;

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    /// Mutants that their test caught.
    pub caught: usize,
    /// Mutants that were run.
    pub all: usize,
}

/// Runs the mutants whose id begins with one of `ids`, or all of them, and prints a line for each;
/// the last line is the score.
///
/// # Errors
///
/// The list is wrong (an anchor that is not there, or more than once), the copy does not build, or
/// a named test fails without any mutant. A mutant that survives is no error here.
pub fn run(workshop: &Workshop, ids: &[String]) -> Result<Score> {
    let mutants = list::read(&workshop.tree().join("tools/testing/mutants"))?;
    let copy = workshop.products().join("mutants/tree");
    let places = patch::copy(workshop.tree(), &copy, &mutants)?;
    let chosen: Vec<_> = mutants
        .iter()
        .filter(|mutant| ids.is_empty() || ids.iter().any(|id| mutant.id.starts_with(id)))
        .collect();
    ensure!(!chosen.is_empty(), "no mutant has such an id");
    for mutant in &chosen {
        if let Some(proof) = &mutant.equivalent {
            println!("mutant {} ({}): equivalent: {proof}", mutant.id, mutant.bug);
        }
    }
    let numbers: BTreeMap<_, _> = (1..)
        .zip(&mutants)
        .map(|(number, mutant)| (mutant.id.clone(), number))
        .collect();
    let mut score = Score { caught: 0, all: 0 };
    for place in Place::ALL {
        let here: Vec<_> = chosen
            .iter()
            .copied()
            .filter(|mutant| mutant.place() == Some(place))
            .collect();
        if here.is_empty() {
            continue;
        }
        let in_programs = here
            .iter()
            .any(|mutant| places.get(&mutant.id) == Some(&patch::Part::Nic));
        let bench = run::Bench::prepare(workshop, &copy, place, &here, &numbers, in_programs)?;
        for mutant in here {
            let outcome = bench.run(mutant)?;
            println!("mutant {} ({}): {outcome}", mutant.id, mutant.bug);
            score.all += 1;
            score.caught += usize::from(outcome.is_caught());
        }
    }
    println!("{} of {} caught", score.caught, score.all);
    Ok(score)
}
