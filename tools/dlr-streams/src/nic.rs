// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A stream through the loader of the NIC, and back.

use anyhow::{ensure, Context, Result};
use dlr_core::{DataFunction, FnState};
use dlr_mgmt::Streams;

use crate::{
    driver::{self, ACCEPTS, COMPAT},
    function::Function,
    image::{saved_again, state, BLOCKS},
};

/// Bytes of the flow table of all functions here.
pub(crate) const FLOW_TABLE: u64 = BLOCKS as u64 * 4096;

/// A function of the NIC that takes streams.
pub(crate) fn stopped() -> Function {
    let function = Function::new();
    function.net.suspend(FnState::Stopped);
    function
}

/// Two functions of the NIC, which are stopped.
pub(crate) struct Nic<'a> {
    /// It gets the streams.
    function: &'a dyn DataFunction,
    streams: Streams,
    /// It gets images without a stream around them.
    other: &'a dyn DataFunction,
    /// What the first one says before a stream comes: its stream, and the image in that.
    before: Vec<u8>,
    image: Vec<u8>,
}

impl<'a> Nic<'a> {
    /// The functions are in the same state.
    pub(crate) fn new(function: &'a dyn DataFunction, other: &'a dyn DataFunction) -> Self {
        let streams = Streams::new(COMPAT, FLOW_TABLE);
        let before = streams.save(function);
        Self {
            function,
            streams,
            other,
            before,
            image: function.save(),
        }
    }

    /// Loads a stream in pieces of `piece` bytes. Returns whether the NIC has taken it.
    ///
    /// `accepted` says whether the driver takes it. If it does not, the NIC may not either. If it
    /// does, the NIC takes it if and only if the sections make up a state ([`state`]) whose image
    /// the function takes.
    ///
    /// # Errors
    ///
    /// The NIC does not do that, or has become another function than the one that was saved.
    pub(crate) fn judge(&self, stream: &[u8], piece: usize, accepted: bool) -> Result<bool> {
        let told = accepted.then(|| state(stream)).flatten();
        let image_taken = |image: &[u8]| self.other.load(image).is_ok();
        let wanted = told.as_ref().filter(|told| image_taken(&told.image));
        let loaded = self.streams.load(stream.chunks(piece), self.function);
        ensure!(
            loaded.is_ok() == wanted.is_some(),
            "the driver takes it: {accepted}, its sections are a state: {}, the NIC: {loaded:?}",
            told.is_some()
        );
        let Some(wanted) = wanted else {
            let same = match accepted {
                true => self.streams.save(self.function) == self.before,
                false => self.function.save() == self.image,
            };
            ensure!(same, "a refused stream has left something");
            return Ok(false);
        };
        let after = self.streams.save(self.function);
        // What the NIC writes itself is a stream for the driver of the next target.
        let written = driver::parsed(&after, usize::MAX, usize::MAX, &ACCEPTS)?;
        let whole = (after.len() as u64, Ok(true));
        ensure!(written == whole, "saved again: {written:?}");
        let saved = state(&after).context("saved again: no state")?;
        ensure!(saved.flow == wanted.flow, "another table was saved again");
        let expected = saved_again(&wanted.image, &self.image);
        ensure!(
            saved.image == expected,
            "another image was saved again: {:02x?}, not {expected:02x?}",
            saved.image
        );
        self.streams.load([&self.before[..]], self.function)?;
        Ok(true)
    }
}
