// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Streams from a save session into a load session: whole, split, changed and cut.

use std::sync::{Arc, OnceLock};

use dlr_abi::abi;
use dlr_core::{FlowSink, FnState, Sabotage, SabotageKind};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    flow::{FlowTable, BLOCK},
    load::LoadSession,
    save::{Pending, SaveSession},
    section::{header_crc, HEADER, SECTION},
};
use crate::{status::Status, testing::TestFunction};

const BLOCKS: u64 = 40;
const COMPAT: [u8; 16] = *b"dlr-nic/a test\0\0";

fn table() -> Arc<FlowTable> {
    Arc::new(FlowTable::new(BLOCKS * BLOCK as u64, Arc::default()))
}

fn traffic(table: &FlowTable, from: u32, count: u32) {
    for n in from..from + count {
        let mut frame = [0; 64];
        frame[..4].copy_from_slice(&n.to_le_bytes());
        table.packet(n % 2 == 0, &frame);
    }
}

/// Reads until EMPTY, then STOPPED until END; checks the accounting at every read.
fn save(flow: &Arc<FlowTable>, function: &TestFunction, sabotage: &Sabotage) -> Vec<u8> {
    let mut session = SaveSession::new(COMPAT, flow.clone(), None);
    let mut stream = Vec::new();
    let mut rounds = 0;
    loop {
        let before = session.pending();
        let (data, done) = session.read(10_000).unwrap();
        let empty = done.flags & abi::DLR_CQE_F_EMPTY != 0;
        assert_eq!(empty, before.initial + before.dirty == 0, "{before:?}");
        assert_eq!(empty, data.is_empty());
        assert!(before.total > 0);
        stream.extend(data);
        if before.initial > 0 {
            traffic(flow, rounds * 50, 50);
        } else if empty {
            break;
        }
        rounds += 1;
    }
    traffic(flow, 0, 500);
    *function.state.lock() = FnState::Stopped;
    loop {
        let before = session.pending();
        let (data, done) = session.read_final(7_000, function, 0, sabotage).unwrap();
        stream.extend(data);
        if done.flags & abi::DLR_CQE_F_END != 0 {
            break;
        }
        assert!(before.total > 0);
    }
    let again = session.read_final(7_000, function, 0, sabotage).unwrap();
    assert!(again.0.is_empty() && again.1.flags == abi::DLR_CQE_F_END);
    stream
}

fn load(stream: &[u8], pieces: &[usize]) -> Result<(Arc<FlowTable>, Vec<u8>), Status> {
    let flow = table();
    let function = TestFunction::new(b"old");
    let mut session = LoadSession::new(COMPAT, flow.clone());
    let mut rest = stream;
    for piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at((*piece).clamp(1, rest.len().max(1)).min(rest.len()));
        session.write(now)?;
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    let result = session.commit(&*function);
    let image = function.image.lock().clone();
    if result.is_err() {
        assert_eq!(image, b"old", "nothing may be installed");
        assert!(flow.image().iter().all(|&b| b == 0));
    }
    result.map(|()| (flow, image))
}

/// A stream, the table and the personality that it holds.
fn example() -> &'static (Vec<u8>, Vec<u8>, Vec<u8>) {
    static EXAMPLE: OnceLock<(Vec<u8>, Vec<u8>, Vec<u8>)> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let flow = table();
        traffic(&flow, 0, 1000);
        let personality: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let function = TestFunction::new(&personality);
        let stream = save(&flow, &function, &Sabotage::default());
        (stream, flow.image(), personality)
    })
}

/// Starts of the sections.
fn sections(stream: &[u8]) -> Vec<usize> {
    let (mut at, mut starts) = (0, Vec::new());
    while at < stream.len() {
        starts.push(at);
        let length = u32::from_le_bytes(stream[at + 16..at + 20].try_into().unwrap());
        at += SECTION + length as usize;
    }
    starts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn round_trip_at_any_split(pieces in prop::collection::vec(1usize..100_000, 1..6)) {
        let (stream, flow, personality) = example();
        let (got_flow, got) = load(stream, &pieces).unwrap();
        prop_assert_eq!(&got, personality);
        prop_assert!(got_flow.image() == *flow);
    }

    #[test]
    fn any_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut stream = example().0.clone();
        let at = at.index(stream.len());
        stream[at] ^= 1 << bit;
        prop_assert!(load(&stream, &[65_536]).is_err());
    }

    #[test]
    fn any_cut_is_refused(at in any::<prop::sample::Index>()) {
        let stream = &example().0;
        let at = at.index(stream.len());
        prop_assert_eq!(load(&stream[..at], &[65_536]).err(), Some(Status::Truncated));
    }
}

