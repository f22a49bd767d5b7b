// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the steps of a walk are done to.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use rustix::io::Errno;
use vfio_bindings::bindings::vfio as vb;

use crate::{
    bitmap::DirtyBitmap,
    check::{dut::Dut, stream::load},
    state::State,
    sys,
};

/// What a call gave, or its errno.
pub type Answer<T> = Result<T, Errno>;

/// Page size that logs are started and asked with.
pub const PAGE: u64 = 4096;

/// A device with its data files, which are numbered in the order in which they were opened.
pub trait Subject {
    /// Whatever it was doing: RUNNING, no file, no log.
    ///
    /// # Errors
    ///
    /// It cannot be brought there.
    fn begin(&mut self) -> anyhow::Result<()>;

    /// GET of the state.
    ///
    /// # Errors
    ///
    /// As for all that follow: the errno.
    fn get(&mut self) -> Answer<State>;

    /// SET of a state: has a new file come?
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn set(&mut self, state: u32) -> Answer<bool>;

    /// read().
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn read(&mut self, file: usize, bytes: usize) -> Answer<usize>;

    /// write().
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn write(&mut self, file: usize, bytes: usize) -> Answer<usize>;

    /// Bytes of the initial image that PRECOPY_INFO says are to come.
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn precopy(&mut self, file: usize) -> Answer<u64>;

    /// Closes a file.
    fn close(&mut self, file: usize);

    /// MIG_DATA_SIZE.
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn size(&mut self) -> Answer<u64>;

    /// VFIO_DEVICE_RESET.
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn reset(&mut self) -> Answer<()>;

    /// LOGGING_START.
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn start(&mut self, range: (u64, u64)) -> Answer<()>;

    /// LOGGING_REPORT: number of bits beyond the range.
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn report(&mut self, range: (u64, u64)) -> Answer<u32>;

    /// LOGGING_STOP.
    ///
    /// # Errors
    ///
    /// See [`Subject::get`].
    fn stop(&mut self) -> Answer<()>;
}

/// A device.
pub struct Real<'a> {
    pub(crate) dut: &'a mut Dut,
    pub(crate) files: Vec<Option<File>>,
    /// What was read from each file.
    pub(crate) taken: Vec<Vec<u8>>,
}

impl<'a> Real<'a> {
    /// Of an open device.
    pub fn new(dut: &'a mut Dut) -> Self {
        Self {
            dut,
            files: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Notes what a file gave.
    pub(crate) fn keep(&mut self, file: usize, bytes: &[u8]) {
        if self.taken.len() <= file {
            self.taken.resize(file + 1, Vec::new());
        }
        if let Some(taken) = self.taken.get_mut(file) {
            taken.extend_from_slice(bytes);
        }
    }

    pub(crate) fn file(&self, number: usize) -> Answer<&File> {
        self.files
            .get(number)
            .and_then(Option::as_ref)
            .ok_or(Errno::BADF)
    }
}

pub(crate) fn answer<T>(result: io::Result<T>) -> Answer<T> {
    // What has no errno did not come from the kernel.
    result.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// Again when a signal came.
pub(crate) fn restarted<T>(mut call: impl FnMut() -> io::Result<T>) -> Answer<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return answer(other),
        }
    }
}

impl Subject for Real<'_> {
    fn begin(&mut self) -> anyhow::Result<()> {
        self.files.clear();
        self.taken.clear();
        self.dut.settle().map(drop)
    }

    fn get(&mut self) -> Answer<State> {
        answer(self.dut.get())
    }

    fn set(&mut self, state: u32) -> Answer<bool> {
        let file = answer(self.dut.set_number(state))?;
        let came = file.is_some();
        if came {
            self.files.push(file);
        }
        Ok(came)
    }

    fn read(&mut self, number: usize, bytes: usize) -> Answer<usize> {
        let mut file = self.file(number)?;
        let mut buffer = vec![0; bytes];
        let read = restarted(|| file.read(&mut buffer))?;
        self.keep(number, buffer.get(..read).unwrap_or_default());
        Ok(read)
    }

    fn write(&mut self, file: usize, bytes: usize) -> Answer<usize> {
        let mut file = self.file(file)?;
        let buffer = vec![0xa5; bytes];
        restarted(|| file.write(&buffer))
    }

    fn precopy(&mut self, file: usize) -> Answer<u64> {
        let info = answer(sys::precopy_info(self.file(file)?))?;
        Ok(info.initial_bytes)
    }

    fn close(&mut self, file: usize) {
        if let Some(slot) = self.files.get_mut(file) {
            *slot = None;
        }
    }

    fn size(&mut self) -> Answer<u64> {
        let flags = vb::VFIO_DEVICE_FEATURE_GET | vb::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE;
        answer(self.dut.feature(flags, 16, [0; 8])).map(|payload| payload[0])
    }

    fn reset(&mut self) -> Answer<()> {
        answer(load::reset(self.dut))
    }

    fn start(&mut self, range: (u64, u64)) -> Answer<()> {
        let device = self.dut.device().map_err(|_| Errno::NODEV)?;
        answer(sys::log_start(device.fd(), PAGE, &[range])).map(drop)
    }

    fn report(&mut self, (iova, length): (u64, u64)) -> Answer<u32> {
        let device = self.dut.device().map_err(|_| Errno::NODEV)?;
        let mut bitmap = DirtyBitmap::new(length.div_ceil(PAGE));
        let words = bitmap.words_mut();
        answer(sys::log_report(device.fd(), iova, length, PAGE, words))?;
        Ok(bitmap.stray_bits())
    }

    fn stop(&mut self) -> Answer<()> {
        answer(self.dut.log_stop())
    }
}
