// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Memory that a client has mapped.

mod limits;
mod models;
mod sinks;
mod unmaps;

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::Arc,
};

use dlr_core::{DmaFault, DmaMemory};
use vm_memory::Permissions;

use super::*;

const PAGE: u64 = 4096;

/// A memory file of `pages` pages; each byte is the number of its page.
fn file(pages: u64) -> File {
    let file = unsealed(pages);
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::SHRINK).unwrap();
    file
}

/// One that its owner can truncate.
fn unsealed(pages: u64) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
    for page in 0..pages {
        file.write_all_at(&[page as u8; PAGE as usize], page * PAGE)
            .unwrap();
    }
    file
}

fn fd(file: &File) -> OwnedFd {
    file.try_clone().unwrap().into()
}

fn space() -> DmaSpace {
    DmaSpace::new(Arc::default(), None)
}

fn byte(space: &DmaSpace, iova: u64) -> Option<u8> {
    let mut byte = [0];
    space.read(iova, &mut byte).ok().map(|()| byte[0])
}

#[test]
fn reads_and_writes_through_ranges() {
    let (file, space) = (file(4), space());
    // Two pages that are neighbours here and far apart in the file.
    for (iova, offset) in [(0x10000, 3 * PAGE), (0x11000, 0)] {
        space
            .map(iova, PAGE, fd(&file), offset, Permissions::ReadWrite)
            .unwrap();
    }
    space.write(0x10ffe, &[1, 2, 3, 4]).unwrap();
    let mut read = [0; 4];
    space.read(0x10ffe, &mut read).unwrap();
    assert_eq!(read, [1, 2, 3, 4]);
    file.read_exact_at(&mut read[..2], 4 * PAGE - 2).unwrap();
    file.read_exact_at(&mut read[2..], 0).unwrap();
    assert_eq!(read, [1, 2, 3, 4]);
    space.write_u64(0x11008, 0x0102_0304_0506_0708).unwrap();
    assert_eq!(byte(&space, 0x11008), Some(8));
}

#[test]
fn each_file_is_mapped_once() {
    let files: Arc<FileCache> = Arc::default();
    let (a, b) = (file(64), file(1));
    let one = DmaSpace::new(Arc::clone(&files), None);
    let two = DmaSpace::new(Arc::clone(&files), None);
    for page in 0..64 {
        for space in [&one, &two] {
            space
                .map(page * PAGE, PAGE, fd(&a), page * PAGE, Permissions::Read)
                .unwrap();
        }
    }
    one.map(1 << 40, PAGE, fd(&b), 0, Permissions::Read)
        .unwrap();
    assert_eq!(files.count(), 2);
    assert_eq!(byte(&one, 63 * PAGE), Some(63));
    one.unmap_all();
    assert_eq!(files.count(), 1);
    assert_eq!(byte(&one, 0), None);
    assert_eq!(byte(&two, 5 * PAGE), Some(5));
}

#[test]
fn faults_leave_memory_alone() {
    let (file, space) = (file(2), space());
    let fault = |iova, len| Err(DmaFault { iova, len });
    assert_eq!(space.write(0, &[1]), fault(0, 1));
    space
        .map(PAGE, PAGE, fd(&file), 0, Permissions::Read)
        .unwrap();
    space
        .map(2 * PAGE, PAGE, fd(&file), PAGE, Permissions::ReadWrite)
        .unwrap();
    assert_eq!(space.write(PAGE, &[9]), fault(PAGE, 1));
    // The second half could be written; nothing is.
    assert_eq!(space.write(2 * PAGE - 1, &[9, 9]), fault(2 * PAGE - 1, 2));
    assert_eq!(byte(&space, 2 * PAGE), Some(1));
    assert_eq!(
        space.read(3 * PAGE - 1, &mut [0; 2]),
        fault(3 * PAGE - 1, 2)
    );
    assert_eq!(space.write_u64(2 * PAGE + 4, 0), fault(2 * PAGE + 4, 8));
    assert_eq!(space.read(u64::MAX, &mut [0; 2]), fault(u64::MAX, 2));
    assert_eq!(
        space.read(u64::MAX - 1, &mut [0; 1]),
        fault(u64::MAX - 1, 1)
    );
    assert_eq!(space.write(u64::MAX, &[]), Ok(()));
}

#[test]
fn refuses_useless_maps() {
    let (file, space) = (file(2), space());
    let map = |iova, len, offset| space.map(iova, len, fd(&file), offset, Permissions::Read);
    assert!(map(0, 0, 0).is_err());
    assert!(map(1, PAGE, 0).is_err());
    assert!(map(0, PAGE, 8).is_err());
    assert!(map(0, PAGE, 2 * PAGE).is_err());
    assert!(map(0, PAGE, u64::MAX - PAGE + 1).is_err());
    assert!(map(u64::MAX - PAGE + 1, PAGE, 0).is_err());
    assert!(space
        .map(
            0,
            PAGE,
            File::open("/dev/null").unwrap().into(),
            0,
            Permissions::Read
        )
        .is_err());
    assert!(map(0, 2 * PAGE, 0).is_ok());
}

#[test]
fn a_file_that_may_shrink_is_refused_with_the_way_out() {
    let file = unsealed(1);
    let map = |space: &DmaSpace| space.map(0, PAGE, fd(&file), 0, Permissions::Read);
    let error = map(&space()).unwrap_err().to_string();
    assert!(error.contains("memfd,share=on"), "{error}");
    let careless = DmaSpace::new(Arc::new(FileCache::with_unsealed()), None);
    map(&careless).unwrap();
    assert_eq!(byte(&careless, 0), Some(0));
}