#[test]
fn single_bytes_round_trip() {
    let flow = Arc::new(FlowTable::new(0, Arc::default()));
    let stream = save(&flow, &TestFunction::new(b"abc"), &Sabotage::default());
    let function = TestFunction::new(&[]);
    let mut session = LoadSession::new(COMPAT, flow);
    for byte in &stream {
        session.write(std::slice::from_ref(byte)).unwrap();
    }
    session.commit(&*function).unwrap();
    assert_eq!(*function.image.lock(), b"abc");
}

#[test]
fn corruption_in_every_section_is_refused() {
    let stream = &example().0;
    let starts = sections(stream);
    assert!(starts.len() > 5);
    for (n, &start) in starts.iter().enumerate() {
        for offset in (0..SECTION).chain([SECTION, SECTION + 7]) {
            let mut bad = stream.clone();
            bad[start + offset] ^= 0x10;
            assert!(load(&bad, &[65_536]).is_err(), "section {n}, byte {offset}");
        }
    }
}

#[test]
fn an_old_stream_is_taken_and_a_newer_one_refused_in_the_header() {
    let stream = &example().0;
    let header = |version: u32| {
        let mut header = stream[..HEADER].to_vec();
        header[SECTION + 16..SECTION + 20].copy_from_slice(&version.to_le_bytes());
        let payload_crc = crc32c::crc32c(&header[SECTION..]);
        let (mut head, _) = abi::dlr_section::read_from_prefix(&header).unwrap();
        head.payload_crc = payload_crc;
        head.header_crc = header_crc(&head);
        header[..SECTION].copy_from_slice(head.as_bytes());
        LoadSession::new(COMPAT, table()).write(&header)
    };
    assert_eq!(stream[SECTION + 16..SECTION + 20], 2u32.to_le_bytes());
    assert_eq!(header(1), Ok(()));
    assert_eq!(header(2), Ok(()));
    assert_eq!(header(3), Err(Status::Incompatible));
    assert_eq!(header(0), Err(Status::Incompatible));
}

#[test]
fn flags_that_are_not_defined_are_refused_in_every_section() {
    let stream = &example().0;
    for start in sections(stream) {
        for flags in [2u32, 3, 1 << 31] {
            let mut bad = stream.clone();
            bad[start + 8..start + 12].copy_from_slice(&flags.to_le_bytes());
            let crc = crc32c::crc32c(&bad[start..start + SECTION - 4]);
            bad[start + SECTION - 4..start + SECTION].copy_from_slice(&crc.to_le_bytes());
            let refused = load(&bad, &[65_536]).err();
            assert_eq!(refused, Some(Status::Incompatible), "byte {start}");
        }
    }
}

#[test]
fn a_stream_with_another_id_is_refused_in_the_header() {
    let header = &example().0[..HEADER];
    let mut other = COMPAT;
    other[15] ^= 1;
    assert_eq!(LoadSession::new(COMPAT, table()).write(header), Ok(()));
    assert_eq!(
        LoadSession::new(other, table()).write(header),
        Err(Status::Incompatible)
    );
}

#[test]
fn order_is_checked() {
    let stream = &example().0;
    let starts = sections(stream);
    // A section left out, and one twice.
    let cut = [&stream[..starts[3]], &stream[starts[4]..]].concat();
    assert_eq!(load(&cut, &[4096]).err(), Some(Status::Corrupt));
    let twice = [&stream[..starts[4]], &stream[starts[3]..]].concat();
    assert_eq!(load(&twice, &[4096]).err(), Some(Status::Corrupt));
    let behind = [&stream[..], b"x"].concat();
    assert_eq!(load(&behind, &[4096]).err(), Some(Status::Corrupt));
}

#[test]
fn other_table_sizes_are_refused() {
    let (stream, ..) = example();
    let small = Arc::new(FlowTable::new(BLOCK as u64, Arc::default()));
    assert_eq!(
        LoadSession::new(COMPAT, small).write(stream),
        Err(Status::TooBig)
    );
    let large = Arc::new(FlowTable::new(64 << 20, Arc::default()));
    assert_eq!(
        LoadSession::new(COMPAT, large).write(stream),
        Err(Status::Incompatible)
    );
}

#[test]
fn a_personality_that_is_refused_installs_nothing() {
    let stream = save(&table(), &TestFunction::new(&[0xee]), &Sabotage::default());
    assert_eq!(load(&stream, &[9999]).err(), Some(Status::Corrupt));
}

