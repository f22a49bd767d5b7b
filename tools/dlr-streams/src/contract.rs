// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the contract says of a stream: functions that have all of it at once.

use crc32c::crc32c;
use dlr_abi::abi;

use crate::{
    sections::{u16_at, u32_at},
    stub::{Result, EINVAL, ENOMEM, EOPNOTSUPP},
    vf::stream::Accepts,
};

/// Number of bytes of the complete sections, and whether the stream is complete, in the order of
/// the checks of the driver.
pub(crate) fn expected(stream: &[u8], accepts: &Accepts) -> (u64, Result<bool>) {
    let mut at = 0;
    for seq in 0.. {
        let Some(header) = stream.get(at..at + 32) else {
            break;
        };
        let (kind, version) = (u16_at(header, 4), u16_at(header, 6));
        let (flags, length) = (u32_at(header, 8), u32_at(header, 16));
        if &header[..4] != b"DLRS"
            || u32_at(header, 28) != crc32c(&header[..28])
            || u32_at(header, 12) != seq
            || u32_at(header, 20) != 0
            || (kind == 1) != (seq == 0)
        {
            return (at as u64, Err(EINVAL));
        }
        let known = match kind {
            1 | 2 => version == 1,
            abi::DLR_SECTION_DEVICE_FIRST..=abi::DLR_SECTION_DEVICE_LAST => version > 0,
            _ => false,
        };
        if flags > 1 || (flags == 0 && !known) {
            return (at as u64, Err(EOPNOTSUPP));
        }
        if length == 0 || (kind == 1 && length != 32) || (kind == 2 && length != 16) {
            return (at as u64, Err(EINVAL));
        }
        let end = at as u64 + 32 + u64::from(length);
        if length > abi::DLR_SECTION_MAX || end > accepts.max_bytes {
            return (at as u64, Err(ENOMEM));
        }
        let Some(payload) = stream.get(at + 32..end as usize) else {
            break;
        };
        if u32_at(header, 24) != crc32c(payload) {
            return (at as u64, Err(EINVAL));
        }
        if kind == 1 {
            let is_ours = payload[..16] == accepts.compat
                && (accepts.version_min..=accepts.version_max).contains(&u32_at(payload, 16))
                && u32_at(payload, 20) >> 16 == abi::DLR_CONTRACT_VERSION >> 16;
            if !is_ours {
                return (at as u64, Err(EOPNOTSUPP));
            }
        }
        if kind == 2 {
            if u32_at(payload, 0) != seq
                || u32_at(payload, 4) != crc32c(&stream[..at])
                || u32_at(payload, 8) != at as u32
                || u32_at(payload, 12) != 0
            {
                return (at as u64, Err(EINVAL));
            }
            let is_end = end == stream.len() as u64;
            return (end, if is_end { Ok(true) } else { Err(EINVAL) });
        }
        at = end as usize;
    }
    (at as u64, Ok(false))
}

/// Whether the stream has sections up to a trailer, and nothing else.
pub(crate) fn is_framed(mut stream: &[u8], max_bytes: u64) -> bool {
    if stream.len() as u64 > max_bytes {
        return false;
    }
    while let Some((header, rest)) = stream.split_at_checked(32) {
        let length = u32_at(header, 16);
        if !header.starts_with(b"DLRS") || !(1..=abi::DLR_SECTION_MAX).contains(&length) {
            return false;
        }
        if u16_at(header, 4) == 2 {
            return rest.len() == length as usize;
        }
        stream = rest.get(length as usize..).unwrap_or_default();
    }
    false
}
