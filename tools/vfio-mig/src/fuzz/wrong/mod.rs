// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls that are wrong on purpose, or change nothing: what the kernel has to answer, and how they
//! are made. Which errno comes is decided by the arguments, at most by whether the log is on.
//!
//! `tables` has the arguments, `on_file` the calls on data files, `wanted` what may come.

mod on_file;
mod tables;
mod wanted;

use std::os::fd::BorrowedFd;

use rand::{rngs::SmallRng, seq::IndexedRandom, Rng};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio as vb;

pub use self::on_file::OnFile;
pub(super) use self::tables::ODD_REPORTS;
use self::{
    tables::{at, K4, M1, ODD_STARTS, REPORTS, STARTS},
    wanted::{only, Wanted},
};
use super::has::Has;
use crate::{
    check::walk::subject::{answer, Answer},
    sys::{self, LogStart},
};

const GET: u32 = vb::VFIO_DEVICE_FEATURE_GET;
const SET: u32 = vb::VFIO_DEVICE_FEATURE_SET;
const PROBE: u32 = vb::VFIO_DEVICE_FEATURE_PROBE;

/// Features, and the ways that they have.
const FEATURES: [(u32, u32); 7] = [
    (vb::VFIO_DEVICE_FEATURE_MIGRATION, GET),
    (vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, GET | SET),
    (vb::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, GET),
    (vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, SET),
    (vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_START, SET),
    (vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, SET),
    (vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, GET),
];

/// A call on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wrong {
    /// PROBE of these ways of a feature.
    Probe(u32, u32),
    /// GET MIGRATION with an unknown flag.
    Flag(u32),
    /// GET of a feature with this `argsz`.
    Get(u32, u32),
    /// GET and SET of MIGRATION at once, or neither.
    Ways(bool),
    /// A struct at an address without memory.
    Nowhere,
    /// SET of the state RUNNING with this `argsz`.
    Set(u32),
    /// SET of PRECOPY_INFOv2.
    OptIn,
    /// One of [`STARTS`].
    Start(u8),
    /// One of [`ODD_STARTS`].
    OddStart(u8),
    /// START with this `argsz`.
    StartArgsz(u32),
    /// START with more ranges than a page holds.
    StartMany,
    /// START of a range at an address without memory.
    StartNowhere,
    /// START whose answer cannot be written.
    StartLost,
    /// One of [`REPORTS`].
    Report(u8),
}

impl Wrong {
    /// Is it for the log?
    pub(super) fn is_log(self) -> bool {
        matches!(
            self,
            Self::Start(_)
                | Self::OddStart(_)
                | Self::StartArgsz(_)
                | Self::StartMany
                | Self::StartNowhere
                | Self::StartLost
                | Self::Report(_)
        )
    }

    pub(super) fn draw(rng: &mut SmallRng) -> Self {
        let feature = FEATURES.choose(rng).map_or(0, |feature| feature.0);
        match rng.random_range(0..16) {
            0 | 1 => {
                let index = match rng.random_range(0..8) {
                    0 => rng.random_range(0x100..0x1_0000),
                    _ => feature,
                };
                let ways = [0, GET, SET, GET | SET].choose(rng).copied();
                Self::Probe(index, ways.unwrap_or_default())
            }
            2 => Self::Flag(1 << rng.random_range(19..32)),
            3 => {
                let index = FEATURES.get(..3).and_then(|three| three.choose(rng));
                Self::Get(
                    index.map_or(0, |feature| feature.0),
                    rng.random_range(0..24),
                )
            }
            4 => Self::Ways(rng.random()),
            5 => Self::Nowhere,
            6 => Self::Set(rng.random_range(0..16)),
            7 => Self::OptIn,
            8 | 9 => Self::Start(rng.random_range(0..STARTS.len() as u8)),
            10 => Self::OddStart(rng.random_range(0..ODD_STARTS.len() as u8)),
            11 => Self::StartArgsz(rng.random_range(0..32)),
            12 => Self::StartMany,
            13 => Self::StartNowhere,
            14 => Self::StartLost,
            _ => Self::Report(rng.random_range(0..REPORTS.len() as u8)),
        }
    }

