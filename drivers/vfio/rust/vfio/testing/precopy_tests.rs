// SPDX-License-Identifier: GPL-2.0

//! Tests of the files of sessions on the fake device: `VFIO_MIG_GET_PRECOPY_INFO`, whose answer
//! goes to user memory, and reads and writes of no bytes.

use super::bed::{
    Bed,
    ALL, //
};
use crate::{
    bindings,
    ext::{
        anon_file::AnonFile,
        testing::UserMemory,
        user, //
    },
    vfio::{
        link::Link,
        migration::state::State,
        migration_file::{
            PrecopyInfo,
            Readiness,
            Resume,
            Save,
            SaveFile, //
        }, //
    },
};
use core::ptr::NonNull;
use kernel::{
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollCondVar,
        Arc,
        Mutex, //
    },
};

/// `VFIO_MIG_GET_PRECOPY_INFO`: `_IO(VFIO_TYPE, VFIO_BASE + 21)`.
const PRECOPY_INFO: u32 = kernel::ioctl::_IO(b';' as u32, 100 + 21);

/// `struct vfio_precopy_info` as words: `argsz`, `flags`, and two low and high words each.
type Words = [u32; 6];

/// A session that counts its calls.
#[pin_data]
struct Watched<S> {
    session: Arc<S>,
    reads: Atomic<u32>,
    writes: Atomic<u32>,
    /// Number of answers that the user has received.
    told: Atomic<u32>,
    /// The address of the file.
    file: Atomic<usize>,
    /// Memory of which only the first page is left once the session has answered.
    #[pin]
    goes: Mutex<Option<UserMemory>>,
}

impl<S> Watched<S> {
    fn new(session: Arc<S>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                session,
                reads: Atomic::new(0),
                writes: Atomic::new(0),
                told: Atomic::new(0),
                file: Atomic::new(0),
                goes <- new_mutex!(None, "vfio_kunit_goes"),
            }),
            GFP_KERNEL,
        )
    }

    /// Returns whether the file keeps other callers out.
    fn is_alone(&self) -> bool
    where
        S: Save,
    {
        let file = self.file.load(Relaxed) as *const SaveFile<Self>;
        // SAFETY: A `SaveFolder` stores the address of its file, and 0 before it frees the file.
        unsafe { file.as_ref() }.is_some_and(SaveFile::is_asking)
    }
}

impl<S: Save> Save for Watched<S> {
    type OwnerModule = S::OwnerModule;

    fn read(&self, dst: &mut IovIterDest<'_>, nonblock: bool) -> Result<usize> {
        self.reads.fetch_add(1, Relaxed);
        self.session.read(dst, nonblock)
    }

    fn poll_queue(&self) -> &PollCondVar {
        self.session.poll_queue()
    }

    fn readiness(&self) -> Readiness {
        self.session.readiness()
    }

    fn precopy_info(&self, v2: bool) -> Result<PrecopyInfo> {
        if !self.is_alone() {
            return Err(EDEADLK);
        }
        let info = self.session.precopy_info(v2);
        if let Some(mut memory) = self.goes.lock().take() {
            memory.truncate(PAGE_SIZE)?;
        }
        info
    }

    fn precopy_told(&self) {
        if self.is_alone() {
            self.told.fetch_add(1, Relaxed);
        }
        self.session.precopy_told();
    }
}

impl<R: Resume> Resume for Watched<R> {
    type OwnerModule = R::OwnerModule;

    fn write(&self, src: &mut IovIterSource<'_>, nonblock: bool) -> Result<usize> {
        self.writes.fetch_add(1, Relaxed);
        self.session.write(src, nonblock)
    }
}

/// The file of the save session of a bed, and the VFIO device that it is linked to.
struct SaveFolder<S: Save> {
    watched: Arc<Watched<S>>,
    link: Arc<Link>,
    vdev: KBox<bindings::vfio_device>,
    file: Pin<KBox<SaveFile<Watched<S>>>>,
}

