// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the ports of the reference NIC are plugged into.
//!
//! All data functions of one NIC sit on one Ethernet segment, a small switch, together
//! with one *back end*: the built-in [peer](PeerConfig), the other end of a link to a
//! second NIC process, both of these, or a tap device. The switch learns where an address is from the
//! frames that come from it, as a physical one does: a function announces a guest that has moved
//! to it, and the peer's connections stay.
//!
//! A [`Wire`] runs in a thread of its own. Data functions hand their frames over through
//! a bounded queue and never wait; frames for them are delivered from that thread only,
//! so no data function ever runs in the thread of another one.
//!
//! ```text
//!   DF 0 ─┐ queue ┌────────┐
//!   DF 1 ─┼──────▶│ switch │◀──▶ back end (peer │ link │ tap)
//!   DF 2 ─┘◀──────└────────┘
//!          deliver
//! ```

#![forbid(unsafe_code)]

mod backend;
mod config;
mod event;
mod fifo;
mod hub;
mod link;
mod open;
mod peer;
mod segment;
mod switch;
mod tap;
mod time;
mod trunk;

use std::{
    io,
    sync::{
        mpsc::{self, SyncSender, TrySendError},
        Arc, Mutex, PoisonError,
    },
    thread::JoinHandle,
    time::Duration,
};

use dlr_core::{WireRx, WireTx};
use serde_json::{json, Value};

pub use config::{Cidr, ConfigError, PeerConfig, WireConfig};
use event::Event;
use fifo::Fifos;
use hub::Hub;
pub use peer::PeerRequest;

/// How long a control request waits for the wire's thread.
const CONTROL_DEADLINE: Duration = Duration::from_secs(10);

/// The segment that the data functions of a NIC are plugged into.
#[derive(Debug)]
pub struct Wire {
    queue: SyncSender<Event>,
    fifos: Arc<Fifos>,
    ports: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Wire {
    /// Starts a wire with `ports` ports for data functions.
    ///
    /// # Errors
    ///
    /// The back end is not available: no permission for the tap, the link's socket is
    /// taken, no thread.
    pub fn new(config: &WireConfig, ports: usize) -> io::Result<Self> {
        let fifos = Arc::new(Fifos::new(ports));
        let (queue, events) = mpsc::sync_channel(fifos.capacity());
        let backend = open::open(config, &queue)?;
        let hub = Hub::new(backend, ports, Arc::clone(&fifos));
        let thread = std::thread::Builder::new()
            .name("wire".into())
            .spawn(move || hub.run(&events))?;
        Ok(Self {
            queue,
            fifos,
            ports,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Where data function `port` sends its frames. A `port` that the wire does not have
    /// swallows them.
    pub fn tx(&self, port: usize) -> Arc<dyn WireTx> {
        Arc::new(Port {
            port,
            queue: self.queue.clone(),
            fifos: Arc::clone(&self.fifos),
        })
    }

    /// From now on frames for `port` go to `function`.
    pub fn attach(&self, port: usize, function: Arc<dyn WireRx>) {
        // A send can fail only when the thread has ended, and then nothing is delivered.
        let _ = self.queue.send(Event::Attach { port, function });
    }

    /// Carries out one request of the control socket and returns the answer: always an
    /// object with `"ok"`, and with `"error"` where that is false.
    ///
    /// Every back end knows `{"cmd": "stats"}`; the built-in peer also knows the requests
    /// of [`PeerRequest`].
    pub fn control(&self, request: Value) -> Value {
        let (reply, answer) = mpsc::channel();
        if self.queue.send(Event::Control { request, reply }).is_err() {
            return json!({"ok": false, "error": "the wire has ended"});
        }
        answer
            .recv_timeout(CONTROL_DEADLINE)
            .unwrap_or_else(|_| json!({"ok": false, "error": "the wire does not answer"}))
    }

    /// Counters of switch and back end, for the control socket.
    pub fn stats(&self) -> Value {
        self.control(json!({"cmd": "stats"}))
    }

    /// Number of ports.
    pub fn ports(&self) -> usize {
        self.ports
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.queue.send(Event::End);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            if thread.join().is_err() {
                log::error!("wire: the thread panicked");
            }
        }
    }
}

/// Sending side of one port.
#[derive(Debug)]
struct Port {
    port: usize,
    queue: SyncSender<Event>,
    fifos: Arc<Fifos>,
}

impl WireTx for Port {
    fn send(&self, frame: &[u8]) {
        if !self.fifos.enter(self.port) {
            return;
        }
        let event = Event::Frame {
            port: self.port,
            frame: frame.to_vec(),
        };
        match self.queue.try_send(event) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => (),
            Err(TrySendError::Full(_)) => self.fifos.lose(self.port),
        }
    }

    fn claim(&self, mac: [u8; 6]) {
        let port = self.port;
        // Only a line in the log depends on it: a full queue may lose it.
        let _ = self.queue.try_send(Event::Claim { port, mac });
    }
}
