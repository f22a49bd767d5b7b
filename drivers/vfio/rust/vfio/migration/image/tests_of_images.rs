// SPDX-License-Identifier: GPL-2.0

//! Tests of the sessions of small devices.

use super::*;
use crate::vfio::migration::generation::{
    Resets, //
    SessionEpoch,
};

const FORMAT: Format = Format {
    magic: 1,
    version: 1,
    max_bytes: 16,
};

#[kunit_tests(vfio_migration_image)]
mod tests {
    use super::*;

    /// A guest that runs on changes the state after it was read.
    #[test]
    fn a_snapshot_is_of_a_stopped_device() -> Result {
        let start = |stopped| Snapshot::<crate::LocalModule>::start(&FORMAT, b"state", stopped);
        assert_eq!(start(false).err(), Some(EOPNOTSUPP));
        assert_eq!(
            start(true)?.pending,
            Snapshot::<crate::LocalModule>::size(5)
        );
        Ok(())
    }

    /// A device that could not take the state may be asked to once more. It may sleep meanwhile, so
    /// no lock is held.
    #[test]
    fn a_state_that_could_not_be_activated_is_kept() -> Result {
        let mut stream = KVVec::new();
        stream.extend_from_slice(&FORMAT.header(b"state")?, GFP_KERNEL)?;
        stream.extend_from_slice(b"state", GFP_KERNEL)?;
        let resets = Arc::new(Resets::new(), GFP_KERNEL)?;
        let epoch = SessionEpoch::new(&resets, resets.generation());
        let io = KBox::pin_init(LoadIo::new(Accepted(stream), epoch), GFP_KERNEL)?;
        for result in [Err(EIO), Ok(())] {
            let told = Image::<crate::LocalModule>::activate(&io, |state| {
                assert_eq!(state, b"state");
                assert!(!io.is_held());
                result
            });
            assert_eq!(told, result);
        }
        io.end();
        let told = Image::<crate::LocalModule>::activate(&io, |_| Ok(()));
        assert_eq!(told, Err(ENODEV));
        Ok(())
    }
}
