// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One device under test, call by call. The ways that cases go often are in [`super::ways`].

use std::{fs::File, io, os::fd::BorrowedFd, sync::Arc};

use anyhow::Context;
#[cfg(test)]
use rustix::io::Errno;
use vfio_bindings::bindings::vfio as vb;

use crate::{
    device::{Backend, Device},
    discover::Sysfs,
    node::Node,
    session::Migratable,
    state::{MigrationFlags, State},
    sys,
};

/// One device under test.
pub struct Dut {
    name: String,
    backend: Backend,
    device: Option<Arc<Device>>,
    opened_in: Option<State>,
    migration: Result<MigrationFlags, i32>,
    logging: bool,
    reset: bool,
    reset_promised: bool,
    pci: bool,
}

impl Dut {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// There is no such device, or it cannot be opened.
    pub fn open(name: &str, backend: Backend) -> anyhow::Result<Self> {
        let mut dut = Self {
            name: name.to_owned(),
            backend,
            device: None,
            opened_in: None,
            migration: Err(0),
            logging: false,
            reset: false,
            reset_promised: false,
            pci: false,
        };
        let device = dut.reopen()?;
        // The same way from now on.
        dut.backend = device.backend();
        dut.migration = device.migration();
        dut.logging = device.has_logging();
        let flags = sys::device_flags(device.fd())?;
        dut.reset_promised = flags & vb::VFIO_DEVICE_FLAGS_RESET != 0;
        dut.pci = flags & vb::VFIO_DEVICE_FLAGS_PCI != 0;
        // Some have it and do not say so, see S14.reset-is-promised.
        dut.reset = dut.reset_promised || dut.migration.is_ok() && device.reset().is_ok();
        Ok(dut)
    }

