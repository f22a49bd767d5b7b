// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the NIC says of a stream that the driver has accepted, and the state in it.

use crate::sections::{put, u16_at, u32_at, HEADER};

/// Bytes of a block of the flow table.
const BLOCK: usize = 4096;
/// Blocks of the flow table of the functions here.
pub(crate) const BLOCKS: u32 = 1;
/// Longest image that the NIC takes.
const MAX_IMAGE: usize = 1 << 20;

/// Places in an image, and what version 2 has more than version 1: the permanent address, link,
/// offloads and window before the checksum.
const VERSION: usize = 4;
const SIZE: usize = 8;
const FEATURES: usize = 12;
const STATUS: usize = 28;
const GENERATION: usize = 29;
pub(crate) const MODE: usize = 31;
const MORE: usize = 32;
const CRC: usize = 4;

/// The offloads of receiving, and the feature that lets a driver switch them, which version 1 does
/// not have.
const GUEST_CSUM: u8 = 1 << 1;
const CTRL_GUEST_OFFLOADS: u8 = 1 << 2;
const FEATURES_OK: u8 = 8;

/// The state of a function.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) flow: Vec<u8>,
    pub(crate) image: Vec<u8>,
}

/// The state in a stream that the driver accepts; none if the NIC has to refuse it for what is in
/// its sections. Whether it takes the image is up to the function.
///
/// Driver and NIC agree on all that makes a stream whole. The NIC knows more, and so refuses more:
///
/// * a section without a version: the driver leaves the version of optional sections to the device;
/// * a header or trailer that says that it is optional and is of another version than 1;
/// * a reserved word of the stream's header that is not 0;
/// * its own sections when they contradict each other, or are of another version than 1 and not
///   optional.
pub(crate) fn state(mut stream: &[u8]) -> Option<State> {
    let mut flow: Option<Vec<u8>> = None;
    let (mut image, mut total) = (Vec::new(), None);
    while let Some((header, rest)) = stream.split_at_checked(HEADER) {
        let (payload, rest) = rest.split_at_checked(u32_at(header, 16) as usize)?;
        stream = rest;
        let version = u16_at(header, 6);
        if version == 0 {
            return None;
        }
        let (first, second) = (u32_at(payload, 0), u32_at(payload, 4));
        let data = payload.get(8..);
        match (u16_at(header, 4), version) {
            (1, 1) if payload[24..] != [0; 8] => return None,
            (1 | 2, version) => {
                if version != 1 {
                    return None;
                }
            }
            (0x100, 1) => {
                let is_ours = payload.len() == 8 && (first, second) == (BLOCKS, 0);
                flow = Some(vec![0; is_ours.then_some(BLOCKS as usize * BLOCK)?]);
            }
            (0x101, 1) => {
                let (flow, data) = (flow.as_mut()?, data?);
                let end = first.checked_add(second)?;
                if second == 0 || end > BLOCKS || data.len() != second as usize * BLOCK {
                    return None;
                }
                put(flow, first as usize * BLOCK, data);
            }
            (0x102, 1) => {
                let data = data.filter(|data| !data.is_empty())?;
                let whole = *total.get_or_insert(second) as usize;
                if whole > MAX_IMAGE
                    || whole != second as usize
                    || first as usize != image.len()
                    || image.len() + data.len() > whole
                {
                    return None;
                }
                image.extend_from_slice(data);
            }
            _ if u32_at(header, 8) == 1 => (),
            _ => return None,
        }
    }
    let flow = flow.filter(|_| total == Some(image.len() as u32))?;
    Some(State { flow, image })
}

/// The image of version 1 of the same function, with the features that this version had.
pub(crate) fn older(image: &[u8]) -> Vec<u8> {
    let mut old = image[..image.len() - MORE - CRC].to_vec();
    put(&mut old, VERSION, &[1, 0]);
    let size = (old.len() + CRC) as u32;
    put(&mut old, SIZE, &size.to_le_bytes());
    old[FEATURES] &= !CTRL_GUEST_OFFLOADS;
    sealed(old)
}

/// What a function whose image was `before` says after it has taken `image`: the same, unless it is
/// of version 1. Then the function adds what that version did not have: its own permanent address,
/// the link that it has here, which is up, with an announcement of that, all offloads, no window.
pub(crate) fn saved_again(image: &[u8], before: &[u8]) -> Vec<u8> {
    if u16_at(image, VERSION) != 1 {
        return image.to_vec();
    }
    let mut new = image[..image.len() - CRC].to_vec();
    put(&mut new, VERSION, &[2, 0]);
    let size = (new.len() + MORE + CRC) as u32;
    put(&mut new, SIZE, &size.to_le_bytes());
    new[GENERATION] = new[GENERATION].wrapping_add(1);
    let more = before.len() - CRC - MORE;
    let permanent = &before[more..more + 6];
    let negotiated = new[STATUS] & FEATURES_OK != 0;
    let offloads = u64::from(new[FEATURES] & GUEST_CSUM) * u64::from(negotiated);
    let new = [&new, permanent, &[1, 0], &offloads.to_le_bytes(), &[0; 16]].concat();
    sealed(new)
}

/// Adds the checksum.
fn sealed(mut image: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&image);
    image.extend_from_slice(&crc.to_le_bytes());
    image
}

/// Changes an image, and repairs its checksum.
pub(crate) fn changed(mut image: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    image.truncate(image.len().saturating_sub(CRC));
    change(&mut image);
    sealed(image)
}
