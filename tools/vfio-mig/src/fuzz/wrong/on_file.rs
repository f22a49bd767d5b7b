// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls on a data file.

use std::fs::File;

use rand::{rngs::SmallRng, Rng};
use rustix::{fs::SeekFrom, io::Errno};
use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio as vb;

use super::wanted::Wanted;
use crate::{
    check::walk::subject::{answer, Answer},
    sys,
};

/// A call on a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFile {
    /// read() of 0 bytes.
    ReadNone,
    /// write() of 0 bytes.
    WriteNone,
    /// An ioctl of VFIO by its number, with an address without memory.
    Ioctl(u32),
    /// PRECOPY_INFO with this `argsz`.
    Precopy(u32),
    /// lseek().
    Seek,
    /// pread().
    ReadAt,
}

impl OnFile {
    pub(in crate::fuzz) fn draw(rng: &mut SmallRng) -> Self {
        match rng.random_range(0..7) {
            0 => Self::ReadNone,
            1 => Self::WriteNone,
            2 => Self::Ioctl(rng.random_range(0..32)),
            3 => Self::Ioctl(21),
            4 => Self::Precopy(rng.random_range(0..24)),
            5 => Self::Seek,
            _ => Self::ReadAt,
        }
    }

    /// What may come from a file of RESUMING or of saving, whose session may have ended.
    pub(in crate::fuzz) fn wanted(self, resuming: bool, alive: bool) -> Wanted {
        match (self, resuming) {
            (Self::ReadNone, true) | (Self::WriteNone, false) => Wanted::only(&[Errno::BADF]),
            (Self::ReadNone | Self::WriteNone, _) => Wanted {
                success: true,
                errnos: if alive { &[] } else { &[Errno::NODEV] },
            },
            (Self::Ioctl(21), false) => Wanted::only(&[Errno::FAULT, Errno::INVAL, Errno::NODEV]),
            (Self::Ioctl(_), _) | (Self::Precopy(_), true) => Wanted::only(&[Errno::NOTTY]),
            (Self::Precopy(_), false) => Wanted::only(&[Errno::INVAL, Errno::NODEV]),
            (Self::Seek | Self::ReadAt, _) => Wanted::only(&[Errno::SPIPE, Errno::BADF]),
        }
    }

    /// Makes the call.
    pub(in crate::fuzz) fn call(self, file: &File) -> Answer<()> {
        match self {
            Self::ReadNone => rustix::io::read(file, &mut [0u8; 0]).map(drop),
            Self::WriteNone => rustix::io::write(file, &[]).map(drop),
            Self::Ioctl(nr) => answer(sys::data_ioctl_nowhere(file, nr)),
            Self::Precopy(argsz) => {
                let mut info = vb::vfio_precopy_info {
                    argsz,
                    ..Default::default()
                };
                answer(sys::precopy_info_raw(file, &mut info))
            }
            Self::Seek => rustix::fs::seek(file, SeekFrom::Current(0)).map(drop),
            Self::ReadAt => rustix::io::pread(file, &mut [0u8; 16], 0).map(drop),
        }
    }
}
