// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The event "more to read".

use super::*;

/// The vector of the event.
const MORE: u16 = 3;

fn begin(d: &mut Driver, function: u16, vector: u32) -> u32 {
    let (status, ..) = d.run(|sqe| {
        sqe.opcode = abi::DLR_CMD_SAVE_BEGIN as u16;
        sqe.function = function;
        sqe.params[..2].copy_from_slice(&(vector as u16).to_le_bytes());
    });
    status
}

/// Reads until there is nothing more just now.
fn drain(d: &mut Driver, function: u16) {
    loop {
        let (status, _, flags) = d.buffered(abi::DLR_CMD_SAVE_READ, function, 0x8000, 0);
        assert_eq!(status, OK);
        if flags & abi::DLR_CQE_F_EMPTY != 0 {
            return;
        }
    }
}

fn traffic(d: &Driver, function: usize) {
    d.mf.flow_sink(function).unwrap().packet(true, &[1; 60]);
}

#[test]
fn its_vector_is_checked() {
    let mut d = Driver::new();
    assert_eq!(begin(&mut d, 0, 4), FIELD);
    assert_eq!(begin(&mut d, 0, abi::DLR_NO_VECTOR - 1), FIELD);
    for byte in [2, 4, 39] {
        let (status, ..) = d.run(|sqe| {
            sqe.opcode = abi::DLR_CMD_SAVE_BEGIN as u16;
            sqe.params[byte] = 1;
        });
        assert_eq!(status, FIELD, "reserved byte {byte}");
    }
    assert_eq!(begin(&mut d, 0, abi::DLR_NO_VECTOR), OK);
    drain(&mut d, 0);
    traffic(&d, 0);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(
        (0..5).map(|v| d.interrupt.count(v)).sum::<u32>(),
        d.interrupt.count(2)
    );
}

#[test]
fn it_comes_once_after_each_empty_read_with_the_page_up_to_date() {
    let mut d = Driver::new();
    assert_eq!(d.set_page(0, PAGE), OK);
    assert_eq!(begin(&mut d, 0, MORE.into()), OK);
    // Not before a read has found nothing.
    traffic(&d, 0);
    std::thread::sleep(Duration::from_millis(40));
    assert_eq!(d.interrupt.count(MORE), 0);
    for n in 1..4 {
        drain(&mut d, 0);
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(d.interrupt.count(MORE), n - 1, "nothing to read yet");
        traffic(&d, 0);
        d.wait(|d| d.interrupt.count(MORE) == n);
        assert!(d.page().dirty_bytes > 0);
        traffic(&d, 0);
        d.mf.events(0).unwrap().reconfigured();
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(d.interrupt.count(MORE), n, "once");
    }
}

#[test]
fn a_change_between_read_and_completion_is_not_missed() {
    let mut d = Driver::new();
    assert_eq!(begin(&mut d, 0, MORE.into()), OK);
    drain(&mut d, 0);
    // The read finds nothing; traffic comes before its completion. Whether or not the read still
    // delivers it, an event or bytes tell of it.
    for n in 0..50 {
        let before = d.interrupt.count(MORE);
        d.submit(|sqe| {
            sqe.opcode = abi::DLR_CMD_SAVE_READ as u16;
            (sqe.addr, sqe.len) = (BUFFER, 0x8000);
        });
        traffic(&d, 0);
        let cqe = d.completion(1000).unwrap();
        if cqe.flags & abi::DLR_CQE_F_EMPTY != 0 {
            d.wait(|d| d.interrupt.count(MORE) > before);
        } else {
            assert_ne!(cqe.result, 0, "round {n}");
        }
        drain(&mut d, 0);
    }
}

#[test]
fn it_ends_with_the_session_and_with_a_reset() {
    for reset in [false, true] {
        let mut d = Driver::new();
        assert_eq!(begin(&mut d, 0, MORE.into()), OK);
        drain(&mut d, 0);
        if reset {
            d.mf.write32(abi::DLR_REG_CONTROL, abi::DLR_CONTROL_RESET);
        } else {
            assert_eq!(d.plain(abi::DLR_CMD_SAVE_END, 0), OK);
            assert_eq!(begin(&mut d, 0, MORE.into()), OK);
        }
        traffic(&d, 0);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(d.interrupt.count(MORE), 0);
    }
}

#[test]
fn it_goes_on_over_handshake_and_abort() {
    let mut d = Driver::new();
    assert_eq!(begin(&mut d, 0, MORE.into()), OK);
    drain(&mut d, 0);
    d.write_fn(0, abi::DLR_REG_FN_ABORT, 1);
    d.mf.write32(abi::DLR_REG_CONTROL, 0);
    traffic(&d, 0);
    d.wait(|d| d.interrupt.count(MORE) == 1);
}

#[test]
fn an_event_can_be_lost_on_purpose() {
    let mut d = Driver::new();
    assert!(!d.mf.lose_events(3, 1));
    assert!(d.mf.lose_events(0, 1));
    assert_eq!(begin(&mut d, 0, MORE.into()), OK);
    for n in 0..2 {
        drain(&mut d, 0);
        traffic(&d, 0);
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(d.interrupt.count(MORE), n);
    }
    assert!(d.mf.lose_events(0, 9));
    d.mf.mend();
    drain(&mut d, 0);
    traffic(&d, 0);
    d.wait(|d| d.interrupt.count(MORE) == 2);
}
