// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The MSI-X table of a function whose client does not emulate it.

use crate::{config::MsixLayout, irq::Msix};

/// Bytes of an entry (PCI Express Base Specification 6.0, 7.7.2).
const ENTRY: u64 = 16;
/// Offsets in an entry.
const DATA: u64 = 8;
const CONTROL: u64 = 12;
/// Mask bit of an entry's control.
const MASKED: u32 = 1;

/// Message control bits of the capability.
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;

/// The table: it holds what the host writes, and masks vectors accordingly.
#[derive(Debug)]
pub(super) struct Vectors {
    layout: MsixLayout,
    bytes: Vec<u8>,
    control: u16,
}

impl Vectors {
    /// All vectors masked, MSI-X disabled.
    pub(super) fn new(layout: MsixLayout) -> Self {
        let entry = [0, 0, 0, MASKED].map(u32::to_le_bytes).concat();
        Self {
            layout,
            bytes: entry.repeat(layout.vectors.into()),
            control: 0,
        }
    }

    /// Whether this access is one to the table.
    pub(super) fn covers(&self, bar: u8, offset: u64, len: usize) -> bool {
        let end = offset.checked_add(len as u64);
        bar == self.layout.bar && end.is_some_and(|end| end <= self.bytes.len() as u64)
    }

    /// Reads the table; [`Self::covers`] holds.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        if let Some(bytes) = self.bytes.get(offset as usize..) {
            for (to, from) in data.iter_mut().zip(bytes) {
                *to = *from;
            }
        }
    }

    /// Writes the table; [`Self::covers`] holds.
    pub(super) fn write(&mut self, offset: u64, data: &[u8], msix: &Msix) {
        if let Some(bytes) = self.bytes.get_mut(offset as usize..) {
            for (to, from) in bytes.iter_mut().zip(data) {
                *to = *from;
            }
        }
        self.apply(msix);
    }

    /// The message control word is this now.
    pub(super) fn set_control(&mut self, control: u16, msix: &Msix) {
        if std::mem::replace(&mut self.control, control) != control {
            self.apply(msix);
        }
    }

    /// The data of a vector's message; `None` when MSI-X is disabled or there is none such.
    pub(super) fn message(&self, vector: u16) -> Option<u32> {
        let enabled = self.control & ENABLE != 0;
        self.word(vector, DATA).filter(|_| enabled)
    }

    fn apply(&self, msix: &Msix) {
        let all = self.control & ENABLE == 0 || self.control & MASK_ALL != 0;
        for vector in 0..self.layout.vectors {
            let own = self.word(vector, CONTROL).is_none_or(|c| c & MASKED != 0);
            msix.mask(vector.into(), 1, all || own);
        }
    }

    fn word(&self, vector: u16, at: u64) -> Option<u32> {
        let at = usize::try_from(u64::from(vector) * ENTRY + at).ok()?;
        let bytes = self.bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vectors {
        Vectors::new(MsixLayout {
            bar: 2,
            vectors: 2,
            pba: 4096,
        })
    }

    fn is_pending(msix: &Msix) -> bool {
        let mut bits = [0];
        msix.read_pending(0, &mut bits);
        bits[0] != 0
    }

    #[test]
    fn a_vector_fires_when_it_and_its_function_are_unmasked() {
        let (msix, mut table) = (Msix::new(2), table());
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        assert!(msix.connect(0, vec![event]));
        table.apply(&msix);
        for (control, entry, fires) in [
            (0, 0, false),
            (ENABLE | MASK_ALL, 0, false),
            (ENABLE, MASKED, false),
            (ENABLE, 0, true),
        ] {
            table.set_control(control, &msix);
            table.write(CONTROL, &entry.to_le_bytes(), &msix);
            msix.fire(0, 1);
            assert_eq!(is_pending(&msix), !fires, "{control:#x} {entry}");
        }
    }

    #[test]
    fn the_message_is_what_the_host_wrote() {
        let (msix, mut table) = (Msix::new(2), table());
        table.write(ENTRY + DATA, &77u32.to_le_bytes(), &msix);
        assert_eq!(table.message(1), None);
        table.set_control(ENABLE, &msix);
        assert_eq!((table.message(1), table.message(2)), (Some(77), None));
        let mut data = [0; 4];
        table.read(ENTRY + DATA, &mut data);
        assert_eq!(data, 77u32.to_le_bytes());
        assert!(table.covers(2, 28, 4) && !table.covers(2, 30, 4) && !table.covers(0, 0, 4));
    }
}
