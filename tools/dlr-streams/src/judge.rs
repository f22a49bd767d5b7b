// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One stream after the other, through driver and NIC.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{ensure, Context, Result};
use dlr_core::DataFunction;

use crate::{
    contract, driver,
    driver::ACCEPTS,
    hostile::{Drawn, Hostile},
    nic::Nic,
    random::Random,
    stub::{EINVAL, ENOMEM, EOPNOTSUPP},
    vf::stream::Accepts,
};

/// Where all streams begin.
const SEED: u64 = 17;

/// How often each outcome has come.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// Draws streams and judges what driver and NIC make of them.
pub(crate) struct Judge<'a> {
    hostile: &'a Hostile,
    nic: Nic<'a>,
    pub(crate) counts: Counts,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(hostile: &'a Hostile, nic: Nic<'a>) -> Self {
        Self {
            hostile,
            nic,
            counts: Counts::new(),
        }
    }

    /// Judges stream `number`, which does not depend on the streams before.
    ///
    /// # Errors
    ///
    /// Driver or NIC are wrong about it. The error has the stream.
    pub(crate) fn stream(&mut self, number: u64) -> Result<()> {
        let mut random = Random::new(SEED, number);
        let drawn = self.hostile.draw(&mut random);
        self.judge(&drawn, &mut random).with_context(|| {
            let mut hex = String::new();
            for byte in &drawn.bytes {
                let _ = write!(hex, "{byte:02x}");
            }
            let max = drawn.max_bytes;
            format!("stream {number} of seed {SEED}, at most {max} bytes:\n{hex}\n")
        })
    }

    fn judge(&mut self, drawn: &Drawn, random: &mut Random) -> Result<()> {
        let stream = &drawn.bytes[..];
        let accepts = Accepts {
            max_bytes: drawn.max_bytes,
            ..ACCEPTS
        };
        let piece = piece(stream.len(), random);
        let most = 1 + random.below(stream.len().max(400) / 5);
        let contract = contract::expected(stream, &accepts);
        let parsed = driver::parsed(stream, piece, most, &accepts)?;
        ensure!(
            parsed == contract,
            "the driver: {parsed:?}, the contract: {contract:?}"
        );
        let whole = driver::is_whole(stream, piece, drawn.max_bytes);
        ensure!(
            whole == contract::is_framed(stream, drawn.max_bytes),
            "for the framing this is whole: {whole}"
        );
        // What the target takes, the source has not held back.
        let complete = contract.1;
        ensure!(whole || complete != Ok(true), "taken and held back");
        ensure!(
            !drawn.whole || matches!(complete, Ok(true) | Err(ENOMEM)),
            "a good stream: {complete:?}"
        );
        // The NIC takes longer streams than some of the targets here.
        let accepted = match complete {
            Err(ENOMEM) => driver::parsed(stream, piece, most, &ACCEPTS)?.1,
            complete => complete,
        };
        let taken = self.nic.judge(stream, piece, accepted == Ok(true))?;
        ensure!(
            taken || !(drawn.whole && drawn.saved),
            "the NIC refuses what it has saved"
        );
        self.count(match complete {
            Ok(true) => "complete",
            Ok(false) => "incomplete",
            Err(EINVAL) => "EINVAL",
            Err(EOPNOTSUPP) => "EOPNOTSUPP",
            Err(ENOMEM) => "ENOMEM",
            Err(_) => "another error",
        });
        if whole {
            self.count("framed");
        }
        self.count(match (accepted, taken, drawn.whole) {
            (_, true, true) => "the NIC takes what is good",
            (_, true, false) => "the NIC takes what is damaged",
            (Ok(true), ..) => "the NIC refuses what the driver takes",
            _ => "the NIC refuses what the driver refuses",
        });
        Ok(())
    }

    fn count(&mut self, outcome: &'static str) {
        *self.counts.entry(outcome).or_default() += 1;
    }
}

/// The first of `count` streams about which driver or NIC are wrong, and what is wrong.
#[allow(dead_code)]
pub(crate) fn first_error(
    hostile: &Hostile,
    function: &dyn DataFunction,
    other: &dyn DataFunction,
    count: u64,
) -> Option<(u64, String)> {
    let mut judge = Judge::new(hostile, Nic::new(function, other));
    let errors = |number| Some((number, judge.stream(number).err()?.root_cause().to_string()));
    (0..count).find_map(errors)
}

/// Length of the pieces in which a stream comes. A long one comes in longer pieces, which take less
/// time.
fn piece(len: usize, random: &mut Random) -> usize {
    match random.below(8) {
        0 if len < 800 => 1 + random.below(3),
        0..=3 => 1 + random.below((len / 4).max(100)),
        _ => usize::MAX,
    }
}
