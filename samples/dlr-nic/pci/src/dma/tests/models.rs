// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Random maps and unmaps.

use std::{
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
};

use dlr_core::DmaMemory;
use proptest::prelude::*;
use vm_memory::Permissions;

use super::{super::*, byte, fd, file, sinks::Witness, space, PAGE};

proptest! {
    /// The short way of a word, in a space without a sink, agrees with the long one in a space with
    /// one, after any maps and unmaps: what it reaches, and where that lies in the file.
    #[test]
    fn a_word_goes_where_its_bytes_would(
        steps in prop::collection::vec((0u8..4, 0u64..32, 1u64..16, 0u64..16), 1..40)
    ) {
        let files = [file(32), file(32)];
        let quiet = Arc::new(Witness { file: file(64), seen: Mutex::default() });
        let spaces = [space(), DmaSpace::new(Arc::default(), Some(quiet))];
        for (kind, first, count, offset) in steps {
            for (space, file) in spaces.iter().zip(&files) {
                let (iova, len) = (first * PAGE, count * PAGE);
                let perm = match kind {
                    0 => {
                        space.unmap(iova, len);
                        continue;
                    }
                    1 => Permissions::Read,
                    2 => Permissions::Write,
                    _ => Permissions::ReadWrite,
                };
                space.map(iova, len, fd(file), offset * PAGE, perm).unwrap();
            }
        }
        for at in (0..48 * PAGE).step_by(PAGE as usize / 2 - 4) {
            let [short, long] = spaces.each_ref().map(|space| space.write_u64(at, !at));
            prop_assert_eq!(short, long, "at {:#x}", at);
        }
        let [short, long] = files.map(|file| {
            let mut bytes = vec![0; 32 * PAGE as usize];
            file.read_exact_at(&mut bytes, 0).map(|()| bytes).unwrap()
        });
        prop_assert!(short == long);
    }

    /// The table agrees with an array of pages after any maps and unmaps.
    #[test]
    fn agrees_with_a_flat_model(
        steps in prop::collection::vec((any::<bool>(), 0u64..32, 1u64..16, 0u64..16), 1..40)
    ) {
        let (file, space) = (file(32), space());
        let mut model = [None; 48];
        for (map, first, count, offset) in steps {
            if map {
                space
                    .map(first * PAGE, count * PAGE, fd(&file), offset * PAGE, Permissions::Read)
                    .unwrap();
            } else {
                space.unmap(first * PAGE, count * PAGE);
            }
            for page in 0..count {
                model[(first + page) as usize] = map.then_some((offset + page) as u8);
            }
        }
        for (page, expected) in model.iter().enumerate() {
            prop_assert_eq!(byte(&space, page as u64 * PAGE), *expected, "page {}", page);
        }
    }
}
