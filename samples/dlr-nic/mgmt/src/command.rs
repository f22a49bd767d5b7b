// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a command brings along, checked for form.

use std::time::Instant;

use dlr_abi::abi;
use dlr_core::DmaMemory;
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    rows::Command,
    status::{Done, Status},
};

/// A command in execution.
pub(crate) struct Request<'a> {
    /// The command.
    pub(crate) command: &'a Command,
    /// Memory of the MF.
    pub(crate) memory: &'a dyn DmaMemory,
    /// MSI-X vectors of the MF.
    pub(crate) vectors: u16,
    /// When to give up waiting.
    pub(crate) deadline: Instant,
}

impl Request<'_> {
    /// The submission entry.
    pub(crate) fn sqe(&self) -> &abi::dlr_sqe {
        &self.command.sqe
    }

    /// Typed parameters.
    pub(crate) fn params<T: FromBytes>(&self) -> Result<T, Status> {
        T::read_from_bytes(&self.sqe().params).map_err(|_| Status::Internal)
    }

    /// The command takes no parameters.
    pub(crate) fn no_params(&self) -> Result<(), Status> {
        let params = self.sqe().params;
        zero(params.iter().all(|&b| b == 0))
    }

    /// The command takes no buffer.
    pub(crate) fn no_buffer(&self) -> Result<(), Status> {
        zero(self.sqe().addr == 0 && self.sqe().len == 0)
    }

    /// Only the flags in `known` are set.
    pub(crate) fn flags(&self, known: u32) -> Result<u32, Status> {
        zero(self.sqe().flags & !known == 0)?;
        Ok(self.sqe().flags)
    }

    /// Fills `data` from offset `at` of the command's buffer.
    pub(crate) fn read(&self, at: u64, data: &mut [u8]) -> Result<(), Status> {
        let addr = self.sqe().addr.checked_add(at).ok_or(Status::DmaFault)?;
        let read = self.command.epoch.run(|| self.memory.read(addr, data));
        Ok(read.ok_or(Status::Internal)??)
    }

    /// Writes `data` to the start of the command's buffer.
    pub(crate) fn write(&self, data: &[u8]) -> Result<(), Status> {
        let addr = self.sqe().addr;
        let written = self.command.epoch.run(|| self.memory.write(addr, data));
        Ok(written.ok_or(Status::Internal)??)
    }

    /// Runs what has no effect once the command is dropped: no session, log or page comes into use
    /// after an abort or the reset handshake.
    pub(crate) fn in_epoch(
        &self,
        run: impl FnOnce() -> Result<(), Status>,
    ) -> Result<Done, Status> {
        let result = self.command.epoch.run(run);
        result.unwrap_or(Err(Status::Internal))?;
        Ok(Done::default())
    }

    /// Answers with a structure; returns its length.
    pub(crate) fn answer<T: IntoBytes + zerocopy::Immutable>(
        &self,
        answer: &T,
    ) -> Result<u32, Status> {
        let bytes = answer.as_bytes();
        zero((self.sqe().len as usize) >= bytes.len())?;
        self.write(bytes)?;
        Ok(bytes.len() as u32)
    }
}

/// INVALID_FIELD unless `ok`.
pub(crate) fn zero(ok: bool) -> Result<(), Status> {
    if ok {
        Ok(())
    } else {
        Err(Status::InvalidField)
    }
}
