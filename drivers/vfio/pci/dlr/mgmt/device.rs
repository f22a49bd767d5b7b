// SPDX-License-Identifier: GPL-2.0

//! The device that the layer's command queue drives: the admin queue of the contract.

use super::{
    channel::{
        Channel,
        FunctionData, //
    },
    class::{
        Class,
        CLASSES, //
    },
    hardware::{
        self,
        Hardware,
        Mapped, //
    },
    stats::Stats, //
};
use crate::{
    ext::cmdq::{
        device::{
            self,
            Completed,
            Status, //
        },
        prepared, queue,
        ring::{
            Consumer,
            Producer, //
        },
        ticket,
    },
    proto::{
        admin::{
            self,
            Command,
            Completion,
            Kind,
            KINDS, //
        },
        regs,
        MAX_FUNCTIONS, //
    },
};
use kernel::{
    dma::Coherent,
    io::Io,
    prelude::*,
    sync::atomic::Relaxed,
    time::{
        Instant,
        Monotonic, //
    },
};

/// The admin queue.
pub(super) type Queue = queue::Queue<Management>;
/// A submitted command.
pub(crate) type Ticket = ticket::Ticket<Management>;
/// A command with all its memory before its submission.
pub(crate) type Prepared = prepared::Prepared<Management>;

static_assert!(MAX_FUNCTIONS <= device::MAX_FUNCTIONS);

/// A management function of the contract.
pub(crate) struct Management {
    pub(super) stats: Stats,
}

/// Reply to a successful command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    /// Result of the command; for SAVE_READ, the number of bytes.
    pub(crate) result: u32,
    /// SAVE_READ: the device has nothing more to deliver for now.
    pub(crate) empty: bool,
    /// SAVE_READ: the device has delivered the last byte of the stream.
    pub(crate) end: bool,
}

impl device::Command for Command {
    const CLASSES: usize = CLASSES;
    const KINDS: usize = KINDS;

    type Class = Class;

    fn function(&self) -> u16 {
        Command::function(self)
    }

    fn class(&self) -> Class {
        Class::of(self)
    }

    fn kind(&self) -> usize {
        Command::kind(self) as usize
    }

    fn row(&self) -> usize {
        Command::row(self) as usize
    }

    fn is_idempotent(&self) -> bool {
        Command::is_idempotent(self)
    }

    fn wakes_reader(&self) -> bool {
        !self.is_log_sync()
    }

    fn name(&self) -> &'static str {
        admin::opcode_name(self.opcode())
    }
}

impl device::Device for Management {
    type Command = Command;
    type Reply = Reply;
    type Answer = Completion;
    type Function = FunctionData;
    type Cell = Hardware;
    type Ring = Coherent<[u64]>;

    fn submissions(hw: &Mapped) -> &Coherent<[u64]> {
        &hw.data().sq
    }

    fn completions(hw: &Mapped) -> &Coherent<[u64]> {
        &hw.data().cq
    }

    fn push(
        ring: &Coherent<[u64]>,
        sq: &mut Producer,
        command: &Command,
        id: u16,
        (address, len): (u64, u32),
    ) -> Result {
        sq.push(ring, &command.encode(id, address, len))
    }

    fn pop(ring: &Coherent<[u64]>, cq: &mut Consumer) -> Option<Completed<Completion>> {
        let answer = Completion::decode(cq.pop(ring, admin::phase)?);
        Some(Completed {
            id: answer.id,
            consumed: answer.sq_head,
            answer,
        })
    }

    fn outcome(answer: &Completion) -> Result<Reply> {
        admin::status_to_result(answer.status).map(|()| Reply {
            result: answer.result,
            empty: answer.empty,
            end: answer.end,
        })
    }

    fn set_tail(hw: &Mapped, tail: u32) {
        hw.bar().write_reg(regs::SQ_TAIL::from_raw(tail));
    }

    fn set_head(hw: &Mapped, head: u32) {
        hw.bar().write_reg(regs::CQ_HEAD::from_raw(head));
    }

