// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a client may use up.

use std::{fs::File, sync::Arc};

use vm_memory::Permissions;

use super::{super::*, byte, fd, file, space, unsealed, PAGE};

#[test]
fn a_client_cannot_have_ever_more_files_mapped() {
    let (files, kept) = (Arc::<FileCache>::default(), file(1));
    let space = DmaSpace::new(Arc::clone(&files), None);
    let map = |iova, file: &File| space.map(iova, PAGE, fd(file), 0, Permissions::Read);
    map(0, &kept).unwrap();
    // Mapped and unmapped, over and over: what is not in use goes.
    for _ in 0..300 {
        map(PAGE, &file(1)).unwrap();
        space.unmap(PAGE, PAGE);
    }
    assert!(files.count() <= 64, "{} files", files.count());
    assert_eq!(byte(&space, 0), Some(0));
    // All in use at a time.
    let refused = (2..100).find_map(|n| map(n * PAGE, &file(1)).err());
    assert!(matches!(refused, Some(MapError::File(FileError::TooMany))));
    assert_eq!(byte(&space, 0), Some(0));
    // A file that is replaced by a mapping on top of it is not in use either.
    for n in 2..100 {
        space.unmap(n * PAGE, PAGE);
        map(PAGE, &file(1)).unwrap();
    }
}

/// No huge pages are needed: the file is refused before it is mapped.
#[test]
fn a_file_of_huge_pages_is_refused() {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let file = match rustix::fs::memfd_create("huge", flags) {
        Ok(fd) => File::from(fd),
        // Without CONFIG_HUGETLBFS there is nothing to refuse.
        Err(e) => return println!("not tried: {e}"),
    };
    file.set_len(1 << 30).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    let error = space().map(0, PAGE, fd(&file), 0, Permissions::Read);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("huge pages"), "{error}");
}

/// A file that is nothing but long, as anybody can make one.
fn long(bytes: u64) -> File {
    let file = unsealed(0);
    file.set_len(bytes).unwrap();
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::SHRINK).unwrap();
    file
}

#[test]
fn a_client_cannot_use_up_the_address_space() {
    let space = space();
    let map = |iova, file: &File| space.map(iova, PAGE, fd(file), 0, Permissions::Read);
    let too_many = |result| matches!(result, Err(MapError::File(FileError::TooMany)));
    assert!(too_many(map(0, &long(1 << 46))));
    for n in 0..4 {
        map(n * PAGE, &long(128 << 30)).unwrap();
    }
    assert!(too_many(map(4 * PAGE, &file(1))));
    // What is not in use any more does not count.
    space.unmap(0, PAGE);
    map(4 * PAGE, &file(1)).unwrap();
    assert_eq!(byte(&space, 4 * PAGE), Some(0));
}

#[test]
fn a_client_cannot_have_ever_more_ranges() {
    let max = crate::dma::space::MAX_RANGES as u64;
    let (file, space) = (long(4 * max * PAGE), space());
    // Every second page of one range: each call leaves one range more.
    space
        .map(0, 4 * max * PAGE, fd(&file), 0, Permissions::Read)
        .unwrap();
    for n in 0..max {
        space.unmap((2 * n + 1) * PAGE, PAGE);
    }
    assert_eq!(space.ranges() as u64, max);
    assert_eq!(byte(&space, 2 * (max - 1) * PAGE), Some(0));
    // The last one took what was behind it along.
    assert_eq!(byte(&space, 2 * max * PAGE), None);
    let map = |iova| space.map(iova, PAGE, fd(&file), 0, Permissions::Read);
    assert!(matches!(map(1 << 60), Err(MapError::TooMany)));
    // Neighbours that belong together are one.
    space.unmap(0, 8 * PAGE);
    for page in 0..100 {
        let offset = page * PAGE;
        space
            .map(
                (1 << 50) + offset,
                PAGE,
                fd(&file),
                offset,
                Permissions::Read,
            )
            .unwrap();
    }
    assert_eq!(space.ranges() as u64, max - 4 + 1);
}
