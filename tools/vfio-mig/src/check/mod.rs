// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `check`: does a device do what the VFIO migration and DMA logging uAPI says?
//!
//! | module | knows |
//! | --- | --- |
//! | [`verdict`] | how a case ends, and the words to demand something with |
//! | [`ctx`] | what a case gets: the device, its pair, a random number generator |
//! | [`dut`], [`ways`] | one device under test: single calls, and ways that cases go often |
//! | [`cases`] | the cases, a module per group |
//! | [`config`] | configuration spaces that a guest may not tell apart |
//! | [`stream`] | streams: where to cut them, how to damage them, loading them |
//! | [`walk`] | random walks against a model, and the shortest one that deviates |
//! | [`race`], [`jobs`] | calls at the same time |
//! | [`holder`] | a data file in another process |
//! | [`select`] | which cases to run, and which deviations are known |
//! | [`runner`] | runs them one by one, with a deadline, and puts the device right after each |
//! | [`report`], [`format`] | what came of it, for people, TAP, JUnit and JSON |
//!
//! # Writing a case
//!
//! A case is an identifier, a group, what it needs, one line that says what the uAPI demands and
//! where, and a closure from [`Ctx`] to [`verdict::Outcome`]:
//!
//! * `Ok(())`: the device does it right. [`Ctx::note`] adds what is allowed but worth a word.
//! * [`verdict::deviation!`], [`verdict::ensure!`], [`verdict::refused`], [`verdict::accepted`]:
//!   the device does it wrong. Only for what `include/uapi/linux/vfio.h` demands or the VFIO core
//!   does for every driver; what is merely better is a note.
//! * [`verdict::skip!`]: it cannot be seen on this device.
//! * `?` on any other error: the case could not be carried out, which says nothing of the device.
//!
//! It starts with the device RUNNING, freshly opened or as the case before left it, no session, no
//! log. It need not tidy up: the runner stops the log and brings the device back to RUNNING by
//! the state machine, by a reset or by opening it again, and says so when more than the first was
//! needed. A case may start threads on [`dut::Dut::device`], but must end them.

pub mod cases;
pub mod config;
#[cfg(test)]
mod contract_tests;
pub mod ctx;
pub mod dut;
pub mod format;
pub mod holder;
pub mod jobs;
pub mod race;
pub mod report;
pub mod runner;
pub mod select;
pub mod stream;
pub mod verdict;
pub mod walk;
pub mod ways;

use std::{fmt, sync::Arc};

use serde::Serialize;

pub use ctx::Ctx;
use verdict::Outcome;

bitflags::bitflags! {
    /// What a case needs of the device; without it the case is skipped.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Needs: u32 {
        /// Migration, which always has STOP_COPY.
        const MIGRATION = 1;
        /// The P2P states.
        const P2P = 1 << 1;
        /// The pre-copy states.
        const PRE_COPY = 1 << 2;
        /// DMA logging.
        const LOGGING = 1 << 3;
        /// `VFIO_DEVICE_RESET`.
        const RESET = 1 << 4;
        /// A second device of the same kind.
        const PAIR = 1 << 5;
    }
}

/// Groups of cases; the letters are those of the contract's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// F: VFIO_DEVICE_FEATURE.
    Feature,
    /// S: the state machine.
    States,
    /// D: the data file.
    Data,
    /// D11–D16: the precopy ioctl.
    Precopy,
    /// R: the stream into the device.
    Resume,
    /// L: DMA logging.
    Logging,
    /// S13–S18: reset, close and open.
    Reset,
    /// Data files in other hands: dup, other processes, after the device.
    File,
    /// Calls at the same time.
    Concurrency,
    /// Random walks against the model.
    Walk,
    /// What needs a second device.
    Pair,
}

impl Group {
    /// Its name, also for `--only` and `--exclude`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::States => "states",
            Self::Data => "data",
            Self::Precopy => "precopy",
            Self::Resume => "resume",
            Self::Logging => "logging",
            Self::Reset => "reset",
            Self::File => "file",
            Self::Concurrency => "concurrency",
            Self::Walk => "walk",
            Self::Pair => "pair",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a case does.
type Run = Arc<dyn Fn(&mut Ctx) -> Outcome + Send + Sync>;

/// One thing to check.
#[derive(Clone)]
pub struct Case {
    /// Contract item and a short name: `S2.stop-copy-to-pre-copy`. Without spaces, unique.
    pub id: String,
    /// Where it belongs.
    pub group: Group,
    /// What it needs of the device.
    pub needs: Needs,
    /// One line: what the uAPI says, and where (`uapi:1408` is a line of
    /// `include/uapi/linux/vfio.h` in Linux 7.3).
    pub rationale: &'static str,
    run: Run,
}

impl Case {
    /// A case.
    pub fn new<F>(
        group: Group,
        id: impl Into<String>,
        needs: Needs,
        rationale: &'static str,
        run: F,
    ) -> Self
    where
        F: Fn(&mut Ctx) -> Outcome + Send + Sync + 'static,
    {
        Self {
            id: id.into(),
            group,
            needs,
            rationale,
            run: Arc::new(run),
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    ///
    /// Everything but success, see [`verdict::Stop`].
    pub fn run(&self, ctx: &mut Ctx) -> Outcome {
        (self.run)(ctx)
    }
}