    fn status(hw: &Mapped) -> Status {
        let status = hw.bar().read(regs::STATUS);
        Status {
            ready: status.ready(),
            fatal: status.fatal(),
            gone: status.is_gone(),
        }
    }

    fn begin_enable(hw: &Mapped, vector: u32) {
        hardware::begin_enable(hw, vector);
    }

    fn begin_handshake(hw: &Mapped) {
        hw.bar().write_reg(regs::CONTROL::zeroed());
    }

    fn begin_reset(hw: &Mapped) {
        hardware::begin_reset(hw);
    }

    fn is_resetting(hw: &Mapped) -> bool {
        hw.bar().read(regs::CONTROL).reset()
    }

    fn reset(hw: &Mapped, ms: u32) -> Result {
        hardware::reset(hw, ms)
    }

    fn answers(hw: &Mapped) -> bool {
        hardware::answers(hw)
    }

    fn begin_abort(hw: &Mapped, function: u16) {
        let abort = regs::FN_ABORT::zeroed().with_abort(true);
        // The register of a function that the device has is in the BAR.
        let _ =
            regs::of_function(function.into()).and_then(|place| hw.bar().try_write(place, abort));
    }

    fn is_aborting(hw: &Mapped, function: u16) -> bool {
        let read =
            || -> Result<regs::FN_ABORT> { hw.bar().try_read(regs::of_function(function.into())?) };
        read().map_or(true, |register| register.abort())
    }

    fn completed(
        &self,
        command: &Command,
        channel: Option<&Channel>,
        start: Instant<Monotonic>,
        outcome: &Result<Reply>,
    ) {
        if outcome.is_ok() && command.is_log_sync() {
            let ns = start.elapsed().as_nanos();
            self.stats.syncs.count();
            self.stats.sync_ns.add(ns);
            self.stats.sync_max_ns.at_least(ns);
        }
        if let (Kind::Page, Some(channel)) = (command.kind(), channel) {
            channel.set_page_live(outcome.is_ok());
        }
    }

    fn raised(&self) {
        self.stats.log_interrupts.count();
    }

    fn set_up(channel: &Channel) -> Option<Command> {
        let page = channel.page.load(Relaxed);
        (page != 0).then(|| Command::status_page(channel.number, page))
    }

    fn forget(function: &FunctionData) {
        function.set_page_live(false);
    }

    /// Ends the log. Its ring stays allocated: a LOG_START that waits for the end of the outage may
    /// name it. The LOG_STOP of the owner frees it.
    fn halt(function: &FunctionData) {
        function.log.lock().active = false;
    }

    /// Forgets the ring of a log that the device does not write any more. Its memory was freed with
    /// the bound cell.
    fn free(function: &FunctionData) {
        let mut log = function.log.lock();
        log.active = false;
        log.ring = None;
    }
}

#[kunit_tests(dlr_mgmt_device)]
mod tests {
    use super::*;
    use crate::ext::cmdq::device::Device;

    /// Otherwise the driver would read the contents that a page had before a reset.
    #[test]
    fn v8_only_a_page_that_the_device_has_taken_is_current() -> Result {
        let channel = FunctionData::channel(0)?;
        let management = Management {
            stats: Stats::new(),
        };
        let complete = |command: Command, status| {
            let answer = Completion {
                result: 0,
                empty: false,
                end: false,
                sq_head: 0,
                id: 0,
                status,
            };
            let outcome = Management::outcome(&answer);
            management.completed(&command, Some(&channel), Instant::now(), &outcome);
        };
        let page = || Command::status_page(0, 0x1000);
        assert!(!channel.is_page_live());
        complete(page(), 0);
        assert!(channel.is_page_live());
        // Other commands do not affect the page.
        complete(Command::save_end(0), 1);
        assert!(channel.is_page_live());
        complete(page(), 1);
        assert!(!channel.is_page_live());
        complete(Command::save_end(0), 0);
        assert!(!channel.is_page_live());
        Ok(())
    }
}
