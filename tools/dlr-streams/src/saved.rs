// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Streams that functions of the NIC have saved.

use std::{
    thread,
    time::{Duration, Instant},
};

use dlr_core::{DataFunction, Delivery, FnState, WireRx};
use dlr_mgmt::Streams;

use crate::{
    driver::COMPAT,
    function::{Function, FEATURES},
    guest::{used, Guest, BUFFERS},
    hostile::told_otherwise,
    image::{changed, older, MODE},
    nic::FLOW_TABLE,
    sections::{put, seal, section, split, u16_at, Seal, Section, HEADER, PERSONALITY, PERSONALITY_HEAD},
};

/// Features with which an interrupt may be one that no one has asked for yet.
const EVENT_INDEX: u64 = 1 << 29;
/// Queues.
const RX: u16 = 0;
const CTRL: u16 = 2;
/// Flags of a descriptor: there is another one, and the device writes.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Saved streams: of a function that no driver has set up, of two that are in use, and the state of the
/// first of these in the version before, and told in another way.
pub(crate) fn streams() -> Vec<Vec<Section>> {
    let guest = in_use(FEATURES, &[&tables(2, 1), &[0, 0, 0], &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]]);
    let other = in_use(
        FEATURES | EVENT_INDEX,
        &[&tables(64, 65), &[0, 1, 1], &[1, 1, 2, 7, 7, 7, 7, 7]],
    );
    let unused = saved(&Function::new(), &Streams::new(COMPAT, FLOW_TABLE));
    let told = told_otherwise(&guest, 100);
    let old = old(&guest);
    vec![guest, other, unused, told, old]
}

/// The stream of a function whose driver has given `commands` and has received frames. One of the
/// queues has buffers left.
fn in_use(features: u64, commands: &[&[u8]]) -> Vec<Section> {
    let (function, streams) = (Function::new(), Streams::new(COMPAT, FLOW_TABLE));
    function.start(features);
    for index in 0..8 {
        let buffer = BUFFERS + 0x8000 + 0x800 * u64::from(index);
        function.describe(RX, index, buffer, 0x800, WRITE, 0);
        function.offer(RX, index);
    }
    for _ in 0..3 {
        assert_eq!(function.net.deliver(&[0xff; 60]), Delivery::Accepted);
    }
    for (number, bytes) in (0..).zip(commands) {
        command(&function, number, bytes);
    }
    // The registers that say which queue and which half of the features others are of.
    function.put(0x00, &[1]);
    function.put(0x16, &[1, 0]);
    for frame in 0..40u8 {
        streams.flow().packet(frame % 2 == 0, &[frame; 64]);
    }
    let sections = saved(&function, &streams);
    assert!(sections.len() > 4, "a table and an image");
    sections
}

/// Gives a command, and waits until the function has carried it out.
fn command(function: &Function, number: u16, bytes: &[u8]) {
    let (head, answer) = (2 * number, BUFFERS + 0x1000);
    function.poke(BUFFERS, bytes);
    function.poke(answer, &[0xee]);
    function.describe(CTRL, head, BUFFERS, bytes.len() as u32, NEXT, head + 1);
    function.describe(CTRL, head + 1, answer, 1, WRITE, 0);
    function.offer(CTRL, head);
    function.ring(CTRL);
    let end = Instant::now() + Duration::from_secs(20);
    while function.peek16(used(CTRL) + 2) != number + 1 {
        assert!(Instant::now() < end, "a command is not carried out");
        thread::yield_now();
    }
    assert_eq!(function.peek16(answer) as u8, 0, "a command is refused");
}

/// The command that sets the tables of addresses, with so many in each.
fn tables(unicast: u8, multicast: u8) -> Vec<u8> {
    let mut command = vec![1, 0];
    for (first, count) in [(2, unicast), (3, multicast)] {
        command.extend_from_slice(&u32::from(count).to_le_bytes());
        command.extend((0..count).flat_map(|last| [first, 0, 0, 0, 0, last]));
    }
    command
}

fn saved(function: &Function, streams: &Streams) -> Vec<Section> {
    function.net.suspend(FnState::Stopped);
    split(&streams.save(&*function.net))
}

/// The stream as version 1 wrote it.
fn old(stream: &[Section]) -> Vec<Section> {
    let mut sections = stream.to_vec();
    put(&mut sections[0], HEADER + 16, &1u32.to_le_bytes());
    let at = sections.len() - 2;
    let image = older(&sections[at][HEADER + PERSONALITY_HEAD..]);
    let total = (image.len() as u32).to_le_bytes();
    sections[at] = section(PERSONALITY, 0, &[&[0; 4], &total[..], &image].concat());
    seal(&mut sections, Seal::Numbers);
    sections
}

/// Places in an image.
const ISR: usize = 30;
const NEXT_AVAIL: usize = 74;
const TABLES: usize = 164;

/// A function that was in use says what it had.
#[test]
fn the_saved_streams_have_state() {
    let streams = streams();
    let image = |n: usize| streams[n][streams[n].len() - 2][HEADER + PERSONALITY_HEAD..].to_vec();
    let [guest, other, unused] = [0, 1, 2].map(image);
    let tables = |image: &[u8]| (image[TABLES], image[TABLES + 2]);
    assert_eq!(tables(&guest), (2, 1));
    // The table of group addresses was too small, and all of them are wanted.
    assert_eq!((tables(&other), other[MODE] & 0xe), ((64, 0), 0xa));
    assert_eq!((tables(&unused), unused[MODE] & 0xe), ((0, 0), 0));
    assert_eq!([&guest, &other, &unused].map(|image| image[ISR] != 0), [true, true, false]);
    // Eight buffers for frames, three of which are back.
    assert_eq!(u16_at(&guest, NEXT_AVAIL), 3);
    // The checksum is that of the image.
    assert_eq!(changed(guest.clone(), |_| ()), guest);
}
