// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the commands of a data function do and refuse.

use std::sync::atomic::Ordering;

use dlr_core::FnState;

use super::*;

#[test]
fn bad_entries_are_refused() {
    let mut d = Driver::new();
    assert_eq!(d.plain(0, 0), abi::DLR_STATUS_INVALID_OPCODE);
    for function in [3, 0xffff] {
        let status = d.plain(abi::DLR_CMD_SAVE_END, function);
        assert_eq!(status, abi::DLR_STATUS_INVALID_FUNCTION);
    }
    let spoil: [fn(&mut abi::dlr_sqe); 5] = [
        |s| s.reserved0 = 1,
        |s| s.flags = 2,
        |s| s.params[39] = 1,
        |s| s.addr = BUFFER,
        |s| s.len = 1,
    ];
    for spoil in spoil {
        let (status, ..) = d.run(|sqe| {
            sqe.opcode = abi::DLR_CMD_SAVE_BEGIN as u16;
            spoil(sqe);
        });
        assert_eq!(status, FIELD);
    }
    assert_eq!(d.buffered(abi::DLR_CMD_IDENTIFY_FN, 0, 63, 0).0, FIELD);
    let (status, ..) = d.run(|sqe| {
        sqe.opcode = abi::DLR_CMD_IDENTIFY_FN as u16;
        sqe.addr = MEMORY as u64 - 8;
        sqe.len = 64;
    });
    assert_eq!(status, abi::DLR_STATUS_DMA_FAULT);
}

#[test]
fn levels_are_taken_one_at_a_time() {
    let mut d = Driver::new();
    let (down, up) = (abi::DLR_CMD_SUSPEND, abi::DLR_CMD_RESUME);
    let (run, p2p, stop) = (
        abi::DLR_FN_RUNNING,
        abi::DLR_FN_RUNNING_P2P,
        abi::DLR_FN_STOPPED,
    );
    assert_eq!(d.level(down, 1, stop), STATE, "skips one");
    assert_eq!(d.level(down, 1, run), OK, "is there");
    assert_eq!(d.level(down, 1, 3), FIELD);
    assert_eq!(d.level(down, 1, p2p), OK);
    assert_eq!(d.level(down, 1, stop), OK);
    assert_eq!(d.log_register(1, abi::DLR_REG_FN_STATE), stop);
    assert_eq!(d.level(down, 1, p2p), STATE, "wrong direction");
    assert_eq!(d.level(up, 1, run), STATE, "skips one");
    assert_eq!(d.level(up, 1, p2p), OK);
    assert_eq!(d.level(up, 1, run), OK);
    assert_eq!(d.log_register(0, abi::DLR_REG_FN_STATE), run);
}

#[test]
fn what_a_function_does_without_it_refuses() {
    let mut d = Driver::with([
        abi::DLR_FN_CAP_P2P,
        abi::DLR_FN_CAP_PRECOPY,
        abi::DLR_FN_CAP_LOG | abi::DLR_FN_CAP_STATE | abi::DLR_FN_CAP_STATUS_PAGE,
    ]);
    d.enable(2, 2);
    let (run, p2p, stop) = (
        abi::DLR_FN_RUNNING,
        abi::DLR_FN_RUNNING_P2P,
        abi::DLR_FN_STOPPED,
    );
    let (down, up) = (abi::DLR_CMD_SUSPEND, abi::DLR_CMD_RESUME);
    assert_eq!(d.level(down, 0, p2p), FIELD);
    assert_eq!(d.level(down, 0, stop), OK, "not beyond the next one");
    assert_eq!(d.functions[0].state(), FnState::Stopped);
    assert_eq!(d.level(up, 0, p2p), FIELD);
    assert_eq!(d.level(up, 0, run), OK);
    assert_eq!(d.functions[0].state(), FnState::Running);

    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 1), OK);
    let read = |d: &mut Driver, flags| d.buffered(abi::DLR_CMD_SAVE_READ, 1, 4096, flags).0;
    assert_eq!(read(&mut d, 0), FIELD, "no changes while it runs");
    assert_eq!(d.level(down, 1, p2p), OK);
    assert_eq!(d.level(down, 1, stop), OK);
    assert_eq!(read(&mut d, abi::DLR_SAVE_READ_F_FINAL), OK);

    for opcode in [
        abi::DLR_CMD_SAVE_BEGIN,
        abi::DLR_CMD_SAVE_END,
        abi::DLR_CMD_LOAD_ABORT,
        abi::DLR_CMD_LOG_STOP,
        abi::DLR_CMD_STATUS_PAGE,
    ] {
        assert_eq!(d.plain(opcode, 2), abi::DLR_STATUS_INVALID_OPCODE);
    }
    assert_eq!(d.level(down, 2, p2p), abi::DLR_STATUS_INVALID_OPCODE);
    assert_eq!(d.log_start(2, |_| ()), abi::DLR_STATUS_INVALID_OPCODE);
}

