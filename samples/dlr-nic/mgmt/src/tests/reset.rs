// SPDX-License-Identifier: Apache-2.0 OR MIT

//! CONTROL.RESET, and what goes on over the reset handshake.

use std::sync::atomic::Ordering;

use dlr_core::FnState;

use super::*;
use crate::{RegisterBit, RegisterFault};

const RESET: u32 = abi::DLR_CONTROL_RESET;

impl Driver {
    fn control(&self) -> u32 {
        self.mf.read32(abi::DLR_REG_CONTROL)
    }

    fn attest(&mut self, function: u16, nonce: u64) -> u32 {
        let (status, ..) = self.run(|sqe| {
            sqe.opcode = abi::DLR_CMD_ATTEST as u16;
            sqe.function = function;
            sqe.params[..8].copy_from_slice(&nonce.to_le_bytes());
        });
        status
    }
}

/// A NIC of which everything is in use.
fn busy() -> Driver {
    let mut d = Driver::new();
    assert_eq!(d.set_page(0, PAGE), OK);
    assert_eq!(d.attest(1, 0x1234), OK);
    assert_eq!(d.log_start(1, |_| ()), OK);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 1), OK);
    d.stop(2);
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 2), OK);
    d
}

#[test]
fn reset_ends_all_but_the_data_functions() {
    for value in [RESET, RESET | abi::DLR_CONTROL_ENABLE, u32::MAX] {
        let mut d = busy();
        d.stop(0);
        d.mf.write32(abi::DLR_REG_CONTROL, value);
        d.wait(|d| d.control() == 0);
        assert_eq!(d.status(), 0);
        for register in [
            abi::DLR_REG_SQ_BASE_LO,
            abi::DLR_REG_CQ_BASE_LO,
            abi::DLR_REG_AQ_ATTR,
            abi::DLR_REG_AQ_VECTOR,
        ] {
            assert_eq!(d.mf.read32(register), 0, "register {register:#x}");
        }
        let stats = d.mf.stats();
        let functions = stats["functions"].as_array().unwrap();
        assert!(functions.iter().all(|f| f["session"] == "none"));
        assert_eq!(functions[0]["status_page"], false);
        assert_eq!(functions[1]["log"]["active"], false);
        assert_eq!(d.words[1].nonce(), 0);
        assert_eq!(
            d.log_register(1, abi::DLR_REG_LOG_POSTED),
            abi::DLR_LOG_POSTED_ERROR
        );
        // The states stay, but for the one that was being loaded: as after an FLR.
        assert_eq!(d.functions[0].state(), FnState::Stopped);
        assert_eq!(d.functions[1].state(), FnState::Running);
        assert_eq!(d.functions[2].state(), FnState::Running);
        let resets = d.functions.iter().map(|f| f.resets.load(Ordering::Relaxed));
        assert!(resets.eq([0, 0, 1]));
        assert_eq!((&stats["resets"], &stats["flrs"]), (&1.into(), &0.into()));
        d.mf.count_flr();
        assert_eq!(d.mf.stats()["flrs"], 1);
        d.enable(2, 2);
        assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 1), OK);
    }
}

#[test]
fn reset_reads_as_one_until_dropped_commands_have_ended() {
    let mut d = busy();
    let begin = Instant::now();
    // A command that cannot be cut short: it sleeps between filter and marker.
    d.sabotage.set(SabotageKind::MarkerTooEarly, 150);
    d.sync_all(1, 1);
    std::thread::sleep(Duration::from_millis(30));
    d.mf.write32(abi::DLR_REG_CONTROL, RESET);
    assert_eq!(d.control(), RESET);
    d.mf.write32(abi::DLR_REG_SQ_BASE_LO, SQ as u32);
    assert_eq!(
        d.mf.read32(abi::DLR_REG_SQ_BASE_LO),
        0,
        "written in a reset"
    );
    d.wait(|d| d.control() == 0);
    assert!(begin.elapsed() >= Duration::from_millis(150));
    d.mf.write32(abi::DLR_REG_SQ_BASE_LO, SQ as u32);
    assert_eq!(d.mf.read32(abi::DLR_REG_SQ_BASE_LO), SQ as u32);
    assert_eq!(d.memory.u64(RING), 0, "a marker after the reset");
}

#[test]
fn faults_of_reset() {
    let mut d = busy();
    d.mf.inject_register(RegisterBit::Reset, RegisterFault::Ignore, 1);
    d.mf.write32(abi::DLR_REG_CONTROL, RESET);
    assert_eq!(d.control(), abi::DLR_CONTROL_ENABLE);
    assert_eq!(d.words[1].nonce(), 0x1234);

    d.mf.inject_register(RegisterBit::Reset, RegisterFault::Delay(50), 1);
    d.mf.write32(abi::DLR_REG_CONTROL, RESET);
    assert_eq!(d.control() & RESET, RESET);
    d.mf.write32(abi::DLR_REG_CONTROL, 0);
    assert_eq!(d.status(), abi::DLR_MF_STATUS_READY, "not reset yet");
    d.wait(|d| d.control() == 0);

    // What never answers is ended by an FLR, or by mending it.
    for flr in [true, false] {
        d.enable(2, 2);
        d.mf.inject_register(RegisterBit::Reset, RegisterFault::Stuck, 1);
        d.mf.write32(abi::DLR_REG_CONTROL, RESET);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(d.control() & RESET, RESET);
        if flr {
            d.mf.reset();
        } else {
            d.mf.mend();
        }
        assert_eq!((d.control(), d.status()), (0, 0));
    }
    d.enable(2, 2);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 1), OK);
}

#[test]
fn reset_frees_a_queue_that_is_stuck() {
    let mut d = Driver::new();
    d.mf.inject(abi::DLR_CMD_SAVE_END as u16, once(FaultAction::Stuck));
    d.send(abi::DLR_CMD_SAVE_END, 0);
    assert!(d.completion(50).is_none());
    d.mf.write32(abi::DLR_REG_CONTROL, RESET);
    d.wait(|d| d.control() == 0);
    d.enable(2, 2);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_END, 0), OK);
}

#[test]
fn the_handshake_leaves_pages_nonces_logs_and_sessions_alone() {
    let mut d = busy();
    d.mf.write32(abi::DLR_REG_CONTROL, 0);
    assert_eq!(d.status(), 0);
    let before = d.page();
    d.mf.flow_sink(0).unwrap().packet(true, &[1; 60]);
    d.mf.events(0).unwrap().reconfigured();
    d.wait(|d| d.page().seq > before.seq);
    assert_eq!(d.words[1].nonce(), 0x1234);
    let sink = d.mf.dirty_sink(1).unwrap();
    sink.dirty(0, 1);
    assert_eq!(d.log_register(1, abi::DLR_REG_LOG_POSTED), 1);
    d.enable(2, 2);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 1), BUSY);
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 2), BUSY);
}
