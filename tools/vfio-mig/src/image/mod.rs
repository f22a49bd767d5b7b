// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The file that `save` writes and `load` reads.
//!
//! All numbers little-endian:
//!
//! ```text
//! magic "VFIOMIG\1" | u32 header length | u32 CRC-32C of header | header (JSON)
//! u32 kind | u32 length | data        kind 1: read in pre-copy, 2: read in stop-copy
//! …
//! u32 3 | u32 16 | u64 data bytes | u32 CRC-32C of all blocks | u32 0
//! ```
//!
//! A block is what one read() gave, so the file also tells how the stream was cut. The
//! device's own bytes are not interpreted: they may hold secrets and are written 0600.

mod reader;
mod writer;

use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{
    reader::{verify, Reader},
    writer::Writer,
};

const MAGIC: [u8; 8] = *b"VFIOMIG\x01";
const MAX_HEADER: u32 = 64 << 10;
/// Longest block; larger reads are split.
pub const MAX_BLOCK: u32 = 16 << 20;
const END: u32 = 3;
const END_LENGTH: u32 = 16;

/// What is wrong with an image file.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Not written by `save`, or by an unknown version of it.
    #[error("this is not a vfio-mig image (or one of another version)")]
    Magic,
    /// A field makes no sense.
    #[error("the image is damaged: {0}")]
    Damaged(&'static str),
    /// The file ends too early: `save` was interrupted, or the copy is not complete.
    #[error("the image is truncated")]
    Truncated,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ImageError {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Io(e)
        }
    }
}

/// Where the image came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name of the source device in sysfs.
    pub device: String,
    /// Driver that it was bound to.
    pub driver: String,
    /// PCI vendor and device id, where it has them: `1af4:1041`.
    pub pci_id: Option<String>,
    /// `VFIO_MIGRATION_*` of the source.
    pub flags: u64,
    /// Release of the source's kernel.
    pub kernel: String,
}

/// When a block was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// While the device was running.
    PreCopy = 1,
    /// After it was stopped.
    StopCopy = 2,
}

/// What a complete image holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bytes read while running.
    pub pre_copy_bytes: u64,
    /// Bytes read when stopped.
    pub stop_copy_bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// CRC-32C of all blocks, their kinds and lengths included.
    pub crc: u32,
}

impl Summary {
    /// All data.
    pub fn total(&self) -> u64 {
        self.pre_copy_bytes + self.stop_copy_bytes
    }

    fn add(&mut self, phase: Phase, data: &[u8]) {
        match phase {
            Phase::PreCopy => self.pre_copy_bytes += data.len() as u64,
            Phase::StopCopy => self.stop_copy_bytes += data.len() as u64,
        }
        self.blocks += 1;
        for part in [
            &(phase as u32).to_le_bytes()[..],
            &(data.len() as u32).to_le_bytes(),
            data,
        ] {
            self.crc = crc32c::crc32c_append(self.crc, part);
        }
    }
}

#[cfg(test)]
mod tests;