impl<S: Save> SaveFolder<S> {
    fn new(bed: &Bed, session: Arc<S>) -> Result<Self> {
        let vdev = KBox::<bindings::vfio_device>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: All zeros is valid for this C struct, which is plain data and raw pointers.
        let mut vdev = unsafe { vdev.assume_init() };
        // SAFETY: `drop` cuts the link before it frees the device.
        let link = unsafe { Link::new(NonNull::from(&mut *vdev))? };
        let watched = Watched::new(session)?;
        let mirror = bed.machine.state_lock().mirror();
        let file = SaveFile::new(watched.clone(), link.clone(), mirror);
        let file = KBox::pin_init(file, GFP_KERNEL)?;
        watched
            .file
            .store(core::ptr::from_ref(&*file).addr(), Relaxed);
        Ok(Self {
            watched,
            link,
            vdev,
            file,
        })
    }

    fn ask(&self, addr: usize) -> Result<isize> {
        self.file.ioctl(PRECOPY_INFO, addr)
    }

    /// Asks with these two words, and returns all words of the answer.
    fn answer(&self, memory: &UserMemory, argsz: u32, flags: u32) -> Result<Words> {
        let asked: Words = [argsz, flags, !0, !0, !0, !0];
        user::write(memory.address(), &asked)?;
        self.ask(memory.address())?;
        user::read(memory.address())
    }
}

impl<S: Save> Drop for SaveFolder<S> {
    fn drop(&mut self) {
        self.link.cut();
        self.watched.file.store(0, Relaxed);
    }
}

#[kunit_tests(vfio_precopy_info)]
mod tests {
    use super::{
        super::user::{
            from_bytes,
            into_buffer, //
        },
        *,
    };
    use crate::vfio::migration_file::ResumeFile;

    const SIZE: u32 = size_of::<Words>() as u32;

    /// The checks of `vfio_check_precopy_ioctl()`, in its order. None of them asks the session or
    /// writes to user memory.
    #[test]
    fn wrong_questions_are_refused() -> Result {
        let bed = Bed::at(ALL, State::PreCopy)?;
        let saving = SaveFolder::new(&bed, bed.save()?)?;
        let mut memory = UserMemory::new(2 * PAGE_SIZE)?;
        let hole = memory.address() + PAGE_SIZE;
        memory.truncate(PAGE_SIZE)?;
        let at = memory.address();
        for command in [PRECOPY_INFO - 1, PRECOPY_INFO + 1] {
            assert_eq!(saving.file.ioctl(command, at), Err(ENOTTY));
        }
        assert_eq!(saving.ask(hole), Err(EFAULT));
        // The last bytes of the struct are not mapped.
        user::write(hole - 16, &[SIZE, 0, 0, 0])?;
        assert_eq!(saving.ask(hole - 16), Err(EFAULT));
        for argsz in [0, SIZE - 1] {
            assert_eq!(saving.answer(&memory, argsz, 0), Err(EINVAL));
        }
        // The session is still there in STOP_COPY, but its bytes are all to be read now.
        bed.request(State::StopCopy)?;
        assert_eq!(saving.answer(&memory, SIZE, 0), Err(EINVAL));
        let unchanged: Words = user::read(at)?;
        assert_eq!(unchanged, [SIZE, 0, !0, !0, !0, !0]);
        bed.request(State::Stop)?;
        assert_eq!(saving.ask(at), Err(EINVAL));
        assert_eq!(saving.watched.told.load(Relaxed), 0);
        Ok(())
    }

