// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Walks until the model and the device disagree, then shrinks.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

use super::{
    model::Model,
    step::{Mix, Step},
    subject::Subject,
};

/// How long to walk.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most walks.
    pub walks: u32,
    /// Most steps of one.
    pub steps: usize,
    /// No walk begins later.
    pub time: Duration,
    /// Time to look for a shorter walk.
    pub shrink: Duration,
}

/// What came of it.
#[derive(Debug)]
pub enum Explored {
    /// The model foresaw everything.
    Agreed {
        /// Walks.
        walks: u32,
        /// Steps of all of them.
        steps: usize,
    },
    /// It did not.
    Deviates {
        /// The shortest walk that was found; the last step is the one.
        walk: Vec<Step>,
        /// What was wrong with it.
        seen: String,
        /// Walks before it.
        after: u32,
    },
}

/// One walk from a fresh start: number of the step that went wrong, and what was seen.
fn walk(subject: &mut impl Subject, mix: Mix, steps: &[Step]) -> Result<(), (usize, String)> {
    let mut model = Model::new(mix.flags);
    for (at, step) in steps.iter().enumerate() {
        model.step(subject, *step).map_err(|seen| (at, seen))?;
    }
    Ok(())
}

/// Walks at random; the same seed gives the same walks.
///
/// # Errors
///
/// The device cannot be brought back to where walks begin.
pub fn explore<S: Subject>(
    subject: &mut S,
    mix: Mix,
    seed: u64,
    limits: Limits,
) -> anyhow::Result<Explored> {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(seed.to_le_bytes()) {
        *to = from;
    }
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: u32::MAX,
        max_shrink_time: u32::try_from(limits.shrink.as_millis()).unwrap_or(u32::MAX),
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = mix.steps(limits.steps);
    let subject = RefCell::new(subject);
    let stuck = RefCell::new(None);
    let total = RefCell::new(0);
    let try_one = |steps: Vec<Step>| {
        let subject = &mut **subject.borrow_mut();
        // Once it cannot be brought back, nothing more is to be learnt.
        if stuck.borrow().is_some() {
            return Ok(());
        }
        if let Err(e) = subject.begin() {
            *stuck.borrow_mut() = Some(e);
            return Ok(());
        }
        *total.borrow_mut() += steps.len();
        walk(subject, mix, &steps).map_err(|(at, seen)| TestCaseError::fail(format!("{at} {seen}")))
    };
    let begin = Instant::now();
    let mut walks = 0;
    while walks < limits.walks && begin.elapsed() < limits.time {
        let tree = strategy
            .new_tree(&mut runner)
            .map_err(|why| anyhow::anyhow!("cannot draw steps: {why}"))?;
        let result = runner.run_one(tree, try_one);
        if let Err(TestError::Fail(reason, mut steps)) = result {
            let text = reason.message();
            let (at, seen) = text.split_once(' ').unwrap_or(("", text));
            steps.truncate(at.parse().map_or(usize::MAX, |at: usize| at + 1));
            return Ok(Explored::Deviates {
                walk: steps,
                seen: seen.to_owned(),
                after: walks,
            });
        }
        if let Some(e) = stuck.borrow_mut().take() {
            return Err(e.context("the device cannot be brought back to RUNNING"));
        }
        walks += 1;
    }
    let steps = total.into_inner();
    Ok(Explored::Agreed { walks, steps })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::walk::fake::{Bug, Fake},
        state::MigrationFlags,
    };

    fn limits(walks: u32) -> Limits {
        Limits {
            walks,
            steps: 30,
            time: Duration::from_secs(60),
            shrink: Duration::from_secs(60),
        }
    }

    fn mix(flags: u64) -> Mix {
        Mix {
            flags: MigrationFlags(flags),
            files: true,
            log: true,
            reset: true,
        }
    }

    #[test]
    fn a_good_device_agrees() {
        for flags in [1, 3, 5, 7] {
            let mut fake = Fake::new(MigrationFlags(flags), None);
            match explore(&mut fake, mix(flags), flags, limits(300)).unwrap() {
                Explored::Agreed { walks, .. } => assert_eq!(walks, 300),
                Explored::Deviates { walk, seen, .. } => panic!("{flags}: {walk:?}: {seen}"),
            }
        }
    }

    #[test]
    fn each_bug_is_found_and_shrunk_to_few_steps() {
        for (bug, most) in Bug::ALL {
            let mut fake = Fake::new(MigrationFlags(7), Some(bug));
            let found = explore(&mut fake, mix(7), 11, limits(2000)).unwrap();
            let Explored::Deviates { walk, seen, .. } = found else {
                panic!("{bug:?} was not found");
            };
            assert!(walk.len() <= most, "{bug:?}: {walk:?}: {seen}");
        }
    }

    #[test]
    fn the_seed_decides() {
        let run = |seed| {
            let mut fake = Fake::new(MigrationFlags(7), Some(Bug::ReviveFiles));
            match explore(&mut fake, mix(7), seed, limits(2000)).unwrap() {
                Explored::Deviates { walk, after, .. } => (walk, after),
                Explored::Agreed { .. } => panic!("not found"),
            }
        };
        assert_eq!(run(5), run(5));
    }

    #[test]
    fn a_device_that_cannot_be_brought_back_is_an_error() {
        let mut fake = Fake::new(MigrationFlags(7), None);
        fake.stuck = true;
        assert!(explore(&mut fake, mix(7), 1, limits(1)).is_err());
    }
}
