// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Configuration spaces of two functions that a guest may not tell apart.
//!
//! A VMM compares them when it loads one: QEMU refuses a byte that differs unless the guest or the
//! hardware may change it (`get_pci_config_device()` in hw/pci/pci.c; vfio-pci puts all capabilities
//! under that rule). What changes by itself or is written is left out here as well.

/// First byte, and the one after the last.
type Part = (usize, usize);

/// Header fields that are written, virtualised by VFIO or different by nature: COMMAND and STATUS,
/// cache line to BIST, the BARs, the ROM, the interrupt line.
const HEADER: [Part; 5] = [
    (0x04, 0x08),
    (0x0c, 0x10),
    (0x10, 0x28),
    (0x30, 0x34),
    (0x3c, 0x3d),
];
const STATUS: usize = 0x06;
const HAS_CAPABILITIES: u8 = 0x10;
const FIRST_CAPABILITY: usize = 0x34;
const FIRST_EXTENDED: usize = 0x100;

/// Bytes of capability `id` that are written or change by themselves, from its beginning.
fn written(id: u8) -> &'static [Part] {
    match id {
        // Power management: control and status.
        0x01 => &[(4, 8)],
        // VPD: address and data.
        0x03 => &[(2, 8)],
        // MSI: control, address and data; with 64 bits and masks it is longer, but all of that is 0
        // after a reset.
        0x05 => &[(2, 10)],
        // PCI Express: control and status of device, link, slot and root, twice.
        0x10 => &[
            (8, 12),
            (16, 20),
            (24, 28),
            (28, 36),
            (40, 44),
            (48, 52),
            (56, 60),
        ],
        // MSI-X: control.
        0x11 => &[(2, 4)],
        _ => &[],
    }
}

/// The same of an extended capability.
fn written_extended(id: u16) -> &'static [Part] {
    match id {
        // Advanced error reporting: status, masks and the header log.
        0x0001 => &[(4, 0x48)],
        _ => &[],
    }
}

fn byte(config: &[u8], at: usize) -> u8 {
    config.get(at).copied().unwrap_or(0)
}

fn clear(config: &mut [u8], parts: &[Part], from: usize) {
    for at in parts.iter().flat_map(|(first, end)| *first..*end) {
        if let Some(byte) = config.get_mut(from + at) {
            *byte = 0;
        }
    }
}

/// A configuration space with zeros in place of what may differ.
pub fn masked(config: &[u8]) -> Vec<u8> {
    let mut masked = config.to_vec();
    clear(&mut masked, &HEADER, 0);
    let mut at = match byte(config, STATUS) & HAS_CAPABILITIES {
        0 => 0,
        _ => usize::from(byte(config, FIRST_CAPABILITY) & !3),
    };
    // Each capability takes 4 bytes at least, so a list that is longer than this has a loop.
    for _ in 0..FIRST_EXTENDED / 4 {
        if at < 0x40 {
            break;
        }
        clear(&mut masked, written(byte(config, at)), at);
        at = usize::from(byte(config, at + 1) & !3);
    }
    let mut at = FIRST_EXTENDED;
    for _ in 0..config.len() / 4 {
        if at < FIRST_EXTENDED || at + 4 > config.len() {
            break;
        }
        let id = u16::from_le_bytes([byte(config, at), byte(config, at + 1)]);
        clear(&mut masked, written_extended(id), at);
        at =
            usize::from(u16::from_le_bytes([byte(config, at + 2), byte(config, at + 3)]) >> 4) & !3;
    }
    masked
}

/// Offsets of the bytes that differ though they may not.
pub fn differences(one: &[u8], other: &[u8]) -> Vec<usize> {
    let (one, other) = (masked(one), masked(other));
    let length = one.len().max(other.len());
    let differ = |at: &usize| one.get(*at) != other.get(*at);
    (0..length).filter(differ).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PCI Express at 0x40, MSI-X at 0x80, AER at 0x100, a vendor's at 0x150.
    fn config() -> Vec<u8> {
        let mut config = vec![0; 4096];
        config[..2].copy_from_slice(&0x1af4_u16.to_le_bytes());
        config[STATUS] = HAS_CAPABILITIES;
        config[FIRST_CAPABILITY] = 0x40;
        config[0x40..0x42].copy_from_slice(&[0x10, 0x80]);
        config[0x80..0x82].copy_from_slice(&[0x11, 0]);
        config[0x100..0x104].copy_from_slice(&(0x1501_0001_u32).to_le_bytes());
        config[0x150..0x154].copy_from_slice(&(0x0001_000b_u32).to_le_bytes());
        config
    }

    fn with(at: usize) -> Vec<usize> {
        let mut other = config();
        other[at] ^= 0xff;
        differences(&config(), &other)
    }

    #[test]
    fn what_is_fixed_has_to_be_equal() {
        assert!(differences(&config(), &config()).is_empty());
        // Device id, class, subsystem, DevCap, MSI-X table, the words of the vendor, the last byte.
        for at in [0x02, 0x0b, 0x2e, 0x44, 0x84, 0x158, 0xfff] {
            assert_eq!(with(at), [at], "{at:#x}");
        }
        assert_eq!(differences(&config(), &config()[..256]).first(), Some(&256));
    }

    #[test]
    fn what_is_written_may_differ() {
        // COMMAND, BAR 0, interrupt line, DEVCTL, LNKSTA, MSI-X control, an AER status.
        for at in [0x04, 0x11, 0x3c, 0x48, 0x52, 0x83, 0x110] {
            assert!(with(at).is_empty(), "{at:#x}");
        }
    }

    #[test]
    fn lists_with_loops_and_short_spaces_end() {
        let mut looped = config();
        looped[0x41] = 0x40;
        looped[0x152..0x154].copy_from_slice(&0x1500_u16.to_le_bytes());
        assert_eq!(masked(&looped).len(), 4096);
        for length in [0, 1, 64, 255, 256, 258] {
            assert_eq!(masked(&config()[..length]).len(), length);
        }
    }
}