    /// `argsz` stays as passed, also a larger one, and so do the flags before version 2.
    #[test]
    fn an_answer_has_the_bytes_that_are_left() -> Result {
        let bed = Bed::at(ALL, State::PreCopy)?;
        let saving = SaveFolder::new(&bed, bed.save()?)?;
        let memory = UserMemory::new(PAGE_SIZE)?;
        assert_eq!(
            saving.answer(&memory, SIZE, 0xa5)?,
            [SIZE, 0xa5, 21, 0, 0, 0]
        );
        assert_eq!(&*bed.drain()?, b"a state of some bytes");
        bed.board.change(b'1')?;
        assert_eq!(
            saving.answer(&memory, SIZE + 8, 0)?,
            [SIZE + 8, 0, 0, 0, 1, 0]
        );
        // Bytes after the struct are not written.
        assert!(memory.read()?[SIZE as usize..]
            .iter()
            .all(|byte| *byte == 0));
        bed.request(State::PreCopyP2p)?;
        assert_eq!(saving.answer(&memory, SIZE, 0)?, [SIZE, 0, 0, 0, 1, 0]);
        assert_eq!(saving.watched.told.load(Relaxed), 0);
        bed.save()?.end();
        assert_eq!(saving.answer(&memory, SIZE, 0), Err(ENODEV));
        Ok(())
    }

    /// A user of version 2 is told of a new initial image once. If the answer cannot be written,
    /// the next one tells it again.
    #[test]
    fn a_new_image_is_told_until_the_user_has_the_answer() -> Result {
        let bed = Bed::at(ALL, State::PreCopy)?;
        let mut saving = SaveFolder::new(&bed, bed.save()?)?;
        saving.vdev.precopy_info_v2 = 1;
        let memory = UserMemory::new(PAGE_SIZE)?;
        let told = |saving: &SaveFolder<_>| saving.watched.told.load(Relaxed);
        assert_eq!(saving.answer(&memory, SIZE, 0xa5)?, [SIZE, 0, 21, 0, 0, 0]);
        bed.drain()?;
        bed.board.reinit()?;

        let goes = UserMemory::new(2 * PAGE_SIZE)?;
        let at = goes.address() + PAGE_SIZE;
        user::write::<Words>(at, &[SIZE, 0, 0, 0, 0, 0])?;
        *saving.watched.goes.lock() = Some(goes);
        assert_eq!(saving.ask(at), Err(EFAULT));
        assert!(saving.watched.goes.lock().is_none());
        assert_eq!(told(&saving), 0);

        assert_eq!(saving.answer(&memory, SIZE, 0)?, [SIZE, 1, 21, 0, 0, 0]);
        assert_eq!(told(&saving), 1);
        assert_eq!(saving.answer(&memory, SIZE, 0)?, [SIZE, 0, 21, 0, 0, 0]);
        assert_eq!(told(&saving), 1);
        assert!(!saving.file.is_asking());
        Ok(())
    }

    /// read(2) and write(2) of no bytes return 0 and do nothing, also when the session has ended.
    #[test]
    fn empty_reads_and_writes_do_not_get_to_the_session() -> Result {
        let bed = Bed::at(ALL, State::StopCopy)?;
        let saving = SaveFolder::new(&bed, bed.save()?)?;
        let read = |len| into_buffer(len, |dst| saving.file.read(dst, true));
        let reads = || saving.watched.reads.load(Relaxed);
        assert!(read(0)?.is_empty());
        assert_eq!(reads(), 0);
        assert_eq!(&*read(5)?, b"a sta");
        assert_eq!(reads(), 1);
        bed.request(State::Stop)?;
        assert!(read(0)?.is_empty());
        assert_eq!(reads(), 1);
        assert_eq!(read(1).err(), Some(ENODEV));

        bed.request(State::Resuming)?;
        let watched = Watched::new(bed.load()?)?;
        let loading = ResumeFile {
            session: watched.clone(),
        };
        let write = |bytes: &[u8]| from_bytes(bytes, |src| loading.write(src, true));
        let writes = || watched.writes.load(Relaxed);
        assert_eq!(write(b""), Ok(0));
        assert_eq!(writes(), 0);
        assert_eq!(write(b"ab"), Ok(2));
        assert_eq!(writes(), 1);
        bed.reset();
        assert_eq!(write(b""), Ok(0));
        assert_eq!(writes(), 1);
        assert_eq!(write(b"c"), Err(ENODEV));
        Ok(())
    }
}
