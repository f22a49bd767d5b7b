// SPDX-License-Identifier: Apache-2.0 OR MIT

//! FN_ABORT.

use super::*;
use crate::{RegisterBit, RegisterFault};

const END: u32 = abi::DLR_CMD_SAVE_END;

impl Driver {
    fn aborting(&self, function: u32) -> bool {
        self.log_register(function, abi::DLR_REG_FN_ABORT) != 0
    }

    /// A delay that no command has met, because it was dropped before its turn, meets no other.
    fn undelay(&self) {
        let none = Fault {
            count: 0,
            ..once(FaultAction::Drop)
        };
        self.mf.inject(END as u16, none);
    }

    fn abort(&self, function: u32) {
        self.write_fn(function, abi::DLR_REG_FN_ABORT, abi::DLR_FN_ABORT);
        self.wait(|d| !d.aborting(function));
    }
}

#[test]
fn it_drops_the_commands_of_one_function_and_of_no_other() {
    let mut d = Driver::disabled();
    d.enable(4, 4);
    assert_eq!(d.set_page(0, PAGE), OK);
    d.mf.inject(
        END as u16,
        Fault {
            action: FaultAction::Delay(10_000),
            after: 0,
            count: 1,
        },
    );
    let seen = d.page().seq;
    d.send(END, 0);
    let behind = |sqe: &mut abi::dlr_sqe| {
        sqe.opcode = abi::DLR_CMD_IDENTIFY_FN as u16;
        (sqe.addr, sqe.len) = (BUFFER, 64);
    };
    d.submit(behind);
    d.mf.inject(
        abi::DLR_CMD_SAVE_BEGIN as u16,
        once(FaultAction::Delay(100)),
    );
    let other = d.send(abi::DLR_CMD_SAVE_BEGIN, 1);
    let begin = Instant::now();
    d.abort(0);
    assert!(begin.elapsed() < Duration::from_millis(400), "CMD_TIMEOUT");
    assert_eq!(d.completions(1), [(other, OK)]);
    assert!(d.completion(50).is_none());
    assert_eq!(d.memory.u64(BUFFER), 0, "the buffer of a dropped command");
    // Its next commands do not wait for what was dropped.
    d.undelay();
    assert_eq!(d.plain(END, 0), OK);
    assert_eq!(d.mf.stats()["functions"][0]["aborts"], 1);
    assert_eq!(d.mf.stats()["functions"][1]["session"], "save");
    // The status page goes on.
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), OK);
    assert!(d.page().seq > seen);
    assert_eq!(d.mf.stats()["queue"]["outstanding"], 0);
}

#[test]
fn it_ends_a_sync_that_waits_and_leaves_the_log_alone() {
    let mut d = Driver::new();
    d.full_log(0);
    d.sync_all(0, 1);
    std::thread::sleep(Duration::from_millis(20));
    let begin = Instant::now();
    d.abort(0);
    assert!(begin.elapsed() < Duration::from_millis(40));
    d.write_fn(0, abi::DLR_REG_LOG_HEAD, 15);
    assert_eq!(d.log_register(0, abi::DLR_REG_LOG_POSTED), 15, "no marker");
    d.mf.dirty_sink(0).unwrap().dirty(1 << 20, 1);
    assert_eq!(d.log_register(0, abi::DLR_REG_LOG_POSTED), 16);
    assert!(d.completion(20).is_none());
}

#[test]
fn it_reads_as_one_until_dropped_commands_have_ended() {
    let mut d = Driver::new();
    assert_eq!(d.log_start(0, |_| ()), OK);
    // A command that cannot be cut short: it sleeps between filter and marker.
    d.sabotage.set(SabotageKind::MarkerTooEarly, 150);
    d.sync_all(0, 1);
    std::thread::sleep(Duration::from_millis(30));
    d.write_fn(0, abi::DLR_REG_FN_ABORT, abi::DLR_FN_ABORT);
    assert!(d.aborting(0) && !d.aborting(1));
    // In force for its function alone: others are executed meanwhile.
    assert_eq!(d.plain(END, 1), OK);
    d.wait(|d| !d.aborting(0));
    // The row is free: nothing of the dropped command comes any more.
    d.sabotage.set(SabotageKind::MarkerTooEarly, 0);
    let marker = d.memory.u64(RING);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(d.memory.u64(RING), marker);
    assert!(d.completion(20).is_none());
}

