// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The capability `VIRTIO_PCI_CAP_PCI_CFG` (virtio 1.3, 4.1.4.9): a way to the BARs through
//! configuration space, for firmware that cannot reach them otherwise.

use dlr_pci::ConfigSpace;

use crate::regs::CAP_PCI_CFG;

/// `PCI_CAP_ID_VNDR`.
const CAP_VENDOR: u8 = 0x09;
/// Offsets in the capability.
const CFG_TYPE: u16 = 3;
const AT_BAR: usize = 4;
const AT_OFFSET: usize = 8;
const AT_LENGTH: usize = 12;
const AT_DATA: usize = 16;
const SIZE: usize = 20;

/// What the driver has written into the capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) bar: u8,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// A BAR access that the capability asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) bar: u8,
    pub(crate) offset: u64,
    /// 1, 2 or 4.
    pub(crate) length: usize,
}

/// Offset of the capability in configuration space.
pub(crate) fn capability(config: &ConfigSpace) -> Option<u16> {
    let is_window = |&(id, at): &(u8, u16)| {
        let mut kind = [0];
        config.read(at.saturating_add(CFG_TYPE), &mut kind);
        id == CAP_VENDOR && kind[0] == CAP_PCI_CFG
    };
    config.capabilities().find(is_window).map(|(_, at)| at)
}

impl Window {
    /// The access that a touch of the data field makes; `None` for a window that shows nothing
    /// (4.1.4.9.2: a length of 1, 2 or 4, and an offset that is a multiple of it).
    pub(crate) fn access(&self) -> Option<Access> {
        let fits = matches!(self.length, 1 | 2 | 4) && self.offset % self.length == 0;
        fits.then_some(Access {
            bar: self.bar,
            offset: self.offset.into(),
            length: self.length as usize,
        })
    }

    /// The capability's registers, with `data` in the data field.
    fn bytes(&self, data: [u8; 4]) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[AT_BAR] = self.bar;
        bytes[AT_OFFSET..AT_LENGTH].copy_from_slice(&self.offset.to_le_bytes());
        bytes[AT_LENGTH..AT_DATA].copy_from_slice(&self.length.to_le_bytes());
        bytes[AT_DATA..].copy_from_slice(&data);
        bytes
    }

    /// Fills in what the capability at `cap` holds of a configuration read at `offset`. Calls
    /// `read` if the read is one of the data field: a dump of configuration space is not.
    pub(crate) fn config_read(
        &self,
        cap: u16,
        offset: u16,
        data: &mut [u8],
        read: impl FnOnce(Access) -> [u8; 4],
    ) {
        let touched = touches_data(cap, offset, data.len());
        let value = match self.access().filter(|_| touched) {
            Some(access) => read(access),
            None => [0; 4],
        };
        let bytes = self.bytes(value);
        for (byte, at) in data.iter_mut().zip(usize::from(offset)..) {
            let inside = at.checked_sub(usize::from(cap)).filter(|at| *at >= AT_BAR);
            if let Some(value) = inside.and_then(|at| bytes.get(at)) {
                *byte = *value;
            }
        }
    }

    /// Takes a configuration write at `offset`, and returns the BAR access that it makes.
    pub(crate) fn config_write(&mut self, cap: u16, offset: u16, data: &[u8]) -> Option<Access> {
        let mut bytes = self.bytes([0; 4]);
        for (value, at) in data.iter().zip(usize::from(offset)..) {
            let inside = at.checked_sub(usize::from(cap));
            if let Some(byte) = inside.and_then(|at| bytes.get_mut(at)) {
                *byte = *value;
            }
        }
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(<[u8]>::first_chunk);
            word.copied().map_or(0, u32::from_le_bytes)
        };
        *self = Self {
            bar: bytes[AT_BAR],
            offset: word(AT_OFFSET),
            length: word(AT_LENGTH),
        };
        let from_start = usize::from(offset) == usize::from(cap) + AT_DATA;
        self.access()
            .filter(|a| from_start && data.len() >= a.length)
    }
}

/// Whether an access of at most a word lies in the data field.
fn touches_data(cap: u16, offset: u16, len: usize) -> bool {
    let start = usize::from(cap) + AT_DATA;
    let at = usize::from(offset);
    at >= start && at + len <= start + 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: u16 = 0x60;

    #[test]
    fn registers_read_back() {
        let mut window = Window::default();
        assert_eq!(window.config_write(CAP, CAP + 4, &[1]), None);
        assert_eq!(
            window.config_write(CAP, CAP + 8, &0x2006u32.to_le_bytes()),
            None
        );
        assert_eq!(
            window.config_write(CAP, CAP + 12, &2u32.to_le_bytes()),
            None
        );
        let mut all = [0xee; 24];
        window.config_read(CAP, CAP, &mut all, |_| panic!("a dump is no access"));
        assert_eq!(all[..4], [0xee; 4], "the head is the configuration space's");
        assert_eq!(all[4..16], [1, 0, 0, 0, 6, 0x20, 0, 0, 2, 0, 0, 0]);
        assert_eq!(all[20..], [0xee; 4]);
    }

    #[test]
    fn the_data_field_is_an_access() {
        let mut window = Window {
            bar: 0,
            offset: 0x14,
            length: 1,
        };
        let mut byte = [0];
        window.config_read(CAP, CAP + 16, &mut byte, |a| {
            assert_eq!((a.bar, a.offset, a.length), (0, 0x14, 1));
            [7, 0, 0, 0]
        });
        assert_eq!(byte, [7]);
        assert!(window.config_write(CAP, CAP + 16, &[1]).is_some());
        window.length = 4;
        assert_eq!(window.config_write(CAP, CAP + 16, &[1]), None, "too short");
        assert_eq!(window.config_write(CAP, CAP + 15, &[0; 5]), None);
        for (offset, length) in [(0, 0), (0, 3), (2, 4), (0, 8)] {
            let window = Window {
                bar: 0,
                offset,
                length,
            };
            assert_eq!(window.access(), None);
        }
    }
}
