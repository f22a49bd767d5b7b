// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the files of sessions.

use kernel::prelude::*;

#[kunit_tests(vfio_migration_file)]
mod tests {
    use super::super::*;

    /// The flag is neither lost nor always set.
    #[test]
    fn flags_are_an_answer_to_version_2_only() {
        for reinit in [false, true] {
            let answer = PrecopyInfo {
                initial_bytes: 5,
                dirty_bytes: 6,
                reinit,
            };
            let asked = RawPrecopyInfo {
                argsz: 24,
                flags: 0xa5,
                initial_bytes: 0,
                dirty_bytes: 0,
            };
            let old = asked.answered(&answer, false);
            assert_eq!((old.argsz, old.flags), (24, 0xa5));
            assert_eq!((old.initial_bytes, old.dirty_bytes), (5, 6));
            let new = asked.answered(&answer, true);
            assert_eq!((new.argsz, new.flags), (24, u32::from(reinit)));
            assert_eq!((new.initial_bytes, new.dirty_bytes), (5, 6));
        }
    }

    /// The size that the user has passed is at least that of the struct (mutants M28 and M29).
    #[test]
    fn precopy_info_is_for_pre_copy_and_for_a_whole_struct() {
        for argsz in [0, 23, 24, 25, u32::MAX] {
            let asked = RawPrecopyInfo {
                argsz,
                flags: 0,
                initial_bytes: 0,
                dirty_bytes: 0,
            };
            for state in State::ALL {
                let answered = argsz >= 24 && state.is_precopy();
                assert_eq!(asked.check(state).is_ok(), answered);
                assert!(answered || asked.check(state) == Err(EINVAL));
            }
        }
    }

    /// The layer may be in the kernel or in another module than the driver.
    #[test]
    fn s3_files_pin_the_module_of_the_vendor() {
        assert_eq!(anon_file::owner::<SaveFile<Vendor>>(), THEIRS);
        assert_eq!(anon_file::owner::<ResumeFile<Vendor>>(), THEIRS);
    }

    const THEIRS: *mut kbindings::module = core::ptr::without_provenance_mut(4096);

    struct Theirs;

    impl ModuleMetadata for Theirs {
        const NAME: &'static CStr = c"kunit_vendor";
        const THIS_MODULE: ThisModule = {
            // SAFETY: The pointer is only compared. No file of this module is created.
            unsafe { ThisModule::from_ptr(THEIRS) }
        };
    }

    struct Vendor(PollCondVar);

    impl Save for Vendor {
        type OwnerModule = Theirs;

        fn read(&self, _dst: &mut IovIterDest<'_>, _nonblock: bool) -> Result<usize> {
            Err(ENODEV)
        }

        fn poll_queue(&self) -> &PollCondVar {
            &self.0
        }

        fn readiness(&self) -> Readiness {
            Readiness::Dead
        }

        fn precopy_info(&self, _v2: bool) -> Result<PrecopyInfo> {
            Err(ENODEV)
        }

        fn precopy_told(&self) {}
    }

    impl Resume for Vendor {
        type OwnerModule = Theirs;

        fn write(&self, _src: &mut IovIterSource<'_>, _nonblock: bool) -> Result<usize> {
            Err(ENODEV)
        }
    }

    /// `poll()` on a session that has ended returns at once.
    #[test]
    fn idle_sleeps_and_the_rest_does_not() {
        let readable = kbindings::POLLIN | kbindings::POLLRDNORM;
        assert_eq!(poll_events(Readiness::Idle), 0);
        assert_eq!(poll_events(Readiness::Readable), readable);
        assert_eq!(
            poll_events(Readiness::Dead),
            readable | kbindings::POLLRDHUP
        );
    }
}
