// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The wire's thread: takes frames from the queue, switches them, drives the back end.

use std::{
    sync::{
        mpsc::{Receiver, RecvTimeoutError, Sender},
        Arc,
    },
    time::{Duration, Instant},
};

use dlr_core::Delivery;
use serde_json::{json, Value};

use crate::{
    backend::Backend,
    event::Event,
    fifo::Fifos,
    segment::Segment,
    switch::{addresses, Route},
};

/// Frames that are switched before the back end gets its turn.
const BATCH: usize = 64;

/// Switch, ports and back end.
pub(crate) struct Hub {
    backend: Box<dyn Backend>,
    segment: Segment,
    fifos: Arc<Fifos>,
}

impl Hub {
    /// A hub without data functions.
    pub(crate) fn new(backend: Box<dyn Backend>, ports: usize, fifos: Arc<Fifos>) -> Self {
        Self {
            backend,
            segment: Segment::new(ports),
            fifos,
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
                .poll(now, &mut |frame| self.segment.offer(frame));
            wait = match (retry, due) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Frame { port, frame } => {
                self.fifos.leave(port);
                self.port_frame(port, frame);
            }
            Event::Inbound { frame, reply } => self.inbound(frame, reply),
            Event::Attach { port, function } => match self.segment.ports.get_mut(port) {
                Some(state) => state.function = Some(function),
                None => log::error!("wire: there is no port {port}"),
            },
            Event::Claim { port, mac } => {
                self.segment.claim(&mac, port);
            }
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
        self.segment.learn(src, port);
        match self.segment.route(&dst, port) {
            Route::Nowhere => (),
            Route::To(to) if to == self.segment.backend() => self.backend.frame(&frame),
            Route::To(to) => self.segment.send(to, frame),
            Route::All => {
                self.backend.frame(&frame);
                self.segment.flood(port, &frame);
            }
        }
    }

    fn inbound(&mut self, frame: Vec<u8>, reply: Option<Sender<Delivery>>) {
        let Some((dst, src)) = addresses(&frame) else {
            return;
        };
        let backend = self.segment.backend();
        // The sender may have been at a port before.
        self.segment.learn(src, backend);
        if self.backend.inbound(&frame) {
            return;
        }
        if let Some(reply) = reply {
            // The other end offers the frame again. It may be gone.
            let _ = reply.send(self.segment.offer(&frame));
            return;
        }
        match self.segment.route(&dst, backend) {
            Route::Nowhere => (),
            Route::To(port) => self.segment.send(port, frame),
            Route::All => self.segment.flood(backend, &frame),
        }
    }

    fn control(&mut self, request: Value) -> Value {
        let answer = match request.get("cmd").and_then(Value::as_str) {
            Some("stats") => Ok(
                json!({"ports": self.port_stats(), "lost": self.segment.lost,
                "conflicts": self.segment.conflicts,
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
                    "no_buffer": port.stats.no_buffer, "waiting": port.waiting(),
                    "queue_drops": self.fifos.drops(n), "attached": port.function.is_some()})
            })
            .collect()
    }
}
