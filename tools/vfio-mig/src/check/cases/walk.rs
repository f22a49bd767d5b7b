// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Random walks against a model of states, sessions and log.

use std::time::Duration;

use rand::Rng;

use crate::check::{
    verdict::{deviation, Outcome},
    walk::{
        explore::{explore, Explored, Limits},
        step::Mix,
        subject::Real,
    },
    Case, Ctx, Group, Needs,
};

/// Emulated machines take milliseconds for a call and a second for some.
const LIMITS: Limits = Limits {
    walks: 24,
    steps: 24,
    time: Duration::from_secs(20),
    shrink: Duration::from_secs(60),
};

const STATES: &str = "S5.walk-states";
const FILES: &str = "D19.walk-sessions";
const LOG: &str = "L19.walk-log";

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let walk = |id: &'static str, more, says, files, log| {
        Case::new(
            Group::Walk,
            id,
            Needs::MIGRATION | more,
            says,
            move |ctx: &mut Ctx| run(ctx, id, files, log),
        )
    };
    vec![
        walk(
            STATES,
            Needs::empty(),
            "any sequence of states: each SET does what the state machine says, GET agrees \
             (uapi:1049, 1213)",
            false,
            false,
        ),
        walk(
            FILES,
            Needs::empty(),
            "any sequence of states and uses of data files: those of ended sessions are dead, \
             the others give what their state allows (uapi:1112, 1299)",
            true,
            false,
        ),
        walk(
            LOG,
            Needs::LOGGING,
            "any sequence of states and uses of the log: neither changes the other (uapi:1388)",
            true,
            true,
        ),
    ]
}

fn run(ctx: &mut Ctx, id: &str, files: bool, log: bool) -> Outcome {
    let mix = Mix {
        flags: ctx.dut.flags(),
        files,
        log,
        reset: ctx.dut.has_reset(),
    };
    let seed = ctx.rng.random();
    let explored = explore(&mut Real::new(&mut ctx.dut), mix, seed, LIMITS)?;
    match explored {
        Explored::Agreed { walks, steps } => {
            ctx.note(format!("{walks} walks with {steps} steps"));
            Ok(())
        }
        Explored::Deviates { walk, seen, after } => {
            let steps: Vec<String> = walk.iter().map(ToString::to_string).collect();
            deviation!(
                "[{}] {seen} (walk {}; again with --only {id} --seed {})",
                steps.join(", "),
                after + 1,
                ctx.seed
            )
        }
    }
}