    /// One that is not open.
    #[cfg(test)]
    pub(super) fn closed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            backend: Backend::Legacy,
            device: None,
            opened_in: None,
            migration: Err(Errno::NOTTY.raw_os_error()),
            logging: false,
            reset: false,
            reset_promised: false,
            pci: false,
        }
    }

    /// Its name in sysfs, as given by the user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is opened.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Its place in sysfs.
    ///
    /// # Errors
    ///
    /// It is not open.
    pub fn node(&self) -> anyhow::Result<Node> {
        Ok(self.device()?.node().clone())
    }

    /// The open device, to share with threads.
    ///
    /// # Errors
    ///
    /// It is not open.
    pub fn device(&self) -> anyhow::Result<Arc<Device>> {
        self.device.clone().context("the device is not open")
    }

    fn with<T>(&self, call: impl FnOnce(&Device) -> io::Result<T>) -> io::Result<T> {
        match &self.device {
            Some(device) => call(device),
            None => Err(io::Error::other("the device is not open")),
        }
    }

    /// Closes it. Data files stay as they are.
    ///
    /// # Errors
    ///
    /// A thread still uses it.
    pub fn close(&mut self) -> anyhow::Result<()> {
        if let Some(device) = self.device.take() {
            let left = Arc::try_unwrap(device).map_err(|device| self.device = Some(device));
            if left.is_err() {
                anyhow::bail!("the device is still in use by a thread of an earlier case");
            }
        }
        Ok(())
    }

    /// Closes it if need be and opens it again: it forgets PRECOPY_INFOv2. One that is not
    /// RUNNING then is reset: whatever session it means, nobody has its file, and a driver may
    /// follow a pointer to it that is gone. See [`Dut::opened_in`].
    ///
    /// # Errors
    ///
    /// It cannot be opened, or a thread still uses it.
    pub fn reopen(&mut self) -> anyhow::Result<Arc<Device>> {
        self.close()?;
        // Looked for each time: a device that was bound again has another node in /dev.
        let node = Sysfs::default().find(&self.name)?;
        let device = Arc::new(Device::open(&node, self.backend)?);
        self.device = Some(Arc::clone(&device));
        self.opened_in = None;
        if device.migration().is_ok() {
            let state = device.state().context("cannot ask for the state")?;
            self.opened_in = Some(state);
            if state != State::Running && device.reset().is_err() {
                let running = device.set_state(State::Running);
                running.with_context(|| format!("the device is in {state} and stays there"))?;
            }
        }
        Ok(device)
    }

    /// The state that it was in when it was last opened.
    pub fn opened_in(&self) -> Option<State> {
        self.opened_in
    }

    /// Its migration flags; none without migration.
    pub fn flags(&self) -> MigrationFlags {
        self.migration.unwrap_or_default()
    }

    /// Its migration flags, or what the kernel said.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn migration(&self) -> io::Result<MigrationFlags> {
        self.migration.map_err(io::Error::from_raw_os_error)
    }

    /// Has it DMA logging?
    pub fn has_logging(&self) -> bool {
        self.logging
    }

    /// Has it VFIO_DEVICE_RESET, promised or not?
    pub fn has_reset(&self) -> bool {
        self.reset
    }

    /// Does VFIO_DEVICE_GET_INFO promise VFIO_DEVICE_RESET?
    pub fn promises_reset(&self) -> bool {
        self.reset_promised
    }

    /// Has it the regions of a PCI device?
    pub fn is_pci(&self) -> bool {
        self.pci
    }

    /// The states that it has, without ERROR.
    pub fn states(&self) -> Vec<State> {
        let flags = self.flags();
        let all = State::ALL.into_iter();
        all.filter(|state| *state != State::Error && flags.has(*state))
            .collect()
    }

    /// `VFIO_DEVICE_FEATURE` with any flags and argsz, see [`sys::feature`].
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn feature(&self, flags: u32, argsz: u32, payload: [u64; 8]) -> io::Result<[u64; 8]> {
        self.with(|device| sys::feature(device.fd(), flags, argsz, payload))
    }

    /// SET of a state.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn set(&self, state: State) -> io::Result<Option<File>> {
        self.set_number(state as u32)
    }

    /// SET of a state by any number.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn set_number(&self, state: u32) -> io::Result<Option<File>> {
        self.with(|device| sys::set_state(device.fd(), state))
    }

    /// GET of the state.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn get(&self) -> io::Result<State> {
        self.with(Migratable::state)
    }

    /// VFIO_DEVICE_RESET.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn reset(&self) -> io::Result<()> {
        self.with(|device| sys::reset(device.fd()))
    }

    /// The device file, for calls of [`sys`].
    ///
    /// # Errors
    ///
    /// What `call` says.
    pub fn raw<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.with(|device| call(device.fd()))
    }

    /// LOGGING_START; answers with the page size.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn log_start(&self, page_size: u64, ranges: &[(u64, u64)]) -> io::Result<u64> {
        self.raw(|fd| sys::log_start(fd, page_size, ranges))
    }

    /// LOGGING_REPORT into `bitmap`.
    ///
    /// # Errors
    ///
    /// The kernel's errno; `InvalidInput` when the bitmap is too short.
    pub fn log_report(
        &self,
        (iova, length): (u64, u64),
        page_size: u64,
        bitmap: &mut [u64],
    ) -> io::Result<()> {
        self.raw(|fd| sys::log_report(fd, iova, length, page_size, bitmap))
    }

    /// MIG_DATA_SIZE.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn data_size(&self) -> io::Result<u64> {
        self.with(Migratable::data_size)
    }

    /// LOGGING_STOP.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn log_stop(&self) -> io::Result<()> {
        let flags = vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;
        self.feature(flags, 8, [0; 8]).map(drop)
    }

    /// Opts in to PRECOPY_INFOv2, until it is closed.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn opt_in_v2(&self) -> io::Result<()> {
        let flags = vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2;
        self.feature(flags, 8, [0; 8]).map(drop)
    }
}
