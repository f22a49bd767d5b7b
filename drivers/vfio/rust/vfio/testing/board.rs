// SPDX-License-Identifier: GPL-2.0

//! The fake device: its state is a few bytes, and tests can make its calls fail and stall.
//!
//! The stream consists of the bytes, of later changes, and of [`TRAILER`].

use crate::vfio::migration::{
    accounting::Pending,
    pipeline::Delivered,
    save::Sleepers,
    state::RunLevel, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// The last byte of a stream. No byte of a state has this value.
pub(super) const TRAILER: u8 = 0xff;
/// A byte that the device refuses in a stream.
pub(super) const BAD: u8 = 0xfe;
/// Size of a buffer in bytes.
pub(super) const CAPACITY: usize = 8;
/// A call that reaches the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Attach,
    SetLevel,
    BeginSave,
    Read,
    EndSave,
    BeginLoad,
    Write,
    Install,
    EndSessions,
    Recover,
}

/// The fate of a call that is to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The device executes it, and the answer is lost.
    Unanswered,
    /// The device does not execute it.
    Ignored,
}

/// The session of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Session {
    None,
    Save,
    Load,
}

/// The state of the fake device.
pub(super) struct Device {
    pub(super) level: RunLevel,
    pub(super) session: Session,
    /// The state that is migrated.
    pub(super) state: KVVec<u8>,
    /// The bytes that a save session has not delivered yet. The first `initial` ones are the
    /// initial image.
    pub(super) outbox: KVVec<u8>,
    pub(super) initial: usize,
    /// Number of times that a new initial image began.
    pub(super) generation: u32,
    pub(super) ended: bool,
    /// The bytes that a load session has received.
    pub(super) inbox: KVVec<u8>,
    /// Whether reads complete only when they are waited for.
    pub(super) stalls: bool,
    /// Number of reads for which there is room; later ones fail with `EBUSY`.
    pub(super) room: u32,
    /// Number of reads that another thread is about to start.
    pub(super) contended: u32,
    /// The calls so far.
    pub(super) calls: KVec<Op>,
    /// The number of the first call that fails, how many fail, their fate and their error.
    pub(super) fail: Option<(usize, u32, Fate, Error)>,
    /// The number of the call from which on the device cannot be reached (`ENOTCONN`).
    pub(super) gone_from: Option<usize>,
    /// The number of the call in whose middle `Board::hook` runs.
    pub(super) during: Option<usize>,
    pub(super) sleepers: Option<Arc<Sleepers>>,
}

/// The fake device with its hooks.
#[pin_data]
pub(super) struct Board {
    #[pin]
    device: Mutex<Device>,
    /// Runs in the middle of the call `Device::during`.
    #[pin]
    hook: Mutex<Option<KBox<dyn Hook>>>,
    /// Runs once, after a session has checked that it has not ended and before its next call.
    #[pin]
    before_next: Mutex<Option<KBox<dyn Hook>>>,
}

/// An event in the middle of a call.
pub(super) trait Hook: Send {
    fn run(&self);
}

impl Board {
    pub(super) fn new(state: &[u8]) -> Result<Arc<Self>> {
        let mut bytes = KVVec::new();
        bytes.extend_from_slice(state, GFP_KERNEL)?;
        let device = Device {
            level: RunLevel::Running,
            session: Session::None,
            state: bytes,
            outbox: KVVec::new(),
            initial: 0,
            generation: 0,
            ended: false,
            inbox: KVVec::new(),
            stalls: false,
            room: u32::MAX,
            contended: 0,
            calls: KVec::new(),
            fail: None,
            gone_from: None,
            during: None,
            sleepers: None,
        };
        Arc::pin_init(
            pin_init!(Self {
                device <- new_mutex!(device, "vfio_kunit_board"),
                hook <- new_mutex!(None, "vfio_kunit_hook"),
                before_next <- new_mutex!(None, "vfio_kunit_before_next"),
            }),
            GFP_KERNEL,
        )
    }

