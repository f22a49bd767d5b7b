// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The wire's thread: takes frames from the queue, switches them, drives the back end.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
        Arc,
    },
    time::{Duration, Instant},
};

use dlr_core::{Delivery, WireRx};
use serde_json::{json, Value};

use crate::{
    backend::Backend,
    switch::{addresses, is_group, Switch},
};

/// Frames that are switched before the back end gets its turn.
const BATCH: usize = 64;
/// Frames for data functions that have no buffer just now, at most.
const WAITING: usize = 512;
/// How long such a frame waits.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often a waiting frame is offered again.
const RETRY: Duration = Duration::from_millis(1);

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
            Self::Control { request, .. } => write!(f, "Control({request})"),
            Self::End => f.write_str("End"),
        }
    }
}

/// Frames that did not fit into the queue, per port.
#[derive(Debug)]
pub(crate) struct QueueDrops(Vec<AtomicU64>);

impl QueueDrops {
    /// For `ports` ports.
    pub(crate) fn new(ports: usize) -> Self {
        Self((0..ports).map(|_| AtomicU64::new(0)).collect())
    }

    /// One more of `port`.
    pub(crate) fn count(&self, port: usize) {
        if let Some(drops) = self.0.get(port) {
            drops.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn get(&self, port: usize) -> u64 {
        self.0.get(port).map_or(0, |d| d.load(Ordering::Relaxed))
    }
}

/// Counters of one port, seen from the wire.
#[derive(Clone, Copy, Debug, Default)]
struct PortStats {
    /// Frames that the data function sent.
    from: u64,
    /// Frames that it took.
    to: u64,
    /// Frames from it that were too short for an Ethernet header.
    runts: u64,
}

/// A data function's place on the segment.
#[derive(Default)]
struct PortState {
    function: Option<Arc<dyn WireRx>>,
    stats: PortStats,
}

/// A frame that nobody had a buffer for.
#[derive(Debug)]
struct Waiting {
    from: Option<usize>,
    frame: Vec<u8>,
    since: Instant,
}

/// Switch, ports and back end.
pub(crate) struct Hub {
    backend: Box<dyn Backend>,
    segment: Segment,
    drops: Arc<QueueDrops>,
}

/// The part of the hub that the back end's frames go to.
struct Segment {
    ports: Vec<PortState>,
    switch: Switch,
    waiting: VecDeque<Waiting>,
    lost: u64,
}

impl Hub {
    /// A hub without data functions.
    pub(crate) fn new(backend: Box<dyn Backend>, ports: usize, drops: Arc<QueueDrops>) -> Self {
        let segment = Segment {
            ports: (0..ports).map(|_| PortState::default()).collect(),
            switch: Switch::default(),
            waiting: VecDeque::new(),
            lost: 0,
        };
        Self {
            backend,
            segment,
            drops,
        }
    }

    /// Runs until the wire is dropped.
    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        let mut wait = Some(Duration::ZERO);
        loop {
            let first = match wait {
                Some(wait) => events.recv_timeout(wait),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let first = match first {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for event in first.into_iter().chain(events.try_iter().take(BATCH)) {
                if matches!(event, Event::End) {
                    return;
                }
                self.event(event);
            }
            let now = Instant::now();
            let retry = self.segment.retry(now);
            let due = self
                .backend
                .poll(now, &mut |frame| self.segment.offer(None, frame));
            wait = match (retry, due) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Frame { port, frame } => self.port_frame(port, frame),
            Event::Inbound { frame, reply } => self.inbound(frame, reply),
            Event::Attach { port, function } => match self.segment.ports.get_mut(port) {
                Some(state) => state.function = Some(function),
                None => log::error!("wire: there is no port {port}"),
            },
            Event::Control { request, reply } => {
                // Nobody waits any more after the deadline; nothing to do about it.
                let _ = reply.send(self.control(request));
            }
            Event::End => (),
        }
    }

    fn port_frame(&mut self, port: usize, frame: Vec<u8>) {
        let Some(state) = self.segment.ports.get_mut(port) else {
            return;
        };
        let Some((dst, src)) = addresses(&frame) else {
            state.stats.runts += 1;
            return;
        };
        state.stats.from += 1;
        self.segment.switch.learn(src, port);
        // Only what another data function has sent from is known to be local; everything
        // else may be for the back end.
        match self.segment.switch.owner(&dst) {
            Some(owner) if owner != port => self.segment.send(Some(port), frame),
            _ if is_group(&dst) => {
                self.backend.frame(&frame);
                self.segment.send(Some(port), frame);
            }
            _ => self.backend.frame(&frame),
        }
    }

    fn inbound(&mut self, frame: Vec<u8>, reply: Option<Sender<Delivery>>) {
        if let Some((_, src)) = addresses(&frame) {
            // It may have been here before.
            self.segment.switch.forget(&src);
        }
        if self.backend.inbound(&frame) {
            return;
        }
        match reply {
            // Whoever asks offers it again.
            Some(reply) => {
                // The one who asked may be gone.
                let _ = reply.send(self.segment.offer(None, &frame));
            }
            None => self.segment.send(None, frame),
        }
    }

    fn control(&mut self, request: Value) -> Value {
        let answer = match request.get("cmd").and_then(Value::as_str) {
            Some("stats") => Ok(
                json!({"ports": self.port_stats(), "lost": self.segment.lost,
                "backend": self.backend.stats()}),
            ),
            _ => self.backend.control(request),
        };
        match answer {
            Ok(Value::Object(mut object)) => {
                object.insert("ok".into(), true.into());
                Value::Object(object)
            }
            Ok(_) => json!({"ok": true}),
            Err(error) => json!({"ok": false, "error": error}),
        }
    }

    fn port_stats(&self) -> Vec<Value> {
        let ports = self.segment.ports.iter().enumerate();
        ports
            .map(|(n, port)| {
                json!({"from": port.stats.from, "to": port.stats.to, "runts": port.stats.runts,
                    "queue_drops": self.drops.get(n), "attached": port.function.is_some()})
            })
            .collect()
    }
}

impl Segment {
    /// Offers `frame` once.
    fn offer(&mut self, from: Option<usize>, frame: &[u8]) -> Delivery {
        let Some((dst, _)) = addresses(frame) else {
            return Delivery::Dropped;
        };
        let ports = &mut self.ports;
        self.switch.offer(&dst, ports.len(), from, |port| {
            let Some(PortState {
                function: Some(function),
                stats,
            }) = ports.get_mut(port)
            else {
                return Delivery::Dropped;
            };
            let result = function.deliver(frame);
            stats.to += u64::from(result == Delivery::Accepted);
            result
        })
    }

    /// Offers `frame`, and keeps it for a while if nobody has a buffer.
    fn send(&mut self, from: Option<usize>, frame: Vec<u8>) {
        // Behind frames that wait already, else the order of a connection is lost.
        if self.waiting.is_empty() {
            match self.offer(from, &frame) {
                Delivery::Accepted => return,
                Delivery::Dropped => {
                    self.lost += 1;
                    return;
                }
                Delivery::NoBuffer => (),
            }
        }
        if self.waiting.len() < WAITING {
            self.waiting.push_back(Waiting {
                from,
                frame,
                since: Instant::now(),
            });
        } else {
            self.lost += 1;
        }
    }

    /// Offers waiting frames again; says when to come back.
    fn retry(&mut self, now: Instant) -> Option<Duration> {
        while let Some(Waiting { from, frame, since }) = self.waiting.pop_front() {
            match self.offer(from, &frame) {
                Delivery::Accepted => (),
                Delivery::NoBuffer if now.saturating_duration_since(since) < PATIENCE => {
                    self.waiting.push_front(Waiting { from, frame, since });
                    return Some(RETRY);
                }
                Delivery::NoBuffer | Delivery::Dropped => self.lost += 1,
            }
        }
        None
    }
}
