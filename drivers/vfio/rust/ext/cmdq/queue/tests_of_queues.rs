// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of a whole queue, on a device in memory.

use kernel::prelude::*;

#[kunit_tests(ext_cmdq_queue)]
mod tests {
    use super::{
        super::{
            super::{
                board::{
                    Slot,
                    ORDER, //
                },
                buffer::Buffer,
                device::{
                    Limits,
                    MAX_ORDER, //
                },
                fake::{
                    Class,
                    Fake,
                    Order, //
                },
                ticket::Ticket, //
            },
            Life,
            Queue, //
        },
        *, //
    };
    use crate::ext::{
        budget::Budget,
        global::Global,
        patience::Patience,
        testing::DmaDevice,
        trust::Pass, //
    };
    use kernel::{
        sync::{
            atomic::Relaxed,
            Arc, //
        },
        time::{
            delay::fsleep,
            Delta, //
        },
    };

    const LIMITS: Limits = Limits {
        order: ORDER,
        timeout_ms: 1,
    };

    fn up(name: &'static CStr) -> Result<Arc<Queue<Fake>>> {
        let queue = Queue::new(Slot::new(name)?, Fake, Fake::channels(2)?, LIMITS)?;
        queue.start()?;
        Ok(queue)
    }

    fn submit(queue: &Arc<Queue<Fake>>, function: u16) -> Result<Ticket<Fake>> {
        let order = Order::new(function, Class::State);
        queue.submit(order, None, None, Pass::Check, Patience::Killable)
    }

    /// Completes all commands that the device has, and returns their number.
    fn complete_all(queue: &Queue<Fake>) -> u32 {
        let board = &queue.hw.board;
        let mut count = 0;
        while let Some((id, _)) = board.fetch() {
            board.complete(id, 0);
            count += 1;
        }
        queue.look();
        count
    }

    #[test]
    fn commands_complete_in_any_order() -> Result {
        let queue = up(c"cmdq-kunit-order")?;
        let (first, second) = (submit(&queue, 0)?, submit(&queue, 1)?);
        let board = &queue.hw.board;
        let (one, two) = (board.fetch().ok_or(EIO)?, board.fetch().ok_or(EIO)?);
        assert_eq!((one.1, two.1, board.fetch()), (0, 1, None));
        board.complete(two.0, 7);
        queue.look();
        assert!(!first.is_done() && second.is_done());
        assert_eq!(second.wait(), Err(EINVAL));
        board.complete(one.0, 0);
        queue.look();
        assert_eq!(first.wait(), Ok(()));
        assert_eq!(queue.in_flight(), 0);
        assert_eq!(
            (queue.stats.commands.get(), queue.stats.errors.get()),
            (2, 1)
        );
        // Many passes over the rings.
        for _ in 0..100 {
            let ticket = submit(&queue, 0)?;
            assert_eq!(complete_all(&queue), 1);
            assert_eq!(ticket.wait(), Ok(()));
        }
        Ok(())
    }

    /// The interrupt of the first command has not come yet.
    #[test]
    fn a_completion_that_was_not_taken_gives_no_time_to_the_next_command() -> Result {
        let limits = Limits {
            timeout_ms: 60_000,
            ..LIMITS
        };
        let queue = Queue::new(
            Slot::new(c"cmdq-kunit-turns")?,
            Fake,
            Fake::channels(2)?,
            limits,
        )?;
        queue.start()?;
        let first = submit(&queue, 0)?;
        let board = &queue.hw.board;
        let (id, _) = board.fetch().ok_or(EIO)?;
        board.complete(id, 0);
        let second = submit(&queue, 0)?;
        assert!(first.is_done());
        assert!(second.request.remaining_ms() < 2 * limits.timeout_ms);
        assert_eq!(complete_all(&queue), 1);
        assert_eq!(second.wait(), Ok(()));
        Ok(())
    }

