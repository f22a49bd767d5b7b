// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Save and load sessions.

use std::sync::atomic::Ordering;

use dlr_core::FnState;

use super::*;

/// Reads the whole state of stopped function 0, with three reads in flight.
fn read_all(d: &mut Driver) -> Vec<u8> {
    let mut stream = Vec::new();
    loop {
        for n in 0..3u64 {
            d.submit(|sqe| {
                sqe.opcode = abi::DLR_CMD_SAVE_READ as u16;
                sqe.addr = BUFFER + n * 0x1000;
                sqe.len = 0x1000;
                sqe.flags = abi::DLR_SAVE_READ_F_FINAL;
            });
        }
        let mut end = false;
        for n in 0..3u64 {
            let cqe = d.completion(1000).unwrap();
            assert_eq!(u32::from(cqe.status), OK);
            stream.extend(d.memory.bytes(BUFFER + n * 0x1000, cqe.result as usize));
            end |= cqe.flags & abi::DLR_CQE_F_END != 0;
        }
        if end {
            return stream;
        }
    }
}

fn load(d: &mut Driver, function: u16, stream: &[u8]) -> u32 {
    for piece in stream.chunks(0x3000) {
        d.memory.write(BUFFER, piece).unwrap();
        let len = piece.len() as u32;
        let (status, ..) = d.buffered(abi::DLR_CMD_LOAD_WRITE, function, len, 0);
        if status != OK {
            return status;
        }
    }
    d.plain(abi::DLR_CMD_LOAD_COMMIT, function)
}

#[test]
fn save_here_load_there() {
    let mut d = Driver::new();
    let final_ = abi::DLR_SAVE_READ_F_FINAL;
    assert_eq!(d.buffered(abi::DLR_CMD_SAVE_READ, 0, 64, 0).0, STATE);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), OK);
    assert_eq!(d.buffered(abi::DLR_CMD_SAVE_READ, 0, 64, final_).0, STATE);
    assert_eq!(d.buffered(abi::DLR_CMD_SAVE_READ, 0, 0, 0).0, FIELD);
    d.stop(0);
    let stream = read_all(&mut d);
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 0), abi::DLR_STATUS_BUSY);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_END, 0), OK);

    assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 1), STATE, "not stopped");
    d.stop(1);
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_COMMIT, 1), STATE, "no session");
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 1), OK);
    let up = d.level(abi::DLR_CMD_RESUME, 1, abi::DLR_FN_RUNNING_P2P);
    assert_eq!(up, STATE, "not while it loads");
    assert_eq!(load(&mut d, 1, &stream), OK);
    assert_eq!(*d.functions[1].image.lock(), [0, 1, 2, 3]);
    let up = d.level(abi::DLR_CMD_RESUME, 1, abi::DLR_FN_RUNNING_P2P);
    assert_eq!(up, OK);
}

#[test]
fn refused_streams_leave_the_function_reset() {
    let mut d = Driver::new();
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), OK);
    d.stop(0);
    let stream = read_all(&mut d);
    d.stop(1);
    let mut bad = stream.clone();
    bad[200] ^= 1;
    let cut = &stream[..stream.len() - 1];
    for (n, (stream, status)) in [
        (&bad[..], abi::DLR_STATUS_CORRUPT),
        (cut, abi::DLR_STATUS_TRUNCATED),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 1), OK);
        assert_eq!(load(&mut d, 1, stream), status);
        assert_eq!(d.functions[1].resets.load(Ordering::Relaxed), n as u64 + 1);
        assert_eq!(
            d.plain(abi::DLR_CMD_LOAD_COMMIT, 1),
            STATE,
            "session is over"
        );
    }
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 1), OK);
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_ABORT, 1), OK);
    assert_eq!(d.functions[1].resets.load(Ordering::Relaxed), 3);
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_ABORT, 1), OK);
    assert_eq!(d.functions[1].resets.load(Ordering::Relaxed), 3);
}

/// An FLR that falls into LOAD_COMMIT: the function runs for its guest, and neither the image's
/// flow table nor a reset may hit it.
#[test]
fn a_reset_in_the_middle_of_a_commit_wins() {
    for refused in [false, true] {
        let mut d = Driver::new();
        d.mf.flow_sink(0).unwrap().packet(true, &[1; 60]);
        if refused {
            *d.functions[0].image.lock() = vec![0xee];
        }
        assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), OK);
        d.stop(0);
        let stream = read_all(&mut d);
        d.stop(1);
        assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 1), OK);
        let (function, events) = (d.functions[1].clone(), d.mf.events(1).unwrap());
        let hook = move || {
            *function.state.lock() = FnState::Running;
            events.function_reset();
        };
        *d.functions[1].after_load.lock() = Some(Box::new(hook));
        assert_eq!(load(&mut d, 1, &stream), STATE);
        assert_eq!(d.functions[1].resets.load(Ordering::Relaxed), 0);
        assert_eq!(d.mf.stats()["functions"][1]["flow"]["entries"], 0);
        assert_eq!(d.plain(abi::DLR_CMD_LOAD_COMMIT, 1), STATE);
    }
}

#[test]
fn after_a_refused_write_there_is_no_session() {
    let mut d = Driver::new();
    d.stop(1);
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 1), OK);
    d.memory.write(BUFFER, &[0xff; 64]).unwrap();
    let write = |d: &mut Driver| d.buffered(abi::DLR_CMD_LOAD_WRITE, 1, 64, 0).0;
    assert_eq!(write(&mut d), abi::DLR_STATUS_CORRUPT);
    assert_eq!(d.mf.stats()["functions"][1]["session"], "none");
    assert_eq!(write(&mut d), STATE);
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_COMMIT, 1), STATE);
    // A buffer that cannot be read ends it as well, and leaves the function as after reset.
    assert_eq!(d.plain(abi::DLR_CMD_LOAD_BEGIN, 1), OK);
    let (status, ..) = d.run(|sqe| {
        sqe.opcode = abi::DLR_CMD_LOAD_WRITE as u16;
        sqe.function = 1;
        (sqe.addr, sqe.len) = (MEMORY as u64, 64);
    });
    assert_eq!(status, abi::DLR_STATUS_DMA_FAULT);
    assert_eq!(write(&mut d), STATE);
    assert_eq!(d.functions[1].resets.load(Ordering::Relaxed), 2);
}

#[test]
fn function_reset_ends_sessions() {
    let mut d = Driver::new();
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), OK);
    d.mf.events(0).unwrap().function_reset();
    assert_eq!(d.buffered(abi::DLR_CMD_SAVE_READ, 0, 64, 0).0, STATE);
    assert_eq!(d.plain(abi::DLR_CMD_SAVE_BEGIN, 0), OK);
    // An undeliverable read changes nothing.
    let (status, ..) = d.run(|sqe| {
        sqe.opcode = abi::DLR_CMD_SAVE_READ as u16;
        sqe.addr = MEMORY as u64;
        sqe.len = 64;
    });
    assert_eq!(status, abi::DLR_STATUS_DMA_FAULT);
    let (status, ..) = d.buffered(abi::DLR_CMD_SAVE_READ, 0, 64, 0);
    assert_eq!(status, OK);
    let magic = d.memory.u64(BUFFER) as u32;
    assert_eq!(magic, abi::DLR_SECTION_MAGIC);
}
