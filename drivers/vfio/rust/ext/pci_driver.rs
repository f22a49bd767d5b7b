// SPDX-License-Identifier: GPL-2.0

//! PCI drivers with error handlers, power management, shutdown and SR-IOV.
//!
//! `kernel::pci::Driver` has `probe` and `unbind`. A driver without `error_detected` makes AER
//! recovery impossible for all devices below the same port (`report_error_detected()` in
//! `drivers/pci/pcie/err.c`). A driver without `reset_prepare` does not notice a reset, a driver
//! without `shutdown` leaves DMA enabled over kexec, and a driver without `sriov_configure` cannot
//! have VFs.
//!
//! # Data and locks
//!
//! The driver's data is a `Pin<KBox<T>>` in drvdata, which is where `kernel::driver::Registration`
//! looks for it: `set_drvdata` stores it when `probe` has made it, and `post_unbind` drops it after
//! `remove`. Every callback runs with the device lock held, so that no two of them run at once and
//! `T` need not be `Sync`. Drvdata is NULL before `probe` has returned and after `post_unbind`; a
//! callback that comes then, such as `reset_prepare` for an FLR that `probe` does, returns without
//! using it.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

mod boxed;
mod driver;
pub(crate) mod policy;
mod recovery;
mod registration;

pub(crate) use boxed::Boxed;
pub(crate) use driver::Driver;
pub(crate) use recovery::{
    ChannelState,
    Verdict, //
};
pub(crate) use registration::{
    drvdata,
    RawDriver,
    Registered, //
};

/// Registers `T` with the PCI core, as `kernel::driver::Registration<Adapter<T>>`.
pub(crate) type Adapter<T> = Registered<Boxed<T>>;