    /// The handshake affects the queue only: clients hear nothing, and the thread that waits gets
    /// its reply.
    #[test]
    fn a_completion_that_matches_nothing_costs_a_handshake() -> Result {
        let queue = up(c"cmdq-kunit-garbage")?;
        let (waited, left) = (submit(&queue, 0)?, submit(&queue, 1)?);
        let board = &queue.hw.board;
        let (id, _) = board.fetch().ok_or(EIO)?;
        drop(left);
        board.complete(!id, 0);
        queue.take_completions();
        assert_eq!(queue.state.lock().life, Life::Up);
        assert_eq!(
            (queue.stats.garbage.get(), queue.stats.resets.get()),
            (1, 1)
        );
        assert_eq!(queue.channels[0].resets.load(Relaxed), 0);
        // Only the command for which a thread waits was submitted again.
        assert_eq!(complete_all(&queue), 1);
        assert_eq!(waited.wait(), Ok(()));
        assert_eq!(waited.retire(), 1);
        Ok(())
    }

    #[test]
    fn an_overdue_command_costs_its_function_an_abort() -> Result {
        // A command has 1.5 s: the machine may be busy for some tenths.
        let limits = Limits {
            timeout_ms: 1000,
            ..LIMITS
        };
        let queue = Queue::new(
            Slot::new(c"cmdq-kunit-abort")?,
            Fake,
            Fake::channels(2)?,
            limits,
        )?;
        queue.start()?;
        let late = submit(&queue, 0)?;
        fsleep(Delta::from_millis(1000));
        let (same, other) = (submit(&queue, 0)?, submit(&queue, 1)?);
        fsleep(Delta::from_millis(550));
        // The abort begins, and it ends.
        queue.step();
        queue.step();
        assert_eq!(late.wait(), Err(ETIMEDOUT));
        assert!(!same.is_done() && !other.is_done());
        let stats = &queue.stats;
        assert_eq!((stats.timeouts.get(), stats.aborts.get()), (1, 1));
        assert_eq!((stats.again.get(), stats.resets.get()), (1, 0));
        let board = &queue.hw.board;
        // The device has dropped the commands of function 0.
        let mut dropped = 2;
        while let Some((id, function)) = board.fetch() {
            match (function, dropped) {
                (0, 1..) => dropped -= 1,
                _ => board.complete(id, 0),
            }
        }
        queue.look();
        assert_eq!((same.wait(), other.wait()), (Ok(()), Ok(())));
        assert_eq!((same.retire(), other.retire()), (1, 0));
        Ok(())
    }

    /// The device may still access the buffers of commands that such a recovery ends (mutant M32).
    #[test]
    fn a_recovery_that_fails_leaves_the_device_its_buffers() -> Result {
        let memory = DmaDevice::new(c"cmdq-kunit-kept")?;
        let buffer = Buffer::from_memory(memory.alloc(64)?)?;
        let queue = up(c"cmdq-kunit-deaf")?;
        let order = Order::new(0, Class::State);
        let what = Some((buffer.clone(), 64));
        let ticket = queue.submit(order, what, None, Pass::Check, Patience::Killable)?;
        let board = &queue.hw.board;
        board.deaf.store(true, Relaxed);
        // A completion that matches nothing leads to a handshake.
        let (id, _) = board.fetch().ok_or(EIO)?;
        board.complete(!id, 0);
        queue.look();
        queue.settle(&Budget::new());
        let off = matches!(queue.state.lock().life, Life::Off { .. });
        assert!(off && ticket.is_done());
        assert!(ticket.wait().is_err());
        assert_eq!(queue.in_flight(), 1);
        assert_eq!(buffer.copy_in(0, b"x"), Err(EBUSY));
        // The next recovery succeeds, when the pause of 250 ms is over.
        board.deaf.store(false, Relaxed);
        fsleep(Delta::from_millis(300));
        queue.settle(&Budget::new());
        assert_eq!(queue.state.lock().life, Life::Up);
        assert_eq!(buffer.copy_in(0, b"x"), Ok(()));
        Ok(())
    }

