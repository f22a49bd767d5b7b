// SPDX-License-Identifier: GPL-2.0

//! Tests of probe when it fails. vfio-pci-core refuses to register a bridge.

use kernel::prelude::*;

#[kunit_tests(vfio_probe)]
mod tests {
    use crate::{
        ext::{
            pci::as_raw,
            pci_driver::RawDriver,
            testing::FakeFunction, //
        },
        vfio::{
            bar::BarSet,
            driver::Driver,
            id::{
                IdTable,
                NO_DEVICES, //
            },
            pci::{
                Capabilities,
                Operations, //
            },
            PciFunction, //
        },
    };
    use kernel::{
        bindings,
        prelude::*,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
    };

    /// The calls so far, one decimal digit each.
    static CALLS: Atomic<u32> = Atomic::new(0);

    const NEW: u32 = 1;
    const CAPABILITIES: u32 = 2;
    const TRAPPED_BARS: u32 = 3;
    const UNBIND: u32 = 4;
    const DROP: u32 = 5;
    /// In `unbind`, the function is not the one of `new`, or is not bound any more.
    const WRONG: u32 = 9;

    fn note(call: u32) {
        let calls = CALLS.load(Relaxed).saturating_mul(10).saturating_add(call);
        CALLS.store(calls, Relaxed);
    }

    /// A driver that notes its calls. `FAILS`: it does not want the function.
    struct Noted<const FAILS: bool> {
        pdev: usize,
    }

    fn address(pdev: PciFunction<'_>) -> usize {
        core::ptr::from_ref::<kernel::pci::Device>(&pdev).addr()
    }

    impl<const FAILS: bool> Drop for Noted<FAILS> {
        fn drop(&mut self) {
            note(DROP);
        }
    }

    impl<const FAILS: bool> Operations for Noted<FAILS> {
        type OpenData = ();
        const ID_TABLE: IdTable = NO_DEVICES;
        const NAME: &'static CStr = c"vfio-kunit";

        fn new(pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
            note(NEW);
            match FAILS {
                true => Err(ENODEV),
                false => Ok(Self {
                    pdev: address(pdev),
                }),
            }
        }

        fn capabilities(&self) -> Capabilities {
            note(CAPABILITIES);
            Capabilities::default()
        }

        fn trapped_bars(&self) -> BarSet {
            note(TRAPPED_BARS);
            BarSet::only(0)
        }

        fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
            Ok::<_, Error>(())
        }

        fn unbind(this: Pin<&Self>, pdev: PciFunction<'_>) {
            // SAFETY: Drvdata is only compared.
            let drvdata = unsafe { bindings::dev_get_drvdata(&raw const (*as_raw(&*pdev)).dev) };
            let same = this.pdev == address(pdev) && !drvdata.is_null();
            note(if same { UNBIND } else { WRONG });
        }
    }

    /// Probes a bridge. Returns the error and the calls.
    fn probe<const FAILS: bool>() -> Result<(c_int, u32)> {
        let function = FakeFunction::new()?;
        let pdev = function.as_raw();
        let probe = Driver::<Noted<FAILS>>::OPS.probe.ok_or(EINVAL)?;
        CALLS.store(0, Relaxed);
        // SAFETY: The function has no driver data, and only this test uses it.
        let (ret, drvdata) = unsafe {
            (*pdev).hdr_type = bindings::PCI_HEADER_TYPE_BRIDGE as u8;
            let ret = probe(pdev, core::ptr::null());
            (ret, bindings::dev_get_drvdata(&raw const (*pdev).dev))
        };
        // Bus callbacks would use the device, which is freed.
        if !drvdata.is_null() {
            return Err(EBUSY);
        }
        Ok((ret, CALLS.load(Relaxed)))
    }

    /// What the driver has taken from other devices is released while the function is bound, and
    /// the registration data is dropped after that. `remove` ends a device by the same function.
    #[test]
    fn s8_a_device_that_cannot_be_registered_is_unbound_and_then_dropped() -> Result {
        assert_eq!(probe::<false>()?, (EINVAL.to_errno(), 12345));
        Ok(())
    }

    /// Without registration data there is nothing to unbind.
    #[test]
    fn a_device_without_registration_data_is_not_unbound() -> Result {
        assert_eq!(probe::<true>()?, (ENODEV.to_errno(), 1));
        Ok(())
    }
}
