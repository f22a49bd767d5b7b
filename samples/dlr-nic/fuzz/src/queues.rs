// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A guest, and a VMM that moves it.

use arbitrary::{Arbitrary, Unstructured};
use dlr_core::{DataFunction, FnState, WireRx};
use dlr_pci::{PciFunction, ResetKind};

use crate::{
    function::{Function, FEATURES, SIZE},
    guest::{desc, Guest, BAR, BASE, BUFFERS, QUEUES},
};

/// Steps of one string.
const STEPS: usize = 100;

#[derive(Debug, Arbitrary)]
enum Step {
    /// A register of the BAR: page, offset, width.
    Write(u8, u16, u8, u32),
    Read(u8, u16, u8),
    /// Configuration space.
    ConfigWrite(u16, u8, u32),
    ConfigRead(u16, u8),
    Poke(u32, [u8; 8]),
    /// A descriptor: queue, index, address, length, flags, next.
    Describe(u8, u8, Place, u16, u16, u8),
    /// Makes a head available, or any number.
    Offer(u8, u16),
    Ring(u8),
    /// A frame of the guest: its header, and a length.
    Send([u8; 12], u16),
    /// A command of the guest.
    Command([u8; 2], [u8; 14], u8),
    /// A frame of this length for the guest, or for another.
    Deliver(u16, u8),
    Suspend(bool),
    Resume(bool),
    /// To another function, whether it is stopped or not.
    Move(bool),
    Reset(u8),
    Master(bool),
    Link(bool),
    /// The driver sets its device up, with these features more or less.
    Start(u64),
    Unmap(u8, u8),
}

/// Where a descriptor leads.
#[derive(Debug, Arbitrary)]
enum Place {
    Buffer(u16),
    /// Into a table of descriptors.
    Table(u8, u8),
    Anywhere(u64),
}

impl Place {
    fn address(&self) -> u64 {
        match self {
            Self::Buffer(at) => BUFFERS + u64::from(*at),
            Self::Table(queue, index) => desc(u16::from(*queue) % QUEUES) + 16 * u64::from(*index),
            Self::Anywhere(at) => *at,
        }
    }
}

/// 1, 2 or 4 bytes, or another number now and then.
fn width(code: u8) -> usize {
    match code % 8 {
        0 => 1,
        1 | 2 => 2,
        3..=6 => 4,
        _ => usize::from(code >> 3),
    }
}

fn bytes(value: u32, width: usize) -> Vec<u8> {
    value
        .to_le_bytes()
        .into_iter()
        .cycle()
        .take(width)
        .collect()
}

/// Mostly where something is.
fn register(page: u8, offset: u16) -> u64 {
    let at = if page & 0x80 == 0 {
        offset % 0x40
    } else {
        offset % 0x1000
    };
    u64::from(page % 4) * 0x1000 + u64::from(at)
}

fn queue(number: u8) -> u16 {
    u16::from(number) % QUEUES
}

fn take(function: &mut Function, step: Step) {
    let net = &function.net;
    match step {
        Step::Write(page, offset, code, value) => {
            net.bar_write(BAR, register(page, offset), &bytes(value, width(code)));
        }
        Step::Read(page, offset, code) => {
            net.bar_read(BAR, register(page, offset), &mut vec![0; width(code)]);
        }
        Step::ConfigWrite(offset, code, value) => {
            net.config_write(offset % 0x1000, &bytes(value, width(code)));
        }
        Step::ConfigRead(offset, code) => {
            net.config_read(offset % 0x1000, &mut vec![0; width(code)]);
        }
        Step::Poke(at, data) => function.poke(BASE + u64::from(at) % SIZE, &data),
        Step::Describe(q, index, place, len, flags, next) => {
            let (at, next) = (place.address(), u16::from(next));
            function.describe(queue(q), index.into(), at, len.into(), flags, next);
        }
        Step::Offer(q, head) => function.offer(queue(q), head),
        Step::Ring(q) => function.ring(queue(q)),
        Step::Send(header, len) => {
            function.poke(BUFFERS, &header);
            function.describe(1, 0, BUFFERS, 12 + u32::from(len), 0, 0);
            function.offer(1, 0);
            function.ring(1);
        }
        Step::Command(head, data, len) => {
            let command = [&head.map(|byte| byte % 8)[..], &data].concat();
            function.poke(BUFFERS, &command);
            function.describe(2, 0, BUFFERS, u32::from(len) % 17, 1, 1);
            function.describe(2, 1, BUFFERS + 64, 1, 2, 0);
            function.offer(2, 0);
            function.ring(2);
        }
        Step::Deliver(len, to) => {
            let mut frame = vec![to; usize::from(len)];
            if let (Some(start), true) = (frame.get_mut(..6), to & 1 == 0) {
                start.copy_from_slice(&[2, 0, 0, 0, 0, 9]);
            }
            net.deliver(&frame);
        }
        Step::Suspend(p2p) => net.suspend(if p2p {
            FnState::RunningP2p
        } else {
            FnState::Stopped
        }),
        Step::Resume(p2p) => net.resume(if p2p {
            FnState::RunningP2p
        } else {
            FnState::Running
        }),
        Step::Move(stopped) => {
            if stopped {
                net.suspend(FnState::Stopped);
            }
            let twin = function.twin();
            twin.net.suspend(FnState::Stopped);
            // One that was saved while it ran may contradict itself.
            let loaded = twin.net.load(&net.save());
            assert!(loaded.is_ok() || !stopped, "{loaded:?}");
            *function = twin;
        }
        Step::Reset(0) => DataFunction::reset(&**net),
        Step::Reset(_) => PciFunction::reset(&**net, ResetKind::FunctionLevel),
        Step::Master(on) => net.bus_master(on),
        Step::Link(up) => net.set_link(up),
        Step::Start(features) => function.start(FEATURES ^ features),
        Step::Unmap(page, pages) => {
            let at = BASE + 4096 * u64::from(page);
            function.port.memory().unmap(at, 4096 * u64::from(pages));
        }
    }
}

/// What a guest does with its function, and what a VMM does with both.
pub fn queues(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut function = Function::new();
    function.start(FEATURES);
    for _ in 0..STEPS {
        match Step::arbitrary(&mut input) {
            Ok(step) if !input.is_empty() => take(&mut function, step),
            _ => break,
        }
    }
    function.has_to_work();
}