    /// Reads or changes the state of the device.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Device) -> R) -> R {
        f(&mut self.device.lock())
    }

    /// Makes `hook` run in the middle of the call with this number.
    pub(super) fn during(&self, call: usize, hook: KBox<dyn Hook>) {
        *self.hook.lock() = Some(hook);
        self.with(|d| d.during = Some(call));
    }

    /// Makes `hook` run after a session has checked that it has not ended and before its next call.
    pub(super) fn before_next(&self, hook: KBox<dyn Hook>) {
        *self.before_next.lock() = Some(hook);
    }

    /// Drops the hooks. One that holds the machine makes a cycle: the engine holds the board.
    pub(super) fn forget_hooks(&self) {
        let hooks = (self.hook.lock().take(), self.before_next.lock().take());
        drop(hooks);
    }

    /// Called by a session before it makes a call.
    pub(super) fn about_to_call(&self) {
        let hook = self.before_next.lock().take();
        if let Some(hook) = hook {
            hook.run();
        }
    }

    /// Resets the device.
    pub(super) fn reset(&self) {
        self.with(|d| {
            d.level = RunLevel::Running;
            d.session = Session::None;
        });
    }

    /// Adds a byte to the state, as a guest does while a session reads it.
    pub(super) fn change(&self, byte: u8) -> Result {
        self.with(|d| {
            d.state.push(byte, GFP_KERNEL)?;
            if d.session == Session::Save {
                d.outbox.push(byte, GFP_KERNEL)?;
            }
            if let Some(sleepers) = &d.sleepers {
                sleepers.wake();
            }
            Ok(())
        })
    }

    /// Begins a new initial image.
    pub(super) fn reinit(&self) -> Result {
        self.with(|d| {
            d.generation += 1;
            d.outbox.clear();
            d.outbox.extend_from_slice(&d.state, GFP_KERNEL)?;
            d.initial = d.outbox.len();
            Ok(())
        })
    }

    pub(super) fn call<R>(
        &self,
        op: Op,
        execute: impl FnOnce(&mut Device) -> Result<R>,
    ) -> Result<R> {
        let (number, due) = self.with(|d| -> Result<_> {
            d.calls.push(op, GFP_KERNEL)?;
            let number = d.calls.len() - 1;
            Ok((number, d.during == Some(number)))
        })?;
        if due {
            if let Some(hook) = &*self.hook.lock() {
                hook.run();
            }
        }
        self.with(|d| match d.fail {
            _ if d.gone_from.is_some_and(|from| from <= number) => Err(ENOTCONN),
            Some((first, count, fate, error))
                if (first..first.saturating_add(count as usize)).contains(&number) =>
            {
                if fate == Fate::Unanswered {
                    let _ = execute(d);
                }
                Err(error)
            }
            _ => execute(d),
        })
    }
}

impl Device {
    pub(super) fn pending(&self) -> Pending {
        let (left, image) = match self.session {
            Session::Save => (self.outbox.len(), self.initial),
            _ => (0, 0),
        };
        Pending {
            initial_bytes: image as u64,
            dirty_bytes: (left - image) as u64,
            total_bytes: match self.session {
                Session::Save => left as u64,
                _ => self.state.len() as u64,
            },
            generation: self.generation,
        }
    }

    /// Copies the next bytes of the stream to `to`.
    pub(super) fn deliver(&mut self, to: &mut [u8; CAPACITY], fin: bool) -> Result<Delivered> {
        if self.session != Session::Save {
            return Err(EPROTO);
        }
        let n = self.outbox.len().min(CAPACITY);
        to[..n].copy_from_slice(&self.outbox[..n]);
        let rest = self.outbox.len() - n;
        self.outbox.copy_within(n.., 0);
        self.outbox.truncate(rest);
        self.initial = self.initial.saturating_sub(n);
        if n == 0 && fin && !self.ended {
            to[0] = TRAILER;
            self.ended = true;
            return Ok(Delivered {
                bytes: 1,
                last: true,
            });
        }
        Ok(Delivered {
            bytes: n,
            last: n == 0,
        })
    }
}