    /// What may come.
    pub(super) fn wanted(self, has: &Has, log_is_on: bool) -> Wanted {
        match self {
            Self::Probe(index, ways) => probe(index, ways, has),
            // The payloads of the three have 8 bytes.
            Self::Get(_, 16..) => Wanted::SUCCESS,
            Self::Get(..) => Wanted::INVAL,
            Self::Flag(_) | Self::Ways(_) | Self::Set(_) | Self::StartArgsz(_) => Wanted::INVAL,
            Self::Nowhere | Self::StartNowhere => Wanted::only(&[Errno::FAULT]),
            Self::OptIn if has.flags.pre_copy() => Wanted::SUCCESS,
            Self::OptIn => Wanted::INVAL,
            Self::Start(number) => at(&STARTS, number).map_or(Wanted::INVAL, |s| only(s.2)),
            Self::OddStart(_) if log_is_on => Wanted::INVAL,
            Self::OddStart(_) => Wanted {
                success: true,
                errnos: &[Errno::INVAL, Errno::OPNOTSUPP, Errno::NOMEM, Errno::NOSPC],
            },
            Self::StartMany => Wanted::only(&[Errno::TOOBIG]),
            Self::StartLost if log_is_on => Wanted::INVAL,
            Self::StartLost => Wanted::only(&[Errno::FAULT]),
            Self::Report(number) => at(&REPORTS, number).map_or(Wanted::INVAL, |r| only(r.3)),
        }
    }

    /// Makes the call. A log that it starts is stopped again.
    pub(super) fn call(self, dev: BorrowedFd<'_>) -> Answer<()> {
        let feature = |flags, argsz| answer(sys::feature(dev, flags, argsz, [0; 8])).map(drop);
        let start = |argsz, page_size, ranges: Option<&[(u64, u64)]>| {
            let start = LogStart {
                argsz,
                page_size,
                ranges,
            };
            answer(sys::log_start_raw(dev, &start)).map(drop)
        };
        let mig = vb::VFIO_DEVICE_FEATURE_MIGRATION;
        match self {
            Self::Probe(index, ways) => feature(PROBE | ways | index, 8),
            Self::Flag(flag) => feature(GET | flag | mig, 16),
            Self::Get(index, argsz) => feature(GET | index, argsz),
            Self::Ways(both) => feature(if both { GET | SET | mig } else { mig }, 16),
            Self::Nowhere => answer(sys::feature_nowhere(dev)),
            Self::Set(argsz) => {
                let running = vb::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING;
                answer(sys::set_state_echo(dev, running, argsz).result)
            }
            Self::OptIn => feature(SET | vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 8),
            Self::Start(number) => match at(&STARTS, number) {
                Some((page_size, ranges, _)) => start(32, page_size, Some(ranges)),
                None => Err(Errno::INVAL),
            },
            Self::OddStart(number) => match at(&ODD_STARTS, number) {
                Some((page_size, ranges)) => {
                    start(32, page_size, Some(ranges))?;
                    feature(SET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, 8)
                }
                None => Err(Errno::INVAL),
            },
            Self::StartArgsz(argsz) => start(argsz, K4, Some(&[(M1, M1)])),
            Self::StartMany => {
                let most = rustix::param::page_size() as u64 / 16;
                let ranges: Vec<_> = (0..=most).map(|n| (M1 + n * M1, K4)).collect();
                start(32, K4, Some(&ranges))
            }
            Self::StartNowhere => start(32, K4, None),
            Self::StartLost => answer(sys::log_start_unwritable(dev, K4, (M1, M1))),
            Self::Report(number) => match at(&REPORTS, number) {
                Some((argsz, range, page_size, _)) => {
                    answer(sys::log_report_nowhere(dev, argsz, range, page_size))
                }
                None => Err(Errno::INVAL),
            },
        }
    }
}

fn probe(index: u32, ways: u32, has: &Has) -> Wanted {
    let Some(number) = FEATURES.iter().position(|feature| feature.0 == index) else {
        return Wanted::only(&[Errno::NOTTY]);
    };
    let had = FEATURES.get(number).map_or(0, |feature| feature.1);
    match number {
        3 if !has.flags.pre_copy() => Wanted::INVAL,
        4.. if !has.logging => Wanted::only(&[Errno::NOTTY]),
        _ if ways & !had == 0 => Wanted::SUCCESS,
        _ => Wanted::INVAL,
    }
}

/// REPORT of one of [`ODD_REPORTS`]: number of bits beyond the range.
pub(super) fn elsewhere(dev: BorrowedFd<'_>, number: u8) -> Answer<u32> {
    let Some(((iova, length), page_size)) = at(&ODD_REPORTS, number) else {
        return Ok(0);
    };
    let mut bitmap = crate::bitmap::DirtyBitmap::new(length.div_ceil(page_size));
    let words = bitmap.words_mut();
    answer(sys::log_report(dev, iova, length, page_size, words))?;
    Ok(bitmap.stray_bits())
}