#[test]
fn an_update_of_the_firmware_changes_what_a_function_can_do() {
    let mut d = Driver::new();
    let caps = |d: &mut Driver, k| {
        assert_eq!(d.buffered(abi::DLR_CMD_IDENTIFY_FN, k, 64, 0).0, OK);
        d.memory.u64(BUFFER) as u32
    };
    let all = caps(&mut d, 0);
    assert!(d
        .mf
        .set_without(0, abi::DLR_FN_CAP_P2P | abi::DLR_FN_CAP_LOG));
    assert!(!d.mf.set_without(3, 0));
    let gone = abi::DLR_FN_CAP_P2P | abi::DLR_FN_CAP_LOG | abi::DLR_FN_CAP_HOLD;
    assert_eq!(caps(&mut d, 0), all & !gone);
    assert_eq!(caps(&mut d, 1), all);
    assert_eq!(d.log_start(0, |_| ()), abi::DLR_STATUS_INVALID_OPCODE);
    assert!(d.mf.set_without(0, 0));
    assert_eq!(caps(&mut d, 0), all);
}

#[test]
fn log_start_checks_its_parameters() {
    let mut d = Driver::new();
    let spoil: [fn(&mut abi::dlr_log_start_params); 11] = [
        |p| p.ring_order = 3,
        |p| p.ring_order = 20,
        |p| p.page_shift = 11,
        |p| p.page_shift = 22,
        |p| p.ring = RING + 8,
        |p| p.vector = 4,
        |p| p.irq_threshold = 0,
        |p| p.irq_threshold = 17,
        |p| p.num_ranges = 0,
        |p| p.num_ranges = 65,
        |p| p.reserved[3] = 1,
    ];
    for (n, spoil) in spoil.into_iter().enumerate() {
        assert_eq!(d.log_start(0, spoil), FIELD, "case {n}");
    }
    for (iova, length) in [(1, 4096), (0, 0), (0, 4095), (!4095, 8192), (1 << 52, 4096)] {
        let range = abi::dlr_range { iova, length };
        d.memory.write(BUFFER + 16, range.as_bytes()).unwrap();
        assert_eq!(d.log_start(0, |p| p.num_ranges = 2), FIELD);
    }
    assert_eq!(d.log_start(0, |_| ()), OK);
    assert_eq!(d.log_start(0, |_| ()), abi::DLR_STATUS_BUSY);
    assert_eq!(d.plain(abi::DLR_CMD_LOG_STOP, 0), OK);
    assert_eq!(d.plain(abi::DLR_CMD_LOG_STOP, 0), OK);
}

