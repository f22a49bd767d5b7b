// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The steps of a walk and how to draw them.

use std::fmt;

use proptest::{prelude::*, sample::select, strategy::Union};
use serde::{Deserialize, Serialize};

use crate::state::{MigrationFlags, State};

/// Ranges that a log may be started with: IOVA and bytes.
pub const RANGES: [(u64, u64); 3] = [(1 << 30, 1 << 20), (4 << 30, 256 << 20), (1 << 40, 1 << 30)];

/// One call. A file is chosen among those open, by its number modulo theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// SET of a state, by its number: also those that the uAPI does not have.
    Set(u32),
    /// read() of at most so many bytes.
    Read(u8, u16),
    /// write() of so many bytes of no meaning.
    Write(u8, u16),
    /// PRECOPY_INFO.
    Precopy(u8),
    /// Closes a file.
    Close(u8),
    /// MIG_DATA_SIZE.
    Size,
    /// VFIO_DEVICE_RESET.
    Reset,
    /// LOGGING_START of one of [`RANGES`].
    Start(u8),
    /// LOGGING_REPORT of one of [`RANGES`].
    Report(u8),
    /// LOGGING_STOP.
    Stop,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(number) => match State::try_from(*number) {
                Ok(state) => write!(f, "SET {state}"),
                Err(number) => write!(f, "SET {number}"),
            },
            Self::Read(file, bytes) => write!(f, "read(file {file}, {bytes})"),
            Self::Write(file, bytes) => write!(f, "write(file {file}, {bytes})"),
            Self::Precopy(file) => write!(f, "PRECOPY_INFO(file {file})"),
            Self::Close(file) => write!(f, "close(file {file})"),
            Self::Size => f.write_str("MIG_DATA_SIZE"),
            Self::Reset => f.write_str("RESET"),
            Self::Start(range) => write!(f, "START {}", shown(*range)),
            Self::Report(range) => write!(f, "REPORT {}", shown(*range)),
            Self::Stop => f.write_str("LOGGING_STOP"),
        }
    }
}

/// One of [`RANGES`].
pub fn range(number: u8) -> (u64, u64) {
    RANGES[usize::from(number) % RANGES.len()]
}

fn shown(number: u8) -> String {
    let (iova, length) = range(number);
    format!("{iova:#x}+{length:#x}")
}

/// What a walk is made of.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// The device's flags: states that it lacks are asked for more rarely.
    pub flags: MigrationFlags,
    /// Reads, writes and the precopy ioctl.
    pub files: bool,
    /// The log.
    pub log: bool,
    /// Resets.
    pub reset: bool,
}

impl Mix {
    /// Draws steps.
    pub fn steps(self, most: usize) -> impl Strategy<Value = Vec<Step>> {
        proptest::collection::vec(self.step(), 1..=most)
    }

    fn step(self) -> Union<BoxedStrategy<Step>> {
        let has = |state: &State| *state != State::Error && self.flags.has(*state);
        let states: Vec<u32> = State::ALL
            .into_iter()
            .filter(has)
            .map(|state| state as u32)
            .collect();
        let mut weighted: Vec<(u32, BoxedStrategy<Step>)> = vec![
            (10, select(states).prop_map(Step::Set).boxed()),
            (1, (0..10u32).prop_map(Step::Set).boxed()),
            (1, Just(Step::Size).boxed()),
        ];
        if self.files {
            let bytes = || prop_oneof![Just(1u16), 2..4096u16, Just(u16::MAX)];
            let file = || 0..4u8;
            weighted.extend([
                (
                    6,
                    (file(), bytes())
                        .prop_map(|(f, n)| Step::Read(f, n))
                        .boxed(),
                ),
                (
                    2,
                    (file(), bytes())
                        .prop_map(|(f, n)| Step::Write(f, n))
                        .boxed(),
                ),
                (2, file().prop_map(Step::Precopy).boxed()),
                (1, file().prop_map(Step::Close).boxed()),
            ]);
        }
        if self.log {
            let number = || 0..RANGES.len() as u8;
            weighted.extend([
                (3, number().prop_map(Step::Start).boxed()),
                (3, number().prop_map(Step::Report).boxed()),
                (2, Just(Step::Stop).boxed()),
            ]);
        }
        if self.reset {
            weighted.push((1, Just(Step::Reset).boxed()));
        }
        Union::new_weighted(weighted)
    }
}
