// SPDX-License-Identifier: GPL-2.0

//! Tests of the sessions of small devices.

use super::*;

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
}
