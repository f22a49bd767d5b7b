// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Walking a device through its states, back to RUNNING whatever happens.

use std::io::{self, Read, Write};

use anyhow::{bail, Context, Result};

use crate::{
    advice::{data_refused, refused},
    image::Phase,
    state::{MigrationFlags, State},
};

/// Answer of the precopy ioctl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrecopyInfo {
    /// Bytes of the initial image to come.
    pub initial_bytes: u64,
    /// Bytes of later changes to come.
    pub dirty_bytes: u64,
    /// The initial image starts anew (PRECOPY_INFOv2 only).
    pub reinit: bool,
}

/// The data file of a migration session.
pub trait DataFile: Read + Write {
    /// `VFIO_MIG_GET_PRECOPY_INFO`.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    fn precopy_info(&self) -> io::Result<PrecopyInfo>;
}

/// A device that can be migrated.
pub trait Migratable {
    /// Its data files.
    type Data: DataFile;

    /// `VFIO_MIGRATION_*`.
    fn flags(&self) -> MigrationFlags;

    /// The state it is in.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    fn state(&self) -> io::Result<State>;

    /// Requests a state; a new session comes with its file.
    ///
    /// # Errors
    ///
    /// The kernel's errno; the device may have stopped on the way.
    fn set_state(&self, state: State) -> io::Result<Option<Self::Data>>;

    /// Estimate of what a session started now would read, in bytes.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    fn data_size(&self) -> io::Result<u64>;

    /// Resets it: RUNNING, sessions dead.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    fn reset(&self) -> io::Result<()>;
}

/// A device on its way through the states. When this is dropped, or [`Walk::back`] is
/// called, the device is RUNNING again, if need be by a reset.
pub struct Walk<'a, D: Migratable> {
    device: &'a D,
    data: Option<D::Data>,
    away: bool,
}

/// How the device came back to RUNNING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// By the state machine.
    Orderly,
    /// Only by a reset: what it was doing is lost.
    Reset,
}

impl<'a, D: Migratable> Walk<'a, D> {
    /// Starts, with a device that is RUNNING.
    ///
    /// # Errors
    ///
    /// It cannot be migrated, or is in another state.
    pub fn new(device: &'a D) -> Result<Self> {
        if !device.flags().stop_copy() {
            bail!("the device has no STOP_COPY: it cannot be migrated");
        }
        let state = device
            .state()
            .map_err(|e| refused("cannot ask for the migration state", &e))?;
        if state != State::Running {
            bail!("the device is in state {state}, not RUNNING: is something else using it?");
        }
        Ok(Self {
            device,
            data: None,
            away: false,
        })
    }

    /// Goes to `state`. Sessions that go on keep their file.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or does something other than the uAPI says.
    pub fn to(&mut self, state: State) -> Result<()> {
        self.away = true;
        let data = self.device.set_state(state).map_err(|error| {
            let reached = match self.device.state() {
                Ok(reached) => format!("it is now in {reached}"),
                Err(e) => format!("and its state cannot be asked for: {e}"),
            };
            let what = format!("the device refuses state {state} ({reached})");
            refused(&what, &error)
        })?;
        if self.data.is_some() && data.is_some() {
            bail!("the device opened a second data file on the way to {state}");
        }
        if !state.has_session() {
            self.data = None;
        }
        self.data = data.or(self.data.take());
        if state.has_session() && self.data.is_none() {
            bail!("the device gave no data file for {state}");
        }
        self.away = state != State::Running;
        Ok(())
    }

    /// The open data file.
    ///
    /// # Errors
    ///
    /// There is none in this state.
    pub fn data(&mut self) -> Result<&mut D::Data> {
        self.data.as_mut().context("no data file in this state")
    }

    /// Back to RUNNING by a reset, giving up what the device was.
    ///
    /// # Errors
    ///
    /// It cannot be reset.
    pub fn reset(&mut self) -> Result<()> {
        self.device.reset()?;
        self.data = None;
        self.away = false;
        Ok(())
    }

