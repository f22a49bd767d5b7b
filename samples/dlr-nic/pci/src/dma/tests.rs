// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::{mpsc, Arc, Mutex},
    thread,
    time::Duration,
};

use dlr_core::{DirtySink, DmaFault, DmaMemory};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, Permissions};

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
    let max = super::space::MAX_RANGES as u64;
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

#[test]
fn unmaps_of_all_kinds() {
    let (file, space) = (file(4), space());
    let map_all = || {
        space
            .map(0xfee0_0000, 4 * PAGE, fd(&file), 0, Permissions::Read)
            .unwrap();
    };
    // Of nothing, of nothing much, of far too much.
    space.unmap(0x1234_5000, PAGE);
    space.unmap(0, 0);
    map_all();
    space.unmap(0xfef0_0000, 0xffff_ffff_0110_0000);
    assert_eq!(byte(&space, 0xfee0_3000), Some(3));
    space.unmap(0xfee0_1000, PAGE);
    assert_eq!(byte(&space, 0xfee0_0fff), Some(0));
    assert_eq!(byte(&space, 0xfee0_1000), None);
    assert_eq!(byte(&space, 0xfee0_2000), Some(2));
    space.unmap(0, 0x2000_0000_0000);
    assert_eq!(byte(&space, 0xfee0_2000), None);
    map_all();
    space.unmap(0xfee0_2000, u64::MAX);
    assert_eq!(byte(&space, 0xfee0_1fff), Some(1));
    assert_eq!(byte(&space, 0xfee0_2000), None);
}

#[test]
fn unmap_waits_for_access_in_flight() {
    let (file, space) = (file(1), Arc::new(space()));
    space
        .map(0, PAGE, fd(&file), 0, Permissions::ReadWrite)
        .unwrap();
    let guard = space.lock();
    let (sender, done) = mpsc::channel();
    let other = Arc::clone(&space);
    let unmap = thread::spawn(move || {
        other.unmap(0, PAGE);
        sender.send(()).unwrap();
    });
    assert!(done.recv_timeout(Duration::from_millis(100)).is_err());
    guard.write_slice(&[7], GuestAddress(0)).unwrap();
    drop(guard);
    done.recv_timeout(Duration::from_secs(30)).unwrap();
    unmap.join().unwrap();
    assert_eq!(byte(&space, 0), None);
}

/// Looks at the file itself when it is told of a write.
struct Witness {
    file: File,
    /// Whether it came before the write, address, length, first byte in the file.
    seen: Mutex<Vec<(bool, u64, u64, u8)>>,
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
