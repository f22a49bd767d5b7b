// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A device that can be migrated, and its data files.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use vfio_bindings::bindings::vfio as vb;

use super::{Device, Direction};
use crate::{
    session::{DataFile, Migratable, PrecopyInfo},
    state::{MigrationFlags, State},
    sys,
};

impl Migratable for Device {
    type Data = Data;

    fn flags(&self) -> MigrationFlags {
        self.flags.unwrap_or_default()
    }

    fn state(&self) -> io::Result<State> {
        let payload = self.feature(Direction::Get, vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 8)?;
        State::try_from(payload[0] as u32).map_err(|n| {
            io::Error::other(format!("the device is in state {n}, unknown to the uAPI"))
        })
    }

    fn set_state(&self, state: State) -> io::Result<Option<Data>> {
        log::debug!("{}: SET {state}", self.node.name);
        Ok(sys::set_state(self.fd(), state as u32)?.map(Data))
    }

    fn data_size(&self) -> io::Result<u64> {
        Ok(self.feature(Direction::Get, vb::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, 8)?[0])
    }

    fn reset(&self) -> io::Result<()> {
        sys::reset(self.fd())
    }
}

/// The data file of a session.
pub struct Data(File);

impl Read for Data {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Data {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DataFile for Data {
    fn precopy_info(&self) -> io::Result<PrecopyInfo> {
        let info = sys::precopy_info(&self.0)?;
        Ok(PrecopyInfo {
            initial_bytes: info.initial_bytes,
            dirty_bytes: info.dirty_bytes,
            reinit: info.flags & vb::VFIO_PRECOPY_INFO_REINIT != 0,
        })
    }
}
