// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Registers and the rings of the admin queue.

use super::*;
use crate::FaultAction;

const READY: u32 = abi::DLR_MF_STATUS_READY;
const FATAL: u32 = abi::DLR_MF_STATUS_FATAL;

#[test]
fn identity_registers() {
    let d = Driver::disabled();
    assert_eq!(d.mf.read32(abi::DLR_REG_MAGIC), abi::DLR_MAGIC);
    assert_eq!(d.mf.read32(abi::DLR_REG_VERSION), abi::DLR_CONTRACT_VERSION);
    assert_eq!(d.mf.read32(abi::DLR_REG_NUM_FUNCTIONS), 3);
    assert_eq!(d.mf.read32(abi::DLR_REG_CMD_TIMEOUT), 400);
    assert_eq!(d.mf.read32(abi::DLR_REG_SERIAL_LO), 0x5566_7788);
    assert_eq!(d.mf.read32(abi::DLR_REG_SERIAL_HI), 0x1122_3344);
    assert_eq!(d.mf.read32(abi::DLR_REG_AQ_MAX_ORDER), 0x0a0a);
    for nothing in [0x100, 0xffc, 0x1000 + 0x40 * 3, 0x3ffc, 0x1010] {
        assert_eq!(d.mf.read32(nothing), 0);
        d.mf.write32(nothing, u32::MAX);
    }
    assert_eq!(
        d.log_register(0, abi::DLR_REG_LOG_POSTED),
        abi::DLR_LOG_POSTED_ERROR
    );
}

#[test]
fn unusable_registers_are_fatal_until_disabled() {
    let mut d = Driver::disabled();
    for (sq, cq) in [(1, 2), (11, 2), (2, 1), (2, 11)] {
        d.enable(sq, cq);
        assert_eq!(d.status(), FATAL);
        d.mf.write32(abi::DLR_REG_CONTROL, 0);
        assert_eq!(d.status(), 0);
    }
    for (register, value) in [
        (abi::DLR_REG_SQ_BASE_LO, SQ as u32 + 8),
        (abi::DLR_REG_SQ_BASE_HI, 1),
        (abi::DLR_REG_CQ_BASE_LO, MEMORY as u32 - 16),
        (abi::DLR_REG_AQ_VECTOR, 4),
    ] {
        d.enable(2, 2);
        d.mf.write32(abi::DLR_REG_CONTROL, 0);
        let good = d.mf.read32(register);
        d.mf.write32(register, value);
        d.mf.write32(abi::DLR_REG_CONTROL, 1);
        assert_eq!(d.status(), FATAL, "register {register:#x}");
        d.mf.write32(abi::DLR_REG_CONTROL, 0);
        d.mf.write32(register, good);
    }
    d.enable(10, 10);
    assert_eq!(d.status(), READY);
    d.mf.write32(abi::DLR_REG_SQ_BASE_LO, 0);
    assert_eq!(d.mf.read32(abi::DLR_REG_SQ_BASE_LO), SQ as u32, "locked");
}

#[test]
fn commands_run_through_many_passes_of_the_rings() {
    let mut d = Driver::new();
    for n in 0..40 {
        let (status, result, _) = d.buffered(abi::DLR_CMD_IDENTIFY_FN, n % 3, 64, 0);
        assert_eq!((status, result), (abi::DLR_STATUS_SUCCESS, 64));
    }
    assert_eq!(d.interrupt.count(2), 40);
    let (status, ..) = d.buffered(abi::DLR_CMD_IDENTIFY_NIC, 0, 64, 0);
    assert_eq!(status, abi::DLR_STATUS_SUCCESS);
    let nic = abi::dlr_identify_nic::read_from_bytes(&d.memory.bytes(BUFFER, 64)).unwrap();
    assert_eq!((nic.num_functions, nic.serial), (3, 0x1122_3344_5566_7788));
    assert_eq!(&nic.model[..5], b"test\0");
    assert_eq!(nic.firmware[15], 0);
}

#[test]
fn completions_wait_for_room() {
    let mut d = Driver::disabled();
    d.enable(4, 2);
    for _ in 0..10 {
        d.submit(|sqe| sqe.opcode = 0x77);
    }
    std::thread::sleep(Duration::from_millis(50));
    let shown = d.mf.stats();
    assert_eq!(shown["queue"]["submitted"], 4);
    for _ in 0..10 {
        let cqe = d.completion(1000).expect("no completion is lost");
        assert_eq!(u32::from(cqe.status), abi::DLR_STATUS_INVALID_OPCODE);
    }
    assert_eq!(d.status(), READY);
}

#[test]
fn impossible_counts_are_fatal() {
    let mut d = Driver::new();
    d.mf.write32(abi::DLR_REG_CQ_HEAD, 1);
    assert_eq!(d.status(), FATAL);
    d.mf.write32(abi::DLR_REG_CONTROL, 0);
    d.enable(2, 2);
    assert_eq!(d.status(), READY);
    d.mf.write32(abi::DLR_REG_SQ_TAIL, 5);
    assert_eq!(d.status(), FATAL);
    d.mf.reset();
    assert_eq!(d.status(), 0);
    assert_eq!(d.mf.read32(abi::DLR_REG_SQ_BASE_LO), 0);
}

