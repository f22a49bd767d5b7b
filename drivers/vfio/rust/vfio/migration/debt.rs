// SPDX-License-Identifier: GPL-2.0

//! Sessions that the device may still have after the driver has dropped them.
//!
//! If the answer to a command is lost, the driver does not know whether the device has executed it.
//! After a lost command that begins or ends a session, the device may still have a session: it then
//! refuses the next one with `EBUSY`, and with a load session it does not run. The device of a
//! running guest is not reset for that, so the driver ends the session itself: at once, and if that
//! fails, before the next session and before the function is to run.
//!
//! This code has no hardware access of its own; it uses the trait [`Device`].

use kernel::prelude::*;

/// A device whose sessions can be ended.
pub(crate) trait Device {
    /// Ends the session of the device. Succeeds if the device has none.
    ///
    /// # Errors
    ///
    /// Any error means that the device may still have a session.
    fn end_sessions(&self) -> Result;
}

/// Whether the device may have a session that the driver has dropped.
#[derive(Default)]
pub(crate) struct Debt(bool);

impl Debt {
    /// Notes that the device may have such a session.
    pub(crate) fn owe(&mut self) {
        self.0 = true;
    }

    /// Notes that the device has none, because the function was reset.
    pub(crate) fn forgive(&mut self) {
        self.0 = false;
    }

    /// Ends the session that the device may have, if there is a debt.
    ///
    /// # Errors
    ///
    /// Those of [`Device::end_sessions`]; the debt then remains.
    pub(crate) fn settle(&mut self, device: &impl Device) -> Result {
        if self.0 {
            device.end_sessions()?;
            self.0 = false;
        }
        Ok(())
    }

    /// Settles a debt and begins a session on the device with `begin`. If `begin` returns `EBUSY`
    /// because the device has a session, that session is ended and `begin` is called once more.
    ///
    /// # Errors
    ///
    /// Those of [`Self::settle`] and of `begin`. A session that the failed `begin` may have left is
    /// ended at once, or before the next session.
    pub(crate) fn begin<R>(
        &mut self,
        device: &impl Device,
        mut begin: impl FnMut() -> Result<R>,
    ) -> Result<R> {
        self.settle(device)?;
        let mut result = begin();
        if matches!(result, Err(error) if error == EBUSY) {
            self.owe();
            self.settle(device)?;
            result = begin();
        }
        if result.is_err() {
            self.owe();
            // If this fails, the debt remains and is settled before the next session.
            let _ = self.settle(device);
        }
        result
    }
}

#[kunit_tests(vfio_migration_debt)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// The fate of a command.
    #[derive(Clone, Copy, PartialEq)]
    enum Fate {
        Answered,
        /// The device executes it, and the answer is lost.
        Unanswered,
        /// The device neither executes nor answers it.
        Ignored,
    }

    const FATES: [Fate; 3] = [Fate::Answered, Fate::Unanswered, Fate::Ignored];

    /// A model of a device with one session, and a fate for each of the next commands.
    struct Fake<'a> {
        session: Cell<bool>,
        fates: &'a [Fate],
        given: Cell<usize>,
    }

    impl Fake<'_> {
        fn command(&self, execute: impl FnOnce() -> Result) -> Result {
            let at = self.given.get();
            self.given.set(at + 1);
            match self.fates.get(at).copied().unwrap_or(Fate::Answered) {
                Fate::Answered => execute(),
                Fate::Unanswered => {
                    let _ = execute();
                    Err(ETIMEDOUT)
                }
                Fate::Ignored => Err(ETIMEDOUT),
            }
        }

        fn begin(&self) -> Result {
            self.command(|| {
                if self.session.replace(true) {
                    Err(EBUSY)
                } else {
                    Ok(())
                }
            })
        }
    }

    impl Device for Fake<'_> {
        fn end_sessions(&self) -> Result {
            self.command(|| {
                self.session.set(false);
                Ok(())
            })
        }
    }

    fn fake(fates: &[Fate]) -> Fake<'_> {
        Fake {
            session: Cell::new(false),
            fates,
            given: Cell::new(0),
        }
    }

    /// Begins and ends sessions with every combination of fates of the first five commands. As soon
    /// as the device answers again, a session can begin.
    #[test]
    fn no_loss_of_answers_leaves_a_session_for_good() -> Result {
        let count = FATES.len();
        for case in 0..count.pow(5) {
            let fates = [1, count, count.pow(2), count.pow(3), count.pow(4)]
                .map(|weight| FATES[case / weight % count]);
            let (device, mut debt) = (fake(&fates), Debt::default());
            while device.given.get() < fates.len() {
                let begun = debt.begin(&device, || device.begin());
                // If `begin` succeeds, the device has the session.
                assert!(begun.is_err() || device.session.get());
                if begun.is_ok() && device.end_sessions().is_err() {
                    debt.owe();
                }
                // A session that the driver has dropped is a debt: otherwise it would not be ended
                // before the function is to run again.
                assert!(debt.0 || !device.session.get());
            }
            debt.begin(&device, || device.begin())?;
            assert!(device.session.get());
        }
        Ok(())
    }

    #[test]
    fn an_end_that_was_ignored_is_made_good_by_the_next_begin() -> Result {
        let fates = [Fate::Answered, Fate::Ignored];
        let (device, mut debt) = (fake(&fates), Debt::default());
        debt.begin(&device, || device.begin())?;
        assert!(device.end_sessions().is_err());
        debt.owe();
        debt.begin(&device, || device.begin())?;
        // The commands are BEGIN, END, and then END before BEGIN.
        assert_eq!(device.given.get(), 4);
        Ok(())
    }

    #[test]
    fn a_session_that_was_not_known_is_ended_once() {
        let (device, mut debt) = (fake(&[]), Debt::default());
        device.session.set(true);
        assert_eq!(debt.begin(&device, || device.begin()), Ok(()));
        assert_eq!(device.given.get(), 3);
        // `begin` returns `EBUSY` for another reason.
        let (device, mut debt) = (fake(&[]), Debt::default());
        assert_eq!(debt.begin(&device, || Err::<(), _>(EBUSY)), Err(EBUSY));
        assert_eq!(device.given.get(), 2);
    }

    #[test]
    fn a_begin_that_works_asks_nothing_else() {
        let (device, mut debt) = (fake(&[]), Debt::default());
        assert_eq!(debt.begin(&device, || device.begin()), Ok(()));
        assert_eq!(device.given.get(), 1);
        debt.owe();
        debt.forgive();
        assert_eq!(debt.settle(&device), Ok(()));
        assert_eq!(device.given.get(), 1);
    }
}