#[test]
fn what_was_not_fetched_is_dropped_too() {
    let mut d = Driver::disabled();
    // Four completions fit: the others are not even fetched.
    d.enable(4, 2);
    d.mf.inject(
        END as u16,
        Fault {
            action: FaultAction::Delay(10_000),
            after: 0,
            count: 1,
        },
    );
    for _ in 0..6 {
        d.send(END, 0);
    }
    let other = d.send(END, 1);
    assert!(d.completion(30).is_none(), "no room for it yet");
    d.abort(0);
    d.undelay();
    let cqe = d.completion(2000).unwrap();
    assert_eq!((cqe.id, u32::from(cqe.sq_head)), (other, 7));
    // What is submitted from now on is executed.
    for _ in 0..9 {
        assert_eq!(d.plain(END, 0), OK);
    }
    assert!(d.completion(20).is_none());
}

#[test]
fn completions_that_were_posted_stay_valid() {
    let mut d = Driver::new();
    let id = d.send(END, 0);
    d.wait(|d| d.mf.stats()["queue"]["completed"] == 1);
    d.abort(0);
    assert_eq!(d.completions(1), [(id, OK)]);
    // As many as ever fit.
    let ids: Vec<_> = (0..4).map(|_| d.send(END, 0)).collect();
    let done: Vec<_> = d.completions(4).into_iter().map(|c| c.0).collect();
    assert_eq!(done, ids);
}

#[test]
fn it_needs_a_ready_queue_and_a_one() {
    let mut d = Driver::disabled();
    d.write_fn(0, abi::DLR_REG_FN_ABORT, 1);
    assert!(!d.aborting(0));
    d.enable(2, 2);
    d.mf.inject(END as u16, once(FaultAction::Delay(50)));
    let id = d.send(END, 0);
    d.write_fn(0, abi::DLR_REG_FN_ABORT, 0);
    assert_eq!(d.completions(1), [(id, OK)]);
}

#[test]
fn faults_of_the_register() {
    let mut d = Driver::new();
    let slow = |d: &mut Driver| {
        d.mf.inject(END as u16, once(FaultAction::Delay(10_000)));
        d.send(END, 0);
        d.write_fn(0, abi::DLR_REG_FN_ABORT, 1);
    };
    // Late: until then other functions complete, and the command is not dropped.
    d.mf.inject_register(RegisterBit::Abort, RegisterFault::Delay(50), 1);
    slow(&mut d);
    assert!(d.aborting(0));
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_ABORT, 1), OK);
    d.wait(|d| !d.aborting(0));
    // Never, until the handshake: then the register is free again.
    d.mf.inject_register(RegisterBit::Abort, RegisterFault::Stuck, 1);
    slow(&mut d);
    std::thread::sleep(Duration::from_millis(30));
    assert!(d.aborting(0) && !d.aborting(1));
    d.mf.write32(abi::DLR_REG_CONTROL, 0);
    assert!(!d.aborting(0));
    d.undelay();
    d.enable(2, 2);
    assert_eq!(d.plain(END, 0), OK);
    // Not at all.
    d.mf.inject_register(RegisterBit::Abort, RegisterFault::Ignore, 1);
    d.mf.inject(END as u16, once(FaultAction::Delay(50)));
    let id = d.send(END, 0);
    d.write_fn(0, abi::DLR_REG_FN_ABORT, 1);
    assert!(!d.aborting(0));
    assert_eq!(d.completions(1), [(id, OK)]);
    // Mended: what is held up is carried out.
    d.mf.inject_register(RegisterBit::Abort, RegisterFault::Stuck, 1);
    slow(&mut d);
    d.mf.mend();
    d.wait(|d| !d.aborting(0));
    assert_eq!(d.plain(END, 0), OK);
}
