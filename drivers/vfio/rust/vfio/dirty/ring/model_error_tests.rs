// SPDX-License-Identifier: GPL-2.0

//! Tests of what a log session says of errors of the model's device.

use super::{
    model::{
        Broken,
        Model,
        Setup,
        GRANULES,
        NEVER, //
    },
    model_tests::{
        shared,
        start, //
    },
    model_vmm::Vmm,
    tracker::Context, //
};
use crate::vfio::dirty::{
    session::Told,
    stats::LogStats, //
};
use kernel::prelude::*;

#[kunit_tests(vfio_ring_model_errors)]
mod tests {
    use super::*;

    #[test]
    fn errors_stay_what_they_are() -> Result {
        let setup = Setup {
            broken: Broken::Gone,
            ..Setup::PLAIN
        };
        let model = Model::new(setup, NEVER)?;
        let all = setup.halves(0, 2 * GRANULES as u64)?;
        let (find, shared) = (|| Ok(&model), shared()?);
        let cx = Context::new(&find, &shared);
        let mut log = start(&cx, &[all], 4096)?;
        let mut vmm = Vmm {
            model: &model,
            copy: [0; 2 * GRANULES],
            asked: all,
            room: u32::MAX,
        };
        let stats = LogStats::new();
        for _ in 0..3 {
            let told = log.checked(|l| l.report(&cx, all, &mut vmm, &stats));
            assert_eq!(told, Err(ENOTCONN));
        }
        // Anything else is EIO from the second time on, and the first error counts.
        let mut log = start(&cx, &[all], 4096)?;
        let first: Result = log.checked(|_| Err(EINTR));
        assert_eq!(first, Err(EINTR));
        for _ in 0..2 {
            let told = log.checked(|l| l.report(&cx, all, &mut vmm, &stats));
            assert_eq!(told, Err(EIO));
        }
        Ok(())
    }

    /// The device counts the entry of a write and never writes it to the ring (rule 5, mutant D13).
    #[test]
    fn an_entry_that_is_counted_and_missing_is_an_error() -> Result {
        let model = Model::new(Setup::PLAIN, NEVER)?;
        let tracked = Setup::PLAIN.halves(2, 2 * (GRANULES as u64 - 1))?;
        let (find, shared) = (|| Ok(&model), shared()?);
        let cx = Context::new(&find, &shared);
        let mut log = start(&cx, &[tracked], 4096)?;
        let mut vmm = Vmm {
            model: &model,
            copy: [0; 2 * GRANULES],
            asked: tracked,
            room: u32::MAX,
        };
        let stats = LogStats::new();
        let told = log.checked(|l| l.report(&cx, tracked, &mut vmm, &stats));
        assert_eq!(told, Ok(Told::All));
        model.state.borrow_mut().posted += 1;
        for _ in 0..2 {
            let told = log.checked(|l| l.report(&cx, tracked, &mut vmm, &stats));
            assert_eq!(told, Err(EIO));
        }
        Ok(())
    }
}
