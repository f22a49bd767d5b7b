// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The two rows of a function's commands.

use super::*;

#[test]
fn neither_row_waits_for_the_other() {
    let mut d = Driver::new();
    assert_eq!(d.log_start(0, |_| ()), OK);
    for (slow, quick) in [
        (abi::DLR_CMD_SAVE_END, abi::DLR_CMD_LOG_STOP),
        (abi::DLR_CMD_LOG_STOP, abi::DLR_CMD_SAVE_END),
    ] {
        d.mf.inject(slow as u16, once(FaultAction::Delay(200)));
        let first = d.send(slow, 0);
        let second = d.send(quick, 0);
        assert_eq!(d.completions(2), [(second, OK), (first, OK)]);
    }
}

#[test]
fn a_row_keeps_its_order() {
    let mut d = Driver::disabled();
    d.enable(4, 4);
    assert_eq!(d.log_start(0, |_| ()), OK);
    d.mf.inject(abi::DLR_CMD_LOG_SYNC as u16, once(FaultAction::Delay(100)));
    d.mf.inject(abi::DLR_CMD_SAVE_END as u16, once(FaultAction::Delay(50)));
    let log = [d.sync_all(0, 1), d.send(abi::DLR_CMD_LOG_STOP, 0)];
    let state = [
        d.send(abi::DLR_CMD_SAVE_END, 0),
        d.send(abi::DLR_CMD_LOAD_ABORT, 0),
    ];
    let done = d.completions(4);
    assert!(done.iter().all(|&(_, status)| status == OK));
    let of = |row: [u16; 2]| done.iter().map(|d| d.0).filter(move |id| row.contains(id));
    assert!(of(log).eq(log), "{done:?}");
    assert!(of(state).eq(state), "{done:?}");
}

#[test]
fn suspend_does_not_wait_for_a_sync_without_room() {
    let mut d = Driver::new();
    d.full_log(0);
    let sync = d.sync_all(0, 1);
    let suspend = d.submit(|sqe| {
        sqe.opcode = abi::DLR_CMD_SUSPEND as u16;
        sqe.params[0] = abi::DLR_FN_RUNNING_P2P as u8;
    });
    assert_eq!(d.completions(1), [(suspend, OK)]);
    d.write_fn(0, abi::DLR_REG_LOG_HEAD, 1);
    assert_eq!(d.completions(1), [(sync, OK)]);
}

#[test]
fn log_stop_ends_a_sync_that_waits_for_room() {
    let mut d = Driver::new();
    d.full_log(0);
    let begin = Instant::now();
    let sync = d.sync_all(0, 1);
    std::thread::sleep(Duration::from_millis(30));
    let stop = d.send(abi::DLR_CMD_LOG_STOP, 0);
    assert_eq!(d.completions(2), [(sync, BUSY), (stop, OK)]);
    assert!(begin.elapsed() < Duration::from_millis(250));
    assert_eq!(d.log_register(0, abi::DLR_REG_LOG_STATE), 0);
    // A new log knows nothing of that LOG_STOP.
    d.full_log(0);
    let sync = d.sync_all(0, 2);
    std::thread::sleep(Duration::from_millis(100));
    d.write_fn(0, abi::DLR_REG_LOG_HEAD, 1);
    assert_eq!(d.completions(1), [(sync, OK)]);
}

#[test]
fn a_sync_that_is_busy_has_changed_nothing() {
    let mut d = Driver::new();
    d.full_log(0);
    let sync = d.sync_all(0, 7);
    assert_eq!(d.completions(1), [(sync, BUSY)]);
    // Given again after the driver has consumed: one marker.
    d.write_fn(0, abi::DLR_REG_LOG_HEAD, 15);
    let sync = d.sync_all(0, 7);
    assert_eq!(d.completions(1), [(sync, OK)]);
    assert_eq!(d.log_register(0, abi::DLR_REG_LOG_POSTED), 16);
    assert_eq!(d.memory.u64(RING + 15 * 8) >> 12, 7);
}