    #[test]
    fn an_outage_ends_what_was_submitted() -> Result {
        let queue = up(c"cmdq-kunit-outage")?;
        queue.channels[1].set_up.store(true, Relaxed);
        let old = submit(&queue, 0)?;
        assert!(queue.halt().is_some());
        assert!(queue.is_halted());
        assert_eq!(old.wait(), Err(EIO));
        assert_eq!(queue.enter().err(), Some(EIO));
        // The device keeps what it has until it is reset.
        assert_eq!(queue.in_flight(), 1);
        queue.lose_trust();
        queue.revive(&Budget::new())?;
        assert_eq!(queue.stats.function_resets.get(), 1);
        assert!(queue.channels[0].resets.load(Relaxed) != 0);
        // What the reset has ended is set up again, and nothing else reaches the device.
        let (_, function) = queue.hw.board.fetch().ok_or(EIO)?;
        assert_eq!((function, queue.hw.board.fetch()), (1, None));
        // A pass from before the outage is worth nothing.
        let order = Order::new(0, Class::State);
        let stale = queue.submit(order, None, None, Pass::Checked(0), Patience::Killable);
        assert_eq!(stale.err(), Some(EAGAIN));
        Ok(())
    }

    #[test]
    fn a_buffer_that_is_too_short_is_refused() -> Result {
        let device = DmaDevice::new(c"cmdq-kunit-short")?;
        let buffer = Buffer::from_memory(device.alloc(64)?)?;
        let queue = up(c"cmdq-kunit-length")?;
        let submit = |len| {
            let order = Order::new(0, Class::State);
            let buffer = Some((buffer.clone(), len));
            queue.submit(order, buffer, None, Pass::Check, Patience::Killable)
        };
        for len in [65, u32::MAX] {
            assert_eq!(submit(len).err(), Some(EINVAL));
        }
        assert_eq!(queue.hw.board.fetch(), None);
        let ticket = submit(64)?;
        assert_eq!(submit(64).err(), Some(EBUSY));
        assert_eq!(complete_all(&queue), 1);
        assert_eq!(ticket.wait(), Ok(()));
        Ok(())
    }

    /// The hardware of a case that has failed: a failed assertion drops nothing.
    static LEFT: Global<Option<Arc<Slot>>> = Global::new();
    const NAME: &CStr = c"cmdq-kunit-left";

    #[test]
    fn a_case_leaves_its_hardware_behind() -> Result {
        // `EBUSY` when the suite runs a second time.
        let _ = LEFT.init(None, c"cmdq_kunit", kernel::static_lock_class!());
        *LEFT.lock()? = Some(Slot::new(NAME)?);
        Ok(())
    }

    #[test]
    fn the_next_one_finds_the_name_free() -> Result {
        let next = Slot::new(NAME);
        *LEFT.lock()? = None;
        next.map(drop)
    }

    /// What would make it access memory or slots that are not there.
    #[test]
    fn a_queue_that_cannot_work_is_refused() -> Result {
        let slot = Slot::new(c"cmdq-kunit-refused")?;
        let new = |channels, order| {
            let limits = Limits { order, ..LIMITS };
            Queue::new(slot.clone(), Fake, channels, limits).map(drop)
        };
        assert_eq!(new(Fake::channels(2)?, ORDER), Ok(()));
        for order in [MAX_ORDER + 1, 31, 32, u32::MAX] {
            assert_eq!(new(Fake::channels(2)?, order), Err(EINVAL));
        }
        let mut swapped = Fake::channels(2)?;
        swapped.swap(0, 1);
        assert_eq!(new(swapped, ORDER), Err(EINVAL));
        let mut second_only = Fake::channels(2)?;
        drop(second_only.remove(0));
        assert_eq!(new(second_only, ORDER), Err(EINVAL));
        Ok(())
    }

    #[test]
    fn nothing_works_after_the_end() -> Result {
        let queue = up(c"cmdq-kunit-end")?;
        let ticket = submit(&queue, 0)?;
        queue.go_down(ENOTCONN);
        assert_eq!(ticket.wait(), Err(ENOTCONN));
        assert_eq!(submit(&queue, 0).err(), Some(ENOTCONN));
        assert!(queue.is_down() && queue.halt().is_none());
        assert_eq!(queue.in_flight(), 1);
        queue.free_slots();
        assert_eq!(queue.in_flight(), 0);
        Ok(())
    }
}
