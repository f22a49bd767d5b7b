// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The writing half of the virtio-serial port.

use std::{
    fs::File,
    io,
    sync::{Mutex, PoisonError},
};

use dlr_agent::{send, Event};

/// The writing half of the port, shared by all threads.
pub(crate) struct Port(Mutex<File>);

impl Port {
    /// Of an open port.
    pub(crate) fn new(port: File) -> Self {
        Self(Mutex::new(port))
    }

    /// Sends one event whole.
    pub(crate) fn send(&self, event: &Event, payload: &[u8]) -> io::Result<()> {
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut *port, event, payload)
    }
}
