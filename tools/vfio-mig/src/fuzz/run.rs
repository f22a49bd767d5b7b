// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Sequences of calls: what is made when, until model and device disagree, and then the shortest
//! sequence that still shows it.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use rand::{rngs::SmallRng, RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use super::{
    call::Call,
    model::{About, Model},
    target::Target,
};

/// Steps of one episode. Each begins with a device that is RUNNING, without files and log, so that
/// an episode can be repeated without those before it.
pub const EPISODE: u64 = 64;

/// How long a shorter sequence is looked for.
const SHRINK: Duration = Duration::from_secs(60);

/// What an episode is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Calls of one thread, each compared with a model.
    Calls,
    /// Damaged streams.
    Streams,
    /// Calls of several threads and of another process.
    Crowd,
    /// Two threads that write to one data file.
    Writers,
}

/// Random numbers of an episode.
pub fn rng(seed: u64, episode: u64) -> SmallRng {
    let mixed =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ episode.wrapping_mul(0xd134_2543_de82_ef95);
    SmallRng::seed_from_u64(mixed)
}

/// Kind of an episode, of those that are wanted. Of twenty, fourteen are calls.
pub fn kind(rng: &mut SmallRng, wanted: &[Kind]) -> Kind {
    let weight = |kind: &Kind| match kind {
        Kind::Calls => 28,
        Kind::Streams | Kind::Crowd => 5,
        Kind::Writers => 2,
    };
    // One draw for each choice of kinds, so that a seed gives the same steps after it.
    let mut left = rng.next_u64() % wanted.iter().map(weight).sum::<u64>().max(1);
    for kind in wanted {
        match left.checked_sub(weight(kind)) {
            Some(less) => left = less,
            None => return *kind,
        }
    }
    Kind::Calls
}

/// Where model and device disagree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Number of the step, from the start of the sequence that the seed gives.
    pub step: u64,
    /// What it was.
    pub call: String,
    /// What the device did, and what it should have done.
    pub seen: String,
    /// Calls that show it again, if they do; the last one is the one that is answered wrongly.
    pub shortest: Vec<Call>,
}

/// Makes calls from a fresh start: number of the one that went wrong, and what was seen.
///
/// # Errors
///
/// The device cannot be brought to where sequences begin.
pub fn try_calls(
    target: &mut impl Target,
    about: About<'_>,
    calls: &[Call],
) -> anyhow::Result<Option<(usize, String)>> {
    target.begin()?;
    let mut model = Model::new(about);
    for (at, call) in calls.iter().enumerate() {
        log::trace!("{call:?}");
        if let Err(seen) = model.call(target, *call) {
            return Ok(Some((at, seen)));
        }
    }
    Ok(None)
}

/// Makes calls and compares; a difference comes with the shortest sequence that was found for it.
///
/// # Errors
///
/// As [`try_calls`].
pub fn compare(
    target: &mut impl Target,
    about: About<'_>,
    first: u64,
    calls: &[Call],
) -> anyhow::Result<Option<Difference>> {
    let Some((at, seen)) = try_calls(target, about, calls)? else {
        return Ok(None);
    };
    let mut shortest: Vec<Call> = calls.iter().take(at + 1).copied().collect();
    let call = shortest
        .last()
        .map(|call| format!("{call:?}"))
        .unwrap_or_default();
    if try_calls(target, about, &shortest)?.is_some() {
        shorten(target, about, &mut shortest)?;
    } else {
        log::warn!("the same calls agree when they are made again");
        shortest.clear();
    }
    Ok(Some(Difference {
        step: first + at as u64,
        call,
        seen,
        shortest,
    }))
}

/// Leaves calls out, many and then single ones, as long as something goes wrong.
fn shorten(
    target: &mut impl Target,
    about: About<'_>,
    calls: &mut Vec<Call>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut piece = calls.len() / 2;
    while piece > 0 {
        let mut at = 0;
        let before = calls.len();
        while at + piece < calls.len() && begin.elapsed() < SHRINK {
            let mut fewer = calls.clone();
            fewer.drain(at..at + piece);
            match try_calls(target, about, &fewer)? {
                Some((end, _)) => {
                    fewer.truncate(end + 1);
                    *calls = fewer;
                }
                None => at += piece,
            }
        }
        if calls.len() == before || piece > 1 {
            piece /= 2;
        }
        if begin.elapsed() >= SHRINK {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{
        fake::{Bug, Fake},
        same::Mask,
    };

    /// Makes one episode.
    fn episode(fake: &mut Fake, seed: u64, episode: u64) -> Option<Difference> {
        let (has, image, mask) = (fake.has(), fake.state.clone(), Mask::default());
        let about = About {
            has,
            image: &image,
            mask: &mask,
        };
        let calls = has.sequence(&mut rng(seed, episode), EPISODE as usize);
        compare(fake, about, episode * EPISODE, &calls).unwrap()
    }

    /// The first difference in so many episodes.
    fn fuzz(fake: &mut Fake, seed: u64, episodes: u64) -> Option<Difference> {
        (0..episodes).find_map(|number| episode(fake, seed, number))
    }

    #[test]
    fn a_good_device_agrees() {
        for flags in [1, 3, 5, 7] {
            let found = fuzz(&mut Fake::new(flags, None), flags, 400);
            assert_eq!(found, None, "{flags}");
        }
    }

    #[test]
    fn each_bug_is_found_and_shown_by_few_calls() {
        for bug in Bug::ALL {
            let mut fake = Fake::new(7, Some(bug));
            let found = fuzz(&mut fake, 11, 2000);
            let found = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
            assert!(
                (1..=6).contains(&found.shortest.len()),
                "{bug:?}: {found:?}"
            );
        }
    }

    #[test]
    fn a_step_is_found_again_without_those_before() {
        let fake = || Fake::new(7, Some(Bug::Truncated));
        let found = fuzz(&mut fake(), 5, 2000).unwrap();
        let again = episode(&mut fake(), 5, found.step / EPISODE);
        assert_eq!(again, Some(found));
    }

    #[test]
    fn every_kind_comes() {
        let wanted = [Kind::Calls, Kind::Streams, Kind::Crowd, Kind::Writers];
        let mut seen: Vec<Kind> = (0..200).map(|n| kind(&mut rng(1, n), &wanted)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, wanted);
        assert_eq!(kind(&mut rng(1, 1), &[Kind::Crowd]), Kind::Crowd);
    }
}
