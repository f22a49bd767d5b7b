// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a case gets to work with.

use rand::{rngs::SmallRng, SeedableRng};

use super::{
    dut::Dut,
    verdict::{skip, Outcome},
    Needs,
};

/// What a case gets to work with.
pub struct Ctx {
    /// The device.
    pub dut: Dut,
    /// A second device of the same kind, with `--pair`; see [`Ctx::pair`].
    pub pair: Option<Dut>,
    /// Decided by the seed and the case's identifier only.
    pub rng: SmallRng,
    /// Seed of `rng`; `--seed` and the identifier repeat the case.
    pub seed: u64,
    notes: Vec<String>,
}

impl Ctx {
    /// With the devices open and RUNNING.
    pub fn new(dut: Dut, pair: Option<Dut>) -> Self {
        Self {
            dut,
            pair,
            rng: SmallRng::seed_from_u64(0),
            seed: 0,
            notes: Vec::new(),
        }
    }

    /// Before a case: its own random numbers, whatever ran before it.
    pub fn prepare(&mut self, seed: u64, id: &str) {
        self.seed = seed;
        let own = seed ^ u64::from(crc32c::crc32c(id.as_bytes()));
        self.rng = SmallRng::seed_from_u64(own);
        self.notes.clear();
    }

    /// The second device.
    ///
    /// # Errors
    ///
    /// There is none: the case forgot [`Needs::PAIR`].
    pub fn pair(&mut self) -> Outcome<&mut Dut> {
        match &mut self.pair {
            Some(pair) => Ok(pair),
            None => skip!("no second device (--pair)"),
        }
    }

    /// Adds something worth knowing that is no deviation.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// What was noted.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Why a case cannot run here.
    pub fn lacks(&self, needs: Needs) -> Option<String> {
        let (dut, flags) = (&self.dut, self.dut.flags());
        if needs.contains(Needs::MIGRATION) && !flags.stop_copy() {
            return Some(match dut.migration() {
                Ok(flags) => format!("the device has no STOP_COPY (flags {:#x})", flags.0),
                Err(e) => format!(
                    "no migration (feature MIGRATION: {})",
                    super::verdict::name(&e)
                ),
            });
        }
        let lacks = [
            (Needs::P2P, flags.p2p(), "the device has no P2P states"),
            (
                Needs::PRE_COPY,
                flags.pre_copy(),
                "the device has no pre-copy states",
            ),
            (
                Needs::LOGGING,
                dut.has_logging(),
                "the device has no DMA logging",
            ),
            (Needs::RESET, dut.has_reset(), "the device has no reset"),
            (
                Needs::PAIR,
                self.pair.is_some(),
                "no second device (--pair)",
            ),
        ];
        lacks
            .into_iter()
            .find(|(need, had, _)| needs.contains(*need) && !had)
            .map(|(_, _, why)| why.to_owned())
    }
}