#[test]
fn a_slow_function_delays_no_other() {
    let mut d = Driver::new();
    let begin = abi::DLR_CMD_SAVE_BEGIN;
    d.mf.inject(begin as u16, once(FaultAction::Delay(300)));
    let slow = d.submit(|sqe| sqe.opcode = begin as u16);
    let behind = d.submit(|sqe| sqe.opcode = abi::DLR_CMD_SAVE_END as u16);
    let other = d.submit(|sqe| {
        sqe.opcode = abi::DLR_CMD_SAVE_END as u16;
        sqe.function = 1;
    });
    let order: Vec<u16> = (0..3).map(|_| d.completion(2000).unwrap().id).collect();
    assert_eq!(order, [other, slow, behind]);
}

#[test]
fn reset_handshake_drops_commands() {
    let mut d = Driver::new();
    d.mf.inject(
        abi::DLR_CMD_STATUS_PAGE as u16,
        once(FaultAction::Delay(100)),
    );
    d.submit(|sqe| {
        sqe.opcode = abi::DLR_CMD_STATUS_PAGE as u16;
        sqe.addr = PAGE;
    });
    d.mf.write32(abi::DLR_REG_CONTROL, 0);
    assert_eq!(d.status(), 0);
    d.enable(2, 2);
    // Ordered behind the dropped one.
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_END, 0), abi::DLR_STATUS_SUCCESS);
    assert_eq!(
        d.page().seq,
        0,
        "the page of a dropped command is not touched"
    );
    assert_eq!(d.completion(50).map(|c| c.id), None);
}

#[test]
fn injected_faults() {
    let mut d = Driver::new();
    let op = abi::DLR_CMD_SAVE_END;
    d.mf.inject(op as u16, once(FaultAction::Status(9)));
    assert_eq!(d.plain(op, 0), 9);
    d.mf.inject(op as u16, once(FaultAction::WrongId));
    let id = d.submit(|sqe| sqe.opcode = op as u16);
    assert_eq!(d.completion(1000).map(|c| c.id), Some(!id));
    d.mf.inject(op as u16, once(FaultAction::Drop));
    d.submit(|sqe| sqe.opcode = op as u16);
    assert!(d.completion(100).is_none());
    assert_eq!(d.plain(op, 0), abi::DLR_STATUS_SUCCESS);
    d.mf.inject(op as u16, once(FaultAction::Result(7)));
    assert_eq!(d.run(|sqe| sqe.opcode = op as u16), (0, 7, 0));
    d.mf.inject(op as u16, once(FaultAction::Status(9)));
    d.mf.mend();
    assert_eq!(d.plain(op, 0), abi::DLR_STATUS_SUCCESS);
}

#[test]
fn some_faults_keep_the_command_from_running() {
    let mut d = Driver::new();
    let (down, p2p) = (abi::DLR_CMD_SUSPEND, abi::DLR_FN_RUNNING_P2P);
    let suspend = |sqe: &mut abi::dlr_sqe| {
        sqe.opcode = down as u16;
        sqe.params[0] = p2p as u8;
    };
    d.mf.inject(down as u16, once(FaultAction::StrayId));
    let id = d.submit(suspend);
    assert_eq!(d.completion(1000).map(|c| c.id), Some(!id));
    d.mf.inject(down as u16, once(FaultAction::Ignore));
    d.submit(suspend);
    assert!(d.completion(100).is_none());
    assert_eq!(
        d.log_register(0, abi::DLR_REG_FN_STATE),
        abi::DLR_FN_RUNNING
    );
    assert_eq!(d.level(down, 0, p2p), abi::DLR_STATUS_SUCCESS);
}

#[test]
fn a_stuck_queue_is_freed_by_a_reset_alone() {
    let mut d = Driver::new();
    d.mf.inject(abi::DLR_CMD_SAVE_END as u16, once(FaultAction::Stuck));
    d.submit(|sqe| sqe.opcode = abi::DLR_CMD_SAVE_END as u16);
    assert!(d.completion(100).is_none());
    d.submit(|sqe| sqe.opcode = abi::DLR_CMD_SAVE_END as u16);
    assert!(d.completion(100).is_none());
    d.mf.write32(abi::DLR_REG_CONTROL, 0);
    assert_eq!(d.status(), READY);
    d.mf.reset();
    assert_eq!(d.status(), 0);
    let mut d = Driver::new();
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_END, 0), 0);
}

#[test]
fn a_function_that_was_torn_out_reads_as_ones() {
    let mut d = Driver::new();
    assert_eq!(d.set_page(0, PAGE), abi::DLR_STATUS_SUCCESS);
    d.mf.tear_out(true);
    assert_eq!(d.mf.read32(abi::DLR_REG_MAGIC), u32::MAX);
    assert_eq!(d.status(), u32::MAX);
    d.mf.write32(abi::DLR_REG_CONTROL, 1);
    d.mf.tear_out(false);
    assert_eq!(d.status(), 0);
    assert_eq!(d.mf.stats()["functions"][0]["status_page"], false);
}

#[test]
fn a_torn_page_stays_odd() {
    let mut d = Driver::new();
    assert_eq!(d.set_page(0, PAGE), abi::DLR_STATUS_SUCCESS);
    assert_eq!(d.page().seq % 2, 0);
    d.mf.tear_page(0, true);
    assert_eq!(d.page().seq % 2, 1);
    d.mf.mend();
    assert_eq!(d.page().seq % 2, 0);
}
