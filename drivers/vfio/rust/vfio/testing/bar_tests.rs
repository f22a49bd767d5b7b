// SPDX-License-Identifier: GPL-2.0

//! Tests of BARs on an open device whose function cannot be accessed.

use super::opened::{
    OpenedDevice,
    BAR_SIZE, //
};
use crate::vfio::{
    bar_state::{
        BarState,
        Part, //
    },
    id::{
        IdTable,
        NO_DEVICES, //
    },
    pci::{
        Device,
        OpenDevice,
        Operations, //
    },
    PciFunction, //
};
use kernel::prelude::*;

const STATE: BarState = BarState::new(&[Part::memory(1), Part::registers32(2, 0, 3)]);

/// A driver with no hooks.
struct Plain;

impl Operations for Plain {
    type OpenData = ();
    const ID_TABLE: IdTable = NO_DEVICES;
    const NAME: &'static CStr = c"vfio-kunit";

    fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
        Err::<Self, _>(ENODEV)
    }

    fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
        Err::<(), _>(ENODEV)
    }
}

#[kunit_tests(vfio_fake_bars)]
mod tests {
    use super::*;

    /// MIG_DATA_SIZE asks for this thousands of times a second, also while the user has put the
    /// function to sleep. The BARs of this one are not mapped, and it has no runtime PM.
    #[test]
    fn the_size_of_a_state_needs_no_function_that_is_awake() -> Result {
        let opened = OpenedDevice::new(Plain, ())?;
        // SAFETY: `opened` is an open device of `Plain`.
        let dev = unsafe { OpenDevice::new(Device::<Plain>::from_raw(opened.vdev())) };
        assert_eq!(STATE.bytes(&dev), Ok(BAR_SIZE as u32 + 12));
        for (number, error) in [(3, ENODEV), (6, EINVAL)] {
            assert_eq!(dev.bar_len(number), Err(error));
        }
        assert_eq!(dev.bar(1).err(), Some(ENODEV));
        Ok(())
    }
}
