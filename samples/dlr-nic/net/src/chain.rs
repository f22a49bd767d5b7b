// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Descriptor chains, checked.
//!
//! `virtio-queue` ends its iteration silently at whatever it cannot follow. A chain that
//! ends so is not a shorter chain but a broken driver, so the end is looked at here.

use std::ops::Deref;

use dlr_pci::FunctionMemory;
use virtio_queue::{desc::split::Descriptor, DescriptorChain};
use vm_memory::{Bytes, GuestAddress};

/// The driver did what it must not do; the function needs a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// A ring or a buffer is not mapped for the access.
    #[error("DMA fault")]
    Fault,
    /// The available index is further ahead than the ring is long.
    #[error("available index out of range")]
    Index,
    /// A loop, an index out of range, a nested or odd indirect table, or more descriptors than the
    /// queue has.
    #[error("malformed descriptor chain")]
    Chain,
    /// A device-writable buffer where the driver has to send, or the other way round.
    #[error("descriptor of the wrong direction")]
    Direction,
    /// Queue registers that make no ring.
    #[error("unusable queue registers")]
    Setup,
}

/// Bytes that are moved under one hold of the gate, beyond the last frame or command. SUSPEND, SYNC
/// and a read of POSTED wait for the gate.
pub(crate) const BUDGET: usize = 256 << 10;

/// One contiguous piece of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) addr: u64,
    pub(crate) len: u32,
}

/// The pieces of one buffer: first those to read, then those to write.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) readable: Vec<Segment>,
    pub(crate) writable: Vec<Segment>,
    /// Descriptors of the chain, those without a length included.
    pub(crate) pieces: usize,
}

/// Bytes in `segments`.
pub(crate) fn length(segments: &[Segment]) -> u64 {
    segments.iter().map(|s| u64::from(s.len)).sum()
}

impl Buffer {
    /// Takes a chain of at most `limit` descriptors apart: the queue's size, which no driver may
    /// exceed (virtio 1.3, 2.7.5.3.1), though an indirect table could have 65 535.
    pub(crate) fn parse<M>(chain: DescriptorChain<M>, limit: u16) -> Result<Self, Broken>
    where
        M: Deref<Target = FunctionMemory>,
    {
        let mut buffer = Self::default();
        let mut last: Option<Descriptor> = None;
        for (count, desc) in chain.enumerate() {
            if count >= usize::from(limit) {
                return Err(Broken::Chain);
            }
            buffer.pieces = count + 1;
            let side = if desc.is_write_only() {
                &mut buffer.writable
            } else if buffer.writable.is_empty() {
                &mut buffer.readable
            } else {
                return Err(Broken::Direction);
            };
            if desc.len() != 0 {
                side.push(Segment {
                    addr: desc.addr().0,
                    len: desc.len(),
                });
            }
            last = Some(desc);
        }
        match last {
            Some(desc) if !desc.has_next() => Ok(buffer),
            _ => Err(Broken::Chain),
        }
    }

    /// Appends the first `limit` readable bytes to `to`.
    pub(crate) fn read(
        &self,
        memory: &FunctionMemory,
        limit: usize,
        to: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let mut left = limit;
        for segment in &self.readable {
            let take = left.min(segment.len as usize);
            if take == 0 {
                break;
            }
            let start = to.len();
            to.resize(start + take, 0);
            memory
                .read_slice(&mut to[start..], GuestAddress(segment.addr))
                .map_err(|_| Broken::Fault)?;
            left -= take;
        }
        Ok(())
    }
}

/// Writes `data` to the start of `segments`, which are long enough or get what fits.
/// Returns the number of bytes written.
pub(crate) fn scatter(
    memory: &FunctionMemory,
    segments: &[Segment],
    data: &[u8],
) -> Result<usize, Broken> {
    let mut done = 0;
    for segment in segments {
        let take = (data.len() - done).min(segment.len as usize);
        if take == 0 {
            break;
        }
        memory
            .write_slice(&data[done..done + take], GuestAddress(segment.addr))
            .map_err(|_| Broken::Fault)?;
        done += take;
    }
    Ok(done)
}