#[test]
fn a_log_has_the_address_bits_that_it_was_given() {
    let narrow = |iova_bits| FunctionConfig {
        iova_bits,
        ..function(0)
    };
    let mut d = Driver::of([narrow(Some(32)), narrow(None), narrow(Some(99))]);
    d.enable(2, 2);
    for (function, bits) in [(0, 32), (1, 52), (2, 52)] {
        let identify = abi::DLR_CMD_IDENTIFY_FN;
        assert_eq!(d.buffered(identify, function, 64, 0).0, OK);
        let mut info = abi::dlr_identify_fn::new_zeroed();
        d.memory.read(BUFFER, info.as_mut_bytes()).unwrap();
        assert_eq!(info.iova_bits, bits);
        for (end, status) in [((1 << bits) + 4096, FIELD), (1 << bits, OK)] {
            let range = abi::dlr_range {
                iova: end - 8192,
                length: 8192,
            };
            d.memory.write(BUFFER + 16, range.as_bytes()).unwrap();
            assert_eq!(d.log_start(function, |p| p.num_ranges = 2), status);
        }
        let beyond = abi::dlr_range {
            iova: 1 << bits,
            length: 4096,
        };
        d.memory.write(BUFFER, beyond.as_bytes()).unwrap();
        let add = abi::DLR_CMD_LOG_ADD;
        assert_eq!(d.buffered(add, function, 16, 0).0, FIELD);
        assert_eq!(d.plain(abi::DLR_CMD_LOG_STOP, function), OK);
    }
}

#[test]
fn a_log_through_registers_and_commands() {
    let mut d = Driver::new();
    assert_eq!(d.log_start(2, |_| ()), OK);
    let sink = d.mf.dirty_sink(2).unwrap();
    for n in 0..8 {
        sink.dirty(n * 8192, 100);
    }
    assert_eq!(d.log_register(2, abi::DLR_REG_LOG_POSTED), 8);
    assert_eq!(d.interrupt.count(1), 1);
    d.mf.write32(
        abi::DLR_REG_FN_BASE + 2 * abi::DLR_REG_FN_STRIDE + abi::DLR_REG_LOG_HEAD,
        8,
    );
    d.sync_all(2, 0xabc);
    assert_eq!(d.completion(1000).unwrap().status, 0);
    assert_eq!(d.memory.u64(RING + 8 * 8), 0xabc << 12 | 2 << 1 | 1);
    // FLR of the function leaves the log alone; reset of the MF ends it.
    d.mf.events(2).unwrap().function_reset();
    sink.dirty(0, 1);
    assert_eq!(d.log_register(2, abi::DLR_REG_LOG_POSTED), 10);
    d.mf.reset();
    assert_eq!(
        d.log_register(2, abi::DLR_REG_LOG_POSTED),
        abi::DLR_LOG_POSTED_ERROR
    );
    assert_eq!(d.log_register(2, abi::DLR_REG_LOG_STATE), 0);
}

/// Rule 7. Nothing but the ring in memory is looked at: POSTED and SYNC would push the entry.
#[test]
fn suspend_posts_the_entries_of_all_writes() {
    let mut d = Driver::new();
    assert_eq!(d.log_start(0, |_| ()), OK);
    d.mf.dirty_sink(0).unwrap().dirty(0x5000, 1);
    assert_eq!(d.memory.u64(RING), 0, "a run may still grow");
    let down = abi::DLR_CMD_SUSPEND;
    assert_eq!(d.level(down, 0, abi::DLR_FN_RUNNING_P2P), OK);
    assert_eq!(d.memory.u64(RING) >> 12, 5);
}

#[test]
fn held_work_goes_on_after_log_head_log_stop_and_reset() {
    let mut d = Driver::new();
    let rooms = |d: &Driver| d.functions[0].rooms.load(Ordering::Relaxed);
    for n in 0..3 {
        let status = d.log_start(0, |p| p.hold_us = abi::DLR_LOG_MAX_HOLD_US);
        assert_eq!(status, OK);
        let sink = d.mf.dirty_sink(0).unwrap();
        for page in 0..9 {
            sink.dirty(page * 8192, 1);
        }
        assert!(sink.hold_until(8).is_some());
        let before = rooms(&d);
        match n {
            0 => d.write_fn(0, abi::DLR_REG_LOG_HEAD, 8),
            1 => {}
            _ => {
                d.mf.write32(abi::DLR_REG_CONTROL, abi::DLR_CONTROL_RESET);
                assert_eq!(rooms(&d), before + 1);
                return;
            }
        }
        assert_eq!(rooms(&d) - before, u64::from(n == 0));
        assert_eq!(d.plain(abi::DLR_CMD_LOG_STOP, 0), OK);
        assert!(rooms(&d) > before);
        assert!(sink.hold_until(8).is_none());
    }
}