    /// Back to RUNNING.
    ///
    /// # Errors
    ///
    /// Neither the state machine nor a reset leads there.
    pub fn back(&mut self) -> Result<Back> {
        if !self.away {
            return Ok(Back::Orderly);
        }
        let way = match self.device.set_state(State::Running) {
            Ok(_) => Back::Orderly,
            Err(e) => {
                log::warn!("cannot go back to RUNNING ({e}): resetting the device");
                self.device
                    .reset()
                    .context("the device cannot be reset either")?;
                Back::Reset
            }
        };
        // QEMU's order: the state first, then the file.
        self.data = None;
        let state = self
            .device
            .state()
            .context("cannot ask for the migration state")?;
        if state != State::Running {
            bail!("the device says it is in {state} after it went back to RUNNING");
        }
        self.away = false;
        Ok(way)
    }
}

impl<D: Migratable> Drop for Walk<'_, D> {
    fn drop(&mut self) {
        if let Err(e) = self.back() {
            log::error!("the device is not left RUNNING: {e:#}");
        }
    }
}

/// What happened while a device was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveStats {
    /// Bytes read while it was running.
    pub pre_copy_bytes: u64,
    /// Bytes read when it was stopped.
    pub stop_copy_bytes: u64,
    /// Times that the pre-copy stream was drained.
    pub rounds: u32,
    /// Times that the device started its initial image anew.
    pub reinits: u32,
}

/// What one attempt to read gave.
enum Got {
    Bytes(usize),
    Empty,
    End,
}

fn read_some<F: DataFile>(file: &mut F, buf: &mut [u8]) -> io::Result<Got> {
    loop {
        return match file.read(buf) {
            Ok(0) => Ok(Got::End),
            Ok(n) => Ok(Got::Bytes(n)),
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOMSG.raw_os_error()) => {
                Ok(Got::Empty)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
    }
}

/// [`read_some`] of a device that is in `phase`.
fn next<F: DataFile>(file: &mut F, buf: &mut [u8], phase: &str) -> Result<Got> {
    let what = || format!("reading device state in {phase}");
    read_some(file, buf).map_err(|e| data_refused(&what(), &e))
}

/// One pre-copy round: reads until the device has nothing more for now.
///
/// # Errors
///
/// Reading failed, or `sink` did.
pub fn pre_copy_round<D: Migratable>(
    walk: &mut Walk<'_, D>,
    stats: &mut SaveStats,
    buf: &mut [u8],
    sink: &mut dyn FnMut(Phase, &[u8]) -> Result<()>,
) -> Result<()> {
    let file = walk.data()?;
    match file.precopy_info() {
        Ok(info) => {
            log::debug!("pre-copy: {info:?}");
            stats.reinits += u32::from(info.reinit);
        }
        // Only an estimate is lost; QEMU goes on as well.
        Err(e) => log::warn!("the device does not say how much is to come: {e}"),
    }
    while let Got::Bytes(n) = next(file, buf, "pre-copy")? {
        stats.pre_copy_bytes += n as u64;
        sink(Phase::PreCopy, &buf[..n])?;
    }
    stats.rounds += 1;
    Ok(())
}

/// Reads the rest of a stopped device's state, to the end of the stream.
///
/// # Errors
///
/// Reading failed, `sink` did, or the device says "no data for now" where only the end may be.
pub fn stop_copy_all<D: Migratable>(
    walk: &mut Walk<'_, D>,
    stats: &mut SaveStats,
    buf: &mut [u8],
    sink: &mut dyn FnMut(Phase, &[u8]) -> Result<()>,
) -> Result<()> {
    let file = walk.data()?;
    loop {
        match next(file, buf, "STOP_COPY")? {
            Got::Bytes(n) => {
                stats.stop_copy_bytes += n as u64;
                sink(Phase::StopCopy, &buf[..n])?;
            }
            Got::End => return Ok(()),
            Got::Empty => bail!(
                "the device answered ENOMSG in STOP_COPY: the uAPI allows it in pre-copy only, and \
                 taking it for the end would truncate the image"
            ),
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
