// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The calls of a Cloud Hypervisor v54, in its order: no pre-copy and no P2P, the log asked again
//! after the image was taken and stopped only when the destination runs; interrupts and COMMAND
//! before RUNNING. The source is set to RUNNING once more before its file is closed: `Vm::shutdown()`
//! (vmm/src/vm.rs) wakes all devices up for their threads to end.

use std::io::{Read, Write};

use anyhow::{ensure, Context, Result};

use crate::{
    device::{Device, DirtyLog},
    session::{Migratable, Walk},
    state::State,
};

use super::memory::PAGE;

/// Whose order of calls to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Pre-copy and P2P where the device has them.
    Qemu,
    /// RUNNING → STOP → STOP_COPY → STOP → RUNNING; RESUMING → RUNNING.
    CloudHypervisor,
}

/// An image larger than this would end that VMM, which allocates what `MIG_DATA_SIZE` says.
const SANE: u64 = 1 << 30;

/// The granule to ask with: the one that START wrote back.
///
/// # Errors
///
/// It is not that of the comparison.
pub(super) fn granule(log: &DirtyLog<'_>) -> Result<u64> {
    let granule = log.granule();
    ensure!(
        granule == PAGE,
        "the log works with granules of {granule} bytes, the comparison with {PAGE}"
    );
    Ok(granule)
}

/// STOP → STOP_COPY → STOP: the whole image at once.
///
/// # Errors
///
/// A call fails, ENOMSG included.
pub(super) fn snapshot(source: &mut Walk<'_, Device>, device: &Device) -> Result<Vec<u8>> {
    source.to(State::StopCopy).context("source")?;
    let size = device.data_size().context("MIG_DATA_SIZE")?;
    ensure!(size > 0 && size <= SANE, "MIG_DATA_SIZE says {size}");
    let mut image = Vec::with_capacity(usize::try_from(size)?);
    source
        .data()?
        .read_to_end(&mut image)
        .context("reading the image")?;
    source.to(State::Stop).context("source")?;
    Ok(image)
}

/// RUNNING → RESUMING, and the whole image by one write if the device takes it.
///
/// # Errors
///
/// The target refuses it.
pub(super) fn restore(target: &mut Walk<'_, Device>, image: &[u8]) -> Result<()> {
    target.to(State::Resuming).context("target")?;
    target
        .data()?
        .write_all(image)
        .context("the target refuses the state")
}

/// STOP → RUNNING of the source, whose guest runs elsewhere by now: all it has left is its close.
///
/// # Errors
///
/// It does not run.
pub(super) fn shutdown(source: &mut Walk<'_, Device>, device: &Device) -> Result<()> {
    source.to(State::Running).context("source, given up")?;
    let state = device.state().context("source, given up")?;
    ensure!(
        state == State::Running,
        "the source is in {state} after it was set to RUNNING to be given up"
    );
    Ok(())
}
