// SPDX-License-Identifier: Apache-2.0 OR MIT

//! ATTEST.

use super::*;

fn attest(nonce: u64, function: u16) -> impl Fn(&mut abi::dlr_sqe) {
    move |sqe| {
        sqe.opcode = abi::DLR_CMD_ATTEST as u16;
        sqe.function = function;
        sqe.params[..8].copy_from_slice(&nonce.to_le_bytes());
    }
}

fn shown(d: &Driver) -> Vec<u64> {
    d.words.iter().map(|w| w.nonce()).collect()
}

#[test]
fn the_nonce_is_shown_by_that_function_alone_in_every_state() {
    let mut d = Driver::new();
    assert_eq!(d.run(attest(0x1122_3344_5566_7788, 1)), (OK, 0, 0));
    assert_eq!(shown(&d), [0, 0x1122_3344_5566_7788, 0]);
    d.stop(0);
    assert_eq!(d.run(attest(7, 0)), (OK, 0, 0));
    assert_eq!(d.run(attest(0, 1)), (OK, 0, 0));
    assert_eq!(shown(&d), [7, 0, 0]);
    d.mf.reset();
    assert_eq!(shown(&d), [0, 0, 0], "not over a reset of the MF");
}

#[test]
fn its_form_is_checked() {
    let mut d = Driver::new();
    let spoil: [fn(&mut abi::dlr_sqe); 5] = [
        |s| s.params[8] = 1,
        |s| s.params[39] = 1,
        |s| s.flags = 1,
        |s| s.addr = BUFFER,
        |s| s.len = 8,
    ];
    for spoil in spoil {
        let (status, ..) = d.run(|sqe| {
            attest(7, 0)(sqe);
            spoil(sqe);
        });
        assert_eq!(status, FIELD);
    }
    assert_eq!(d.run(attest(7, 3)).0, abi::DLR_STATUS_INVALID_FUNCTION);
    assert_eq!(shown(&d), [0, 0, 0]);
}

#[test]
fn attest_can_hide_or_spoil_its_nonce() {
    let mut d = Driver::new();
    assert_eq!(d.run(attest(6, 0)).0, OK);
    d.sabotage.set(SabotageKind::AttestHidden, 1);
    assert_eq!(d.run(attest(7, 0)).0, OK);
    assert_eq!(shown(&d), [6, 0, 0]);
    d.sabotage.set(SabotageKind::AttestHidden, 0);
    d.sabotage.set(SabotageKind::AttestForeign, 1);
    assert_eq!(d.run(attest(7, 0)).0, OK);
    assert_eq!(shown(&d), [!7, 0, 0]);
    d.mf.reset();
    assert_eq!(shown(&d), [0, 0, 0], "a reset is not sabotaged");
}

#[test]
fn faults_of_attest() {
    let mut d = Driver::new();
    let op = abi::DLR_CMD_ATTEST as u16;
    d.mf.inject(op, once(FaultAction::Status(0)));
    assert_eq!(d.run(attest(6, 0)).0, OK);
    assert_eq!(shown(&d), [0, 0, 0], "no nonce");
    d.mf.inject(op, once(FaultAction::WrongNonce));
    assert_eq!(d.run(attest(6, 0)).0, OK);
    assert_eq!(shown(&d), [7, 0, 0], "another nonce");
    d.mf.inject(op, once(FaultAction::Elsewhere(2)));
    assert_eq!(d.run(attest(6, 0)).0, OK);
    assert_eq!(shown(&d), [7, 0, 6], "at another function");
    d.mf.inject(op, once(FaultAction::Elsewhere(9)));
    assert_eq!(d.run(attest(6, 0)).0, abi::DLR_STATUS_INVALID_FUNCTION);
    d.mf.inject(op, once(FaultAction::Late(80)));
    assert_eq!(d.run(attest(5, 0)).0, OK);
    assert_eq!(shown(&d), [7, 0, 6], "not yet");
    d.wait(|d| shown(d) == [5, 0, 6]);
    // A handshake overtakes it: it is never executed.
    d.mf.inject(op, once(FaultAction::Late(80)));
    assert_eq!(d.run(attest(4, 0)).0, OK);
    d.mf.write32(abi::DLR_REG_CONTROL, 0);
    std::thread::sleep(Duration::from_millis(120));
    assert_eq!(shown(&d), [5, 0, 6]);
}