#[test]
fn sabotaged_streams_are_refused() {
    let sabotage = Sabotage::default();
    sabotage.set(SabotageKind::StateBitFlip, 5);
    let stream = save(&table(), &TestFunction::new(b"abc"), &sabotage);
    assert_eq!(load(&stream, &[9999]).err(), Some(Status::Corrupt));
    let sabotage = Sabotage::default();
    sabotage.set(SabotageKind::StateTruncated, 1);
    let stream = save(&table(), &TestFunction::new(b"abc"), &sabotage);
    assert_eq!(load(&stream, &[9999]).err(), Some(Status::Truncated));
}

#[test]
fn reinit_starts_the_image_anew() {
    let flow = table();
    traffic(&flow, 0, 100);
    let mut session = SaveSession::new(COMPAT, flow.clone(), None);
    let first = session.pending();
    assert_eq!(first, SaveSession::pending_without_session(&flow));
    let mut stream = Vec::new();
    while session.pending().initial > 0 {
        stream.extend(session.read(60_000).unwrap().0);
    }
    flow.clear();
    traffic(&flow, 1000, 10);
    session.reinit();
    assert_eq!(session.reinits(), 1);
    assert!(session.pending().initial > BLOCKS * BLOCK as u64);
    let function = TestFunction::new(b"new");
    loop {
        let (data, done) = session
            .read_final(1 << 20, &*function, 3, &Sabotage::default())
            .unwrap();
        stream.extend(data);
        if done.flags & abi::DLR_CQE_F_END != 0 {
            break;
        }
    }
    assert_eq!(session.pending(), Pending::default());
    let (got, image) = load(&stream, &[4096]).unwrap();
    assert_eq!(image, b"new");
    assert!(got.image() == flow.image());
}

#[test]
fn a_final_image_is_void_after_a_resume() {
    let mut session = SaveSession::new(COMPAT, table(), None);
    let function = TestFunction::new(b"x");
    let sabotage = Sabotage::default();
    while session.pending().initial > 0 {
        session.read(1 << 20).unwrap();
    }
    session.read_final(10, &*function, 4, &sabotage).unwrap();
    assert_eq!(session.read(10).err(), Some(Status::InvalidState));
    let stale = session.read_final(10, &*function, 5, &sabotage);
    assert_eq!(stale.err(), Some(Status::InvalidState));
}

#[test]
fn undelivered_bytes_come_again() {
    let flow = Arc::new(FlowTable::new(0, Arc::default()));
    let mut session = SaveSession::new(COMPAT, flow, None);
    let (data, _) = session.read(40).unwrap();
    session.unread(&data);
    assert_eq!(session.read(40).unwrap().0, data);
}

/// A read that could not be delivered has changed nothing: neither what is pending, nor as what.
#[test]
fn undelivered_bytes_are_pending_as_what_they_were() {
    let flow = table();
    let mut session = SaveSession::new(COMPAT, flow.clone(), None);
    while session.pending().initial > 0 {
        session.read(1 << 20).unwrap();
    }
    traffic(&flow, 0, 30);
    // Some of a change is delivered before: the next read begins in the middle of a section.
    session.read(1000).unwrap();
    let before = session.pending();
    assert!(before.initial == 0 && before.dirty > 0);
    let (data, _) = session.read(1 << 20).unwrap();
    session.unread(&data);
    let after = session.pending();
    assert_eq!((after.initial, after.dirty > 0), (0, true), "{after:?}");
    assert_eq!(session.read(1 << 20).unwrap().0, data);

    // The first final read: after it the function may go on, and changes be read again.
    let function = TestFunction::new(b"old");
    traffic(&flow, 50, 30);
    let pending = session.pending();
    let final_ = |session: &mut SaveSession, resumes| {
        session.read_final(1 << 20, &*function, resumes, &Sabotage::default())
    };
    let (data, _) = final_(&mut session, 0).unwrap();
    session.unread(&data);
    assert_eq!(session.pending().initial, 0);
    assert_eq!(session.pending().dirty > 0, pending.dirty > 0);
    let (changes, _) = session.read(1 << 20).unwrap();
    assert!(data.starts_with(&changes) && !changes.is_empty());
    *function.image.lock() = b"new".to_vec();
    let (rest, done) = final_(&mut session, 1).unwrap();
    assert_ne!(done.flags & abi::DLR_CQE_F_END, 0);
    assert!(rest.windows(3).any(|w| w == b"new") && !rest.windows(3).any(|w| w == b"old"));
}
