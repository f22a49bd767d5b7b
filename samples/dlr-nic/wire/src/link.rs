// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A link between the wires of two NIC processes, for two host boxes.
//!
//! A unix stream socket carries messages: length (u32, little endian), kind (u8), content. A
//! frame is delivered or lost, as on a cable. A frame that asks is answered with what became of
//! it, which no cable does: the built-in peer counts every message that it loses. The process
//! that comes first listens, the other one connects; when one goes, the other waits for a new
//! one, as with a pulled cable.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender, TrySendError},
        Arc, Mutex, PoisonError,
    },
    thread,
    time::{Duration, Instant},
};

use dlr_core::Delivery;
use serde_json::{json, Value};

use crate::{
    backend::{Backend, Deliver},
    event::Event,
};

/// Longest frame on a link.
const MAX_FRAME: usize = 65_550;
/// A peer that does not read for so long loses the frame.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause before the link is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// The other process may be kept from running on a busy machine. Whoever gives up does not know
/// what became of the frame, and cuts the link: rather stand still than count wrongly.
const ANSWER: Duration = Duration::from_secs(60);

/// Kinds of messages.
const FRAME: u8 = 0;
const ASKING_FRAME: u8 = 1;
const ANSWERED: u8 = 2;

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    /// Answers of the other end, each with the number of its connection; `None` when that ends.
    answers: Receiver<(u64, Option<Delivery>)>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Sending half, while the other process is there.
    out: Mutex<Option<UnixStream>>,
    /// Number of the connection; changes under the lock of `out`.
    connection: AtomicU64,
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
        let (to_wire, answers) = mpsc::channel();
        let receiver = Incoming {
            shared: Arc::clone(&shared),
            queue,
            answers: to_wire,
        };
        let path = path.to_path_buf();
        thread::Builder::new()
            .name("wire-link".into())
            .spawn(move || receiver.run(side, &path))?;
        Ok(Self { shared, answers })
    }

    /// Hands a frame to the segment at the other end, and says what became of it there. Waits for
    /// that; only one end of a link may do this.
    pub(crate) fn deliver(&mut self, frame: &[u8]) -> Delivery {
        let Some(connection) = self.shared.send(ASKING_FRAME, frame) else {
            return Delivery::Dropped;
        };
        let end = Instant::now() + ANSWER;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok((from, answer)) if from == connection => {
                    return answer.unwrap_or(Delivery::Dropped);
                }
                // Of a connection that is gone.
                Ok(_) => {}
                Err(_) => {
                    log::error!("wire: the other end of the link does not answer");
                    self.shared.cut(connection);
                    return Delivery::Dropped;
                }
            }
        }
    }
}

impl Shared {
    /// The number of the connection that the message went out by, if it did.
    fn send(&self, kind: u8, content: &[u8]) -> Option<u64> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = match (out.as_mut(), u32::try_from(content.len())) {
            (Some(stream), Ok(len)) if content.len() <= MAX_FRAME => {
                let message = [&len.to_le_bytes(), &[kind][..], content].concat();
                let result = stream.write_all(&message);
                if result.is_err() {
                    // Part of it may be out: the stream has no boundary any more.
                    hang_up(out.take());
                }
                result.is_ok()
            }
            _ => false,
        };
        if kind != ANSWERED {
            let counter = if sent { &self.sent } else { &self.lost };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        sent.then(|| self.connection.load(Ordering::Acquire))
    }

    /// Ends this connection, unless it has made way for another.
    fn cut(&self, connection: u64) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if self.connection.load(Ordering::Acquire) == connection {
            hang_up(out.take());
        }
    }
}

fn hang_up(stream: Option<UnixStream>) {
    if let Some(stream) = stream {
        // It may have gone by itself.
        let _ = stream.shutdown(std::net::Shutdown::Both);
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

/// The receiving thread.
struct Incoming {
    shared: Arc<Shared>,
    queue: SyncSender<Event>,
    answers: Sender<(u64, Option<Delivery>)>,
}

impl Incoming {
    /// Receives until the wire has ended; the thread ends with the first message after that,
    /// at the latest with the process.
    fn run(self, mut side: Side, path: &Path) {
        loop {
            let stream = match side.next(path).and_then(|s| Ok((s.try_clone()?, s))) {
                Ok((writer, reader)) => {
                    let limited = writer.set_write_timeout(Some(WRITE_TIMEOUT));
                    if let Err(e) = limited {
                        log::warn!("wire: link without a write timeout: {e}");
                    }
                    let mut out = self
                        .shared
                        .out
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    self.shared.connection.fetch_add(1, Ordering::AcqRel);
                    *out = Some(writer);
                    reader
                }
                Err(_) => {
                    thread::sleep(RETRY);
                    continue;
                }
            };
            log::info!("wire: link {} is up", path.display());
            let connection = self.shared.connection.load(Ordering::Acquire);
            let wire_is_there = self.messages(connection, stream);
            self.shared.cut(connection);
            // Nobody may be waiting.
            let _ = self.answers.send((connection, None));
            if !wire_is_there {
                return;
            }
            log::info!("wire: link {} is down", path.display());
        }
    }

    /// Takes messages until the other side goes (true) or our wire has ended (false).
    fn messages(&self, connection: u64, mut stream: UnixStream) -> bool {
        let mut header = [0; 5];
        while stream.read_exact(&mut header).is_ok() {
            let [len @ .., kind] = header;
            let len = u32::from_le_bytes(len) as usize;
            if len > MAX_FRAME {
                log::error!("wire: the other end of the link announces {len} bytes");
                return true;
            }
            let mut content = vec![0; len];
            if stream.read_exact(&mut content).is_err() {
                return true;
            }
            let wire_is_there = match (kind, content.as_slice()) {
                (FRAME, _) => self.frame(content),
                (ASKING_FRAME, _) => {
                    let (reply, result) = mpsc::channel();
                    let event = Event::Inbound {
                        frame: content,
                        reply: Some(reply),
                    };
                    self.shared.received.fetch_add(1, Ordering::Relaxed);
                    let wire_is_there = self.queue.send(event).is_ok();
                    let result = result.recv().unwrap_or(Delivery::Dropped);
                    // If it does not get through, the other end notices.
                    let _ = self.shared.send(ANSWERED, &[code(result)]);
                    wire_is_there
                }
                (ANSWERED, [code]) => match delivery(*code) {
                    Some(delivery) => self.answers.send((connection, Some(delivery))).is_ok(),
                    None => return true,
                },
                _ => {
                    log::error!("wire: the other end of the link sends messages of kind {kind}");
                    return true;
                }
            };
            if !wire_is_there {
                return false;
            }
        }
        true
    }

    /// Never waits for the wire: that may be waiting for an answer behind this frame.
    fn frame(&self, frame: Vec<u8>) -> bool {
        let event = Event::Inbound { frame, reply: None };
        match self.queue.try_send(event) {
            Ok(()) => {
                self.shared.received.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Full(_)) => {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

fn code(delivery: Delivery) -> u8 {
    match delivery {
        Delivery::Accepted => 0,
        Delivery::NoBuffer => 1,
        Delivery::Dropped => 2,
    }
}

fn delivery(code: u8) -> Option<Delivery> {
    let all = [Delivery::Accepted, Delivery::NoBuffer, Delivery::Dropped];
    all.get(usize::from(code)).copied()
}

impl Backend for Link {
    fn frame(&mut self, frame: &[u8]) {
        // A lost frame is counted, and nothing else is to be done about it.
        let _ = self.shared.send(FRAME, frame);
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
