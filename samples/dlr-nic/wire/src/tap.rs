// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A tap device of the machine, where it is permitted (CAP_NET_ADMIN).

use std::{
    io,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
        Arc,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{json, Value};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::{
    backend::{Backend, Deliver},
    event::Event,
};

/// A tap device as back end.
#[derive(Debug)]
pub(crate) struct Tap {
    device: Arc<TapDevice>,
}

struct TapDevice {
    device: SyncDevice,
    sent: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
}

impl std::fmt::Debug for TapDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TapDevice")
            .field("sent", &self.sent)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// Opens or creates the tap device `name`.
    ///
    /// # Errors
    ///
    /// No `/dev/net/tun`, no permission, the name is taken by something else.
    pub(crate) fn open(name: &str, queue: SyncSender<Event>) -> io::Result<Self> {
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L2)
            .build_sync()?;
        let device = Arc::new(TapDevice {
            device,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let reader = Arc::clone(&device);
        thread::Builder::new()
            .name("wire-tap".into())
            .spawn(move || receive(&reader, &queue))?;
        Ok(Self { device })
    }
}

/// Receives until the wire has ended or the device is gone.
fn receive(tap: &TapDevice, queue: &SyncSender<Event>) {
    let mut buf = vec![0; 65_550];
    loop {
        match tap.device.recv(&mut buf) {
            Ok(len) => {
                tap.received.fetch_add(1, Ordering::Relaxed);
                if queue
                    .send(Event::Inbound {
                        frame: buf[..len].to_vec(),
                        reply: None,
                    })
                    .is_err()
                {
                    return;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(e) => {
                log::error!("wire: tap device: {e}");
                return;
            }
        }
    }
}

impl Backend for Tap {
    fn frame(&mut self, frame: &[u8]) {
        let counter = match self.device.device.send(frame) {
            Ok(_) => &self.device.sent,
            Err(_) => &self.device.lost,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn poll(&mut self, _now: Instant, _deliver: &mut Deliver<'_>) -> Option<Duration> {
        None
    }

    fn stats(&self) -> Value {
        json!({"kind": "tap",
            "sent": self.device.sent.load(Ordering::Relaxed),
            "received": self.device.received.load(Ordering::Relaxed),
            "lost": self.device.lost.load(Ordering::Relaxed)})
    }

    fn control(&mut self, _request: Value) -> Result<Value, String> {
        Err("a tap knows only `stats`".into())
    }
}
