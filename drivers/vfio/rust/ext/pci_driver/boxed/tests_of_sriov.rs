// SPDX-License-Identifier: GPL-2.0

//! Tests of the `sriov_configure` callback on a function that is not on a bus.

use super::*;
use crate::ext::{
    pci::device_id,
    sriov,
    testing::holds, //
};
use kernel::{
    device_id::IdArray,
    types::ForeignOwnable, //
};

static TABLE: IdArray<pci::DeviceId, (), 1> = IdArray::new([(device_id(0, 0), &())]);

/// A driver that enables VFs if the function supports them.
struct Maker;

impl Driver for Maker {
    const ID_TABLE: pci::IdTable<()> = &TABLE;

    fn probe(_new: Unallocated<'_>) -> impl PinInit<Self, Error> {
        Err::<Self, _>(ENODEV)
    }

    fn unbind(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) {}

    fn shutdown(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) {}

    fn suspend(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) -> Result {
        Ok(())
    }

    fn resume(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) -> Result {
        Ok(())
    }

    /// Enables 1 to 7 VFs; 8 fails, and larger numbers are returned as they are.
    fn sriov_configure(_this: Pin<&Self>, pdev: &pci::Device<Core<'_>>, count: u16) -> Result<u16> {
        holds(sriov::count(pdev) == 0)?;
        match count {
            0 => sriov::disable(pdev),
            1..=7 => sriov::enable(pdev, count)?,
            8 => return Err(ERANGE),
            count => return Ok(count),
        }
        Ok(sriov::count(pdev))
    }

    fn error_detected(
        _this: Pin<&Self>,
        _pdev: &pci::Device<Core<'_>>,
        _state: ChannelState,
    ) -> Verdict {
        Verdict::Disconnect
    }

    fn mmio_enabled(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) -> Verdict {
        Verdict::Disconnect
    }

    fn slot_reset(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) -> Verdict {
        Verdict::Disconnect
    }

    fn recovered(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) {}

    fn reset_prepare(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) {}

    fn reset_done(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) {}
}

#[kunit_tests(ext_pci_driver)]
mod tests {
    use super::*;

    /// Counts and errors are passed through, and a function that is not a PF gets no VFs.
    #[test]
    fn h7_sriov_configure_says_what_the_driver_says() -> Result {
        let pdev = KBox::<bindings::pci_dev>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: All zeros is valid for this C struct, which is plain data and raw pointers.
        let mut pdev = unsafe { pdev.assume_init() };
        let pdev: *mut bindings::pci_dev = &raw mut *pdev;
        // SAFETY: Only this test uses the function, and without drvdata only its drvdata is read.
        let call = move |count| unsafe { Boxed::<Maker>::sriov_configure(pdev, count) };
        // Before probe the callback fails.
        assert_eq!(call(1), ENODEV.to_errno());
        let data = KBox::pin(Maker, GFP_KERNEL)?.into_foreign();
        // SAFETY: `data` is what `set_drvdata` would store, and is taken out below. The callback
        // then only reads `is_physfn`, which is 0.
        unsafe { bindings::dev_set_drvdata(&raw mut (*pdev).dev, data.cast()) };
        for (count, wanted) in [
            (0, 0),
            (8, ERANGE.to_errno()),
            (9, 9),
            (c_int::from(u16::MAX), c_int::from(u16::MAX)),
            (-1, EINVAL.to_errno()),
            (1 << 16, EINVAL.to_errno()),
        ] {
            assert_eq!(call(count), wanted);
        }
        // The errors of the PCI core for a function that is not a PF, and without `CONFIG_PCI_IOV`.
        for count in [1, 7] {
            assert!([ENOSYS.to_errno(), ENODEV.to_errno()].contains(&call(count)));
        }
        // SAFETY: `data` was stored above and is not used any more.
        drop(unsafe { <Pin<KBox<Maker>> as ForeignOwnable>::from_foreign(data) });
        Ok(())
    }
}
