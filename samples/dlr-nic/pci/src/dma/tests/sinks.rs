// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Who is told of writes.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

use dlr_core::{DirtySink, DmaMemory};
use vm_memory::{Bytes, GuestAddress, Permissions};

use super::{super::*, fd, file, PAGE};

/// Looks at the file itself when it is told of a write.
pub(super) struct Witness {
    pub(super) file: File,
    /// Whether it came before the write, address, length, first byte in the file.
    pub(super) seen: Mutex<Vec<(bool, u64, u64, u8)>>,
}

impl Witness {
    fn note(&self, before: bool, iova: u64, len: u64) {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, iova).unwrap();
        self.seen.lock().unwrap().push((before, iova, len, byte[0]));
    }
}

impl DirtySink for Witness {
    fn before_write(&self, iova: u64, len: u64) {
        self.note(true, iova, len);
    }

    fn dirty(&self, iova: u64, len: u64) {
        self.note(false, iova, len);
    }
}

#[test]
fn every_write_is_announced_after_its_data() {
    let file = file(2);
    let witness = Arc::new(Witness {
        file: file.try_clone().unwrap(),
        seen: Mutex::default(),
    });
    let space = DmaSpace::new(Arc::default(), Some(witness.clone()));
    // Iova and file offset are the same.
    for at in [0, PAGE] {
        space
            .map(at, PAGE, fd(&file), at, Permissions::ReadWrite)
            .unwrap();
    }
    let told = || std::mem::take(&mut *witness.seen.lock().unwrap());
    space.write(8, &[0xaa; 16]).unwrap();
    assert_eq!(told(), [(true, 8, 16, 0), (false, 8, 16, 0xaa)]);
    space.write_u64(PAGE, 0xbb).unwrap();
    assert_eq!(told(), [(true, PAGE, 8, 1), (false, PAGE, 8, 0xbb)]);
    // Across two pages.
    space.write(PAGE - 1, &[0xcc, 0xdd]).unwrap();
    assert_eq!(told(), [(true, PAGE - 1, 2, 0), (false, PAGE - 1, 2, 0xcc)]);
    // The ways of the data paths.
    let guard = space.lock();
    guard.write_obj(0x1111_u16, GuestAddress(32)).unwrap();
    guard
        .store(
            0x2222_u16,
            GuestAddress(34),
            std::sync::atomic::Ordering::Release,
        )
        .unwrap();
    assert_eq!(told().iter().filter(|n| !n.0).count(), 2);
    // Reads and faults are silent.
    space.read(0, &mut [0; 64]).unwrap();
    space.write(3 * PAGE, &[0]).unwrap_err();
    assert_eq!(told(), []);
}
