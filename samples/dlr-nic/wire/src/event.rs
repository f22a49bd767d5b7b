// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the wire's thread is told.

use std::{
    fmt,
    sync::{mpsc::Sender, Arc},
};

use dlr_core::{Delivery, WireRx};
use serde_json::Value;

use crate::switch::Mac;

/// What comes through the queue.
pub(crate) enum Event {
    /// A data function sent a frame.
    Frame { port: usize, frame: Vec<u8> },
    /// The back end received a frame in a thread of its own, and may want to know what becomes
    /// of it.
    Inbound {
        frame: Vec<u8>,
        reply: Option<Sender<Delivery>>,
    },
    /// A data function takes frames from now on.
    Attach {
        port: usize,
        function: Arc<dyn WireRx>,
    },
    /// A load has brought this address to a data function.
    Claim { port: usize, mac: Mac },
    /// A request of the control socket.
    Control {
        request: Value,
        reply: Sender<Value>,
    },
    /// The wire is dropped.
    End,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame { port, frame } => write!(f, "Frame({port}, {} bytes)", frame.len()),
            Self::Inbound { frame, .. } => write!(f, "Inbound({} bytes)", frame.len()),
            Self::Attach { port, .. } => write!(f, "Attach({port})"),
            Self::Claim { port, mac } => write!(f, "Claim({port}, {mac:x?})"),
            Self::Control { request, .. } => write!(f, "Control({request})"),
            Self::End => f.write_str("End"),
        }
    }
}
