// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Whatever a driver writes, the management function stays alive and can be reset.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// A register, any value.
    Write(u32, u32),
    Read(u32),
    /// A submission entry, and the doorbell.
    Submit(Vec<u8>),
    /// Bytes in memory where rings, pages and buffers lie.
    Poke(u64, Vec<u8>),
    Dirty(u64, u64),
    Enable,
    Flr(usize),
}

/// Mostly what exists.
fn register() -> impl Strategy<Value = u32> {
    prop_oneof![
        (0u32..0x40).prop_map(|n| n * 4),
        (0u32..4, 0u32..6)
            .prop_map(|(k, r)| { abi::DLR_REG_FN_BASE + k * abi::DLR_REG_FN_STRIDE + r * 4 }),
        any::<u32>(),
    ]
}

fn entry() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![0u16..0x40, any::<u16>()];
    let addr = prop_oneof![Just(0), Just(BUFFER), Just(PAGE), any::<u64>()];
    let len = prop_oneof![Just(0u32), Just(16), 0u32..0x1_0000, any::<u32>()];
    let params = prop_oneof![
        Just(vec![0; 40]),
        prop::collection::vec(any::<u8>(), 40),
        (0u8..8, 0u8..8).prop_map(|(a, b)| {
            let mut params = vec![0; 40];
            (params[0], params[8]) = (a, b);
            params
        }),
    ];
    (opcode, 0u16..5, 0u32..3, addr, len, params).prop_map(|(o, f, flags, addr, len, params)| {
        let mut sqe = abi::dlr_sqe::new_zeroed();
        (sqe.opcode, sqe.function, sqe.flags) = (o, f, flags);
        (sqe.addr, sqe.len) = (addr, len);
        sqe.params.copy_from_slice(&params);
        sqe.as_bytes().to_vec()
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (register(), any::<u32>()).prop_map(|(r, v)| Op::Write(r, v)),
        2 => (register(), 0u32..4).prop_map(|(r, v)| Op::Write(r, v)),
        2 => register().prop_map(Op::Read),
        8 => entry().prop_map(Op::Submit),
        2 => (0u64..MEMORY as u64, prop::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(at, data)| Op::Poke(at, data)),
        2 => (any::<u64>(), any::<u64>()).prop_map(|(at, len)| Op::Dirty(at, len)),
        2 => Just(Op::Enable),
        1 => (0usize..3).prop_map(Op::Flr),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nothing_kills_it(ops in prop::collection::vec(op(), 1..80)) {
        let mut d = Driver::new();
        for op in ops {
            match op {
                Op::Write(register, value) => d.mf.write32(register, value),
                Op::Read(register) => {
                    d.mf.read32(register);
                }
                Op::Submit(entry) => {
                    let slot = u64::from(d.tail & ((1 << d.order) - 1));
                    d.memory.write(SQ + slot * 64, &entry).unwrap();
                    d.tail = d.tail.wrapping_add(1);
                    d.mf.write32(abi::DLR_REG_SQ_TAIL, d.tail);
                }
                Op::Poke(at, data) => {
                    // Part of it may lie behind the end.
                    let _ = d.memory.write(at, &data);
                }
                Op::Dirty(at, len) => d.mf.dirty_sink(0).unwrap().dirty(at, len.min(1 << 24)),
                Op::Enable => {
                    d.mf.write32(abi::DLR_REG_CONTROL, 0);
                    d.enable(2, 2);
                }
                Op::Flr(k) => d.mf.events(k).unwrap().function_reset(),
            }
        }
        // No worker has died: after a reset each row of each function answers.
        d.mf.write32(abi::DLR_REG_CONTROL, abi::DLR_CONTROL_RESET);
        d.wait(|d| d.mf.read32(abi::DLR_REG_CONTROL) == 0);
        d.enable(2, 2);
        for k in 0..3 {
            prop_assert_eq!(d.plain(abi::DLR_CMD_SAVE_END, k), OK);
            prop_assert_eq!(d.plain(abi::DLR_CMD_LOG_STOP, k), OK);
        }
        prop_assert_eq!(d.buffered(abi::DLR_CMD_IDENTIFY_NIC, 0, 64, 0).0, OK);
    }
}
