// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A link between the wires of two NIC processes, for two host boxes.
//!
//! A unix stream socket carries frames, each behind its length (u32, little endian). The
//! process that comes first listens, the other one connects; when one goes, the other
//! waits for a new one, as with a pulled cable.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::SyncSender,
        Arc, Mutex, PoisonError,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{json, Value};

use crate::{
    backend::{Backend, Deliver},
    hub::Event,
};

/// Longest frame on a link.
const MAX_FRAME: usize = 65_550;
/// A peer that does not read for so long loses the frame.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause before the link is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Sending half, while the other process is there.
    out: Mutex<Option<UnixStream>>,
    sent: AtomicU64,
    received: AtomicU64,
    lost: AtomicU64,
}

impl Link {
    /// Opens the link at `path`; the other end may come later.
    ///
    /// # Errors
    ///
    /// The socket can neither be created nor connected to.
    pub(crate) fn open(path: &Path, queue: SyncSender<Event>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let side = match UnixStream::connect(path) {
            Ok(stream) => Side::Connect(Some(stream)),
            Err(_) => {
                // A socket that nobody answers on is left over from a process that ended.
                match std::fs::remove_file(path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => Side::Listen(UnixListener::bind(path)?),
                }
            }
        };
        let (thread_shared, path) = (Arc::clone(&shared), path.to_path_buf());
        thread::Builder::new()
            .name("wire-link".into())
            .spawn(move || receive(side, &path, &thread_shared, &queue))?;
        Ok(Self { shared })
    }
}

/// How this process gets at the other one.
#[derive(Debug)]
enum Side {
    Listen(UnixListener),
    Connect(Option<UnixStream>),
}

impl Side {
    fn next(&mut self, path: &Path) -> io::Result<UnixStream> {
        match self {
            Self::Listen(listener) => Ok(listener.accept()?.0),
            Self::Connect(first) => first.take().map_or_else(|| UnixStream::connect(path), Ok),
        }
    }
}

/// Receives until the wire has ended; the thread ends with the first frame after that,
/// at the latest with the process.
fn receive(mut side: Side, path: &Path, shared: &Shared, queue: &SyncSender<Event>) {
    loop {
        let stream = match side.next(path).and_then(|s| Ok((s.try_clone()?, s))) {
            Ok((writer, reader)) => {
                let limited = writer.set_write_timeout(Some(WRITE_TIMEOUT));
                if let Err(e) = limited {
                    log::warn!("wire: link without a write timeout: {e}");
                }
                *shared.out.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
                reader
            }
            Err(_) => {
                thread::sleep(RETRY);
                continue;
            }
        };
        log::info!("wire: link {} is up", path.display());
        let wire_is_there = frames(stream, shared, queue);
        shared
            .out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if !wire_is_there {
            return;
        }
        log::info!("wire: link {} is down", path.display());
    }
}

/// Takes frames until the other side goes (true) or our wire has ended (false).
fn frames(mut stream: UnixStream, shared: &Shared, queue: &SyncSender<Event>) -> bool {
    let mut len = [0; 4];
    while stream.read_exact(&mut len).is_ok() {
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_FRAME {
            log::error!("wire: the other end of the link announces {len} bytes");
            return true;
        }
        let mut frame = vec![0; len];
        if stream.read_exact(&mut frame).is_err() {
            return true;
        }
        shared.received.fetch_add(1, Ordering::Relaxed);
        // Blocks while the wire is busy: flow control goes back through the socket.
        if queue.send(Event::Inbound(frame)).is_err() {
            return false;
        }
    }
    true
}

impl Backend for Link {
    fn frame(&mut self, frame: &[u8]) {
        let mut out = self
            .shared
            .out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let sent = match (out.as_mut(), u32::try_from(frame.len())) {
            (Some(stream), Ok(len)) if frame.len() <= MAX_FRAME => {
                let message = [&len.to_le_bytes(), frame].concat();
                let result = stream.write_all(&message);
                if result.is_err() {
                    // Part of the frame may be out: the stream has no boundary any more.
                    if let Some(stream) = out.take() {
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                    }
                }
                result.is_ok()
            }
            _ => false,
        };
        let counter = if sent {
            &self.shared.sent
        } else {
            &self.shared.lost
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn poll(&mut self, _now: Instant, _deliver: &mut Deliver<'_>) -> Option<Duration> {
        None
    }

    fn stats(&self) -> Value {
        let up = self
            .shared
            .out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some();
        json!({"kind": "link", "up": up,
            "sent": self.shared.sent.load(Ordering::Relaxed),
            "received": self.shared.received.load(Ordering::Relaxed),
            "lost": self.shared.lost.load(Ordering::Relaxed)})
    }

    fn control(&mut self, _request: Value) -> Result<Value, String> {
        Err("a link knows only `stats`".into())
    }
}