#[test]
fn an_entry_can_come_after_the_suspension() {
    let mut d = Driver::new();
    assert_eq!(d.log_start(0, |_| ()), OK);
    d.sabotage.set(SabotageKind::EntryAfterSuspend, 100);
    d.mf.dirty_sink(0).unwrap().dirty(0x5000, 1);
    let down = abi::DLR_CMD_SUSPEND;
    assert_eq!(d.level(down, 0, abi::DLR_FN_RUNNING_P2P), OK);
    let posted = |d: &Driver| d.log_register(0, abi::DLR_REG_LOG_POSTED);
    assert_eq!((posted(&d), d.memory.u64(RING)), (0, 0));
    d.wait(|d| posted(d) == 1);
    assert_eq!(d.memory.u64(RING) >> 12, 5);
}

#[test]
fn hold_us_is_checked() {
    let mut d = Driver::with([0, abi::DLR_FN_CAP_HOLD, 0]);
    d.enable(2, 2);
    let most = abi::DLR_LOG_MAX_HOLD_US;
    assert_eq!(d.log_start(0, |p| p.hold_us = most + 1), FIELD);
    assert_eq!(d.log_start(0, |p| p.hold_us = most), OK);
    assert_eq!(d.log_start(1, |p| p.hold_us = 1), FIELD, "not without HOLD");
    assert_eq!(d.log_start(1, |p| p.hold_us = 0), OK);
}

#[test]
fn a_marker_without_room_is_busy_in_time() {
    let mut d = Driver::new();
    assert_eq!(d.log_start(0, |_| ()), OK);
    let sink = d.mf.dirty_sink(0).unwrap();
    for n in 0..30 {
        sink.dirty(n * 8192, 1);
    }
    let begin = Instant::now();
    d.sync_all(0, 1);
    let cqe = d.completion(1000).unwrap();
    assert_eq!(u32::from(cqe.status), abi::DLR_STATUS_BUSY);
    assert!(begin.elapsed() < Duration::from_millis(400));
}

#[test]
fn status_page_follows_the_session() {
    let mut d = Driver::new();
    assert_eq!(d.set_page(0, PAGE + 8), FIELD);
    assert_eq!(d.set_page(0, MEMORY as u64), abi::DLR_STATUS_DMA_FAULT);
    assert_eq!(d.set_page(0, PAGE), OK);
    let idle = d.page();
    assert!(idle.seq % 2 == 0 && idle.seq > 0 && idle.health == 0);
    assert!(idle.initial_bytes > 8192 && idle.total_bytes > idle.initial_bytes);
    assert_eq!(idle.dirty_bytes, 0);

    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), OK);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), abi::DLR_STATUS_BUSY);
    let (_, result, flags) = d.buffered(abi::DLR_CMD_SAVE_READ, 0, 0x8000, 0);
    assert_eq!(u64::from(result), idle.initial_bytes);
    assert_eq!(flags, 0);
    assert_eq!(d.page().initial_bytes + d.page().dirty_bytes, 0);
    assert_ne!(d.page().total_bytes, 0);
    let (_, result, flags) = d.buffered(abi::DLR_CMD_SAVE_READ, 0, 0x8000, 0);
    assert_eq!((result, flags), (0, abi::DLR_CQE_F_EMPTY));

    // Traffic, then a reset of the personality: the page follows by itself.
    let wait = |d: &Driver, what: &dyn Fn(&abi::dlr_status_page) -> bool| {
        let end = Instant::now() + Duration::from_secs(5);
        while !what(&d.page()) {
            assert!(Instant::now() < end, "{:?}", d.page().dirty_bytes);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    d.mf.flow_sink(0).unwrap().packet(true, &[1; 60]);
    wait(&d, &|p| p.dirty_bytes > 4096);
    d.mf.events(0).unwrap().reconfigured();
    wait(&d, &|p| p.reinit_count == 1 && p.initial_bytes > 8192);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_END, 0), OK);
    assert_eq!(d.page().initial_bytes, idle.initial_bytes);
    assert_eq!(d.set_page(0, 0), OK);
    let last = d.page().seq;
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), OK);
    assert_eq!(d.page().seq, last, "not written any more");
}
