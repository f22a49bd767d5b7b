// SPDX-License-Identifier: GPL-2.0

//! The engine of the fake device.

use super::{
    board::{
        Board,
        Op,
        Session,
        CAPACITY, //
    },
    streams::{
        FakeBuffer,
        FakeSink,
        FakeSource, //
    },
};
use crate::vfio::migration::{
    accounting::Pending,
    engine::{
        Engine,
        WaitLimit, //
    },
    load::{
        LoadIo,
        LoadStart, //
    },
    save::SaveStart,
    state::RunLevel, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Number of buffers of a session.
const BUFFERS: usize = 3;

/// The engine of the fake device.
pub(super) struct FakeEngine(pub(super) Arc<Board>);

impl Engine for FakeEngine {
    type Context<'a> = ();
    type Save = FakeSource;
    type Load = FakeSink;

    fn attach(&self, _cx: &()) -> Result {
        self.0.call(Op::Attach, |_| Ok(()))
    }

    fn set_level(&self, _cx: &(), from: RunLevel, to: RunLevel, _wait: WaitLimit<'_>) -> Result {
        self.0.call(Op::SetLevel, |d| {
            if d.level != from && d.level != to {
                return Err(EPROTO);
            }
            // A device with a load session does not run.
            if d.session == Session::Load && to < d.level {
                return Err(EBUSY);
            }
            d.level = to;
            Ok(())
        })
    }

    fn begin_save(&self, _cx: &(), stopped: bool) -> Result<SaveStart<FakeSource>> {
        let mut buffers = KVec::new();
        for _ in 0..BUFFERS {
            buffers.push(FakeBuffer::new()?, GFP_KERNEL)?;
        }
        let pending = self.0.call(Op::BeginSave, |d| {
            if d.session != Session::None {
                return Err(EBUSY);
            }
            if stopped != (d.level == RunLevel::Stopped) {
                return Err(EPROTO);
            }
            d.session = Session::Save;
            d.outbox.clear();
            d.outbox.extend_from_slice(&d.state, GFP_KERNEL)?;
            d.initial = d.outbox.len();
            d.ended = false;
            Ok(d.pending())
        })?;
        Ok(SaveStart {
            source: FakeSource(self.0.clone()),
            buffers,
            capacity: CAPACITY,
            pending,
        })
    }

    fn begin_load(&self, _cx: &()) -> Result<LoadStart<FakeSink>> {
        self.0.call(Op::BeginLoad, |d| {
            if d.session != Session::None {
                return Err(EBUSY);
            }
            if d.level != RunLevel::Stopped {
                return Err(EPROTO);
            }
            d.session = Session::Load;
            d.inbox.clear();
            Ok(())
        })?;
        Ok(LoadStart {
            sink: FakeSink::new(self.0.clone()),
            parser: KVVec::new(),
            io: (),
        })
    }

    fn install(&self, _cx: &(), _sink: &FakeSink, io: &LoadIo<()>) -> Result {
        // The lock is one that a reset takes, and this may sleep.
        if io.is_held() {
            return Err(EBUSY);
        }
        self.0.call(Op::Install, |d| {
            d.state = core::mem::replace(&mut d.inbox, KVVec::new());
            d.session = Session::None;
            Ok(())
        })
    }

    fn end_sessions(&self, _cx: &()) -> Result {
        self.0.call(Op::EndSessions, |d| {
            d.session = Session::None;
            Ok(())
        })
    }

    fn pending(&self, _cx: &()) -> Result<Pending> {
        Ok(self.0.with(|d| d.pending()))
    }

    fn recover(&self) -> Result {
        self.0.call(Op::Recover, |d| {
            d.session = Session::None;
            d.level = RunLevel::Running;
            Ok(())
        })
    }
}
