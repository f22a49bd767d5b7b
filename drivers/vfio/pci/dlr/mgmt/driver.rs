// SPDX-License-Identifier: GPL-2.0

//! The PCI driver of management functions: bind and unbind, reset, suspend, PCI errors and SR-IOV.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use super::{
    channel::FunctionData,
    debugfs,
    device::{
        Management,
        Queue, //
    },
    hardware::{
        self,
        Limits,
        Shared, //
    },
    service::Service,
    stats::Stats, //
};
use crate::{
    ext::{
        self,
        bound_cell::BoundCell,
        cmdq::{
            device::with_margin,
            interrupt, //
        },
        dma::{
            self,
            Unallocated, //
        },
        irq::Vectors,
        pci_driver::{
            self,
            policy::{
                self,
                Change,
                Damage,
                Vfs, //
            },
            ChannelState,
            Verdict, //
        },
        registry::Published,
        sriov, //
    },
    proto::{
        self,
        identify,
        regs, //
    },
};
use kernel::{
    device::Core,
    devres::Devres,
    dma::DmaMask,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// Set while the module is being unloaded.
static LEAVING: Atomic<bool> = Atomic::new(false);

/// Sets [`LEAVING`] when it is dropped. The module drops it before it unregisters the drivers, so
/// that `unbind` of a management function removes all VFs, also those that a driver is bound to.
pub(crate) struct Leaving;

impl Drop for Leaving {
    fn drop(&mut self) {
        LEAVING.store(true, Relaxed);
    }
}

type Handler = interrupt::Handler<Management>;

/// A bound management function.
pub(crate) struct Driver {
    _debugfs: Option<debugfs::Directory>,
    service: Published<Service>,
    _vectors: Devres<Vectors<Handler>>,
}

kernel::pci_device_table!(
    TABLE,
    (),
    [(
        ext::pci::device_id(proto::PCI_VENDOR_ID, proto::PCI_DEVICE_ID_MF),
        ()
    )]
);

impl pci_driver::Driver for Driver {
    const ID_TABLE: pci::IdTable<()> = &TABLE;

    fn probe(new: Unallocated<'_>) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || Ok(Self::bring_up(new)))
    }

    fn unbind(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) {
        let vfs = sriov::count(pdev);
        match policy::vfs_at_unbind(vfs, sriov::any_bound(pdev), LEAVING.load(Relaxed)) {
            Vfs::None => {}
            Vfs::Keep => dev_info!(pdev, "{} VFs are in use and stay enabled\n", vfs),
            // Remove the VFs while the queue is running, because their drivers submit commands when
            // they are unbound.
            Vfs::Remove => sriov::disable(pdev),
        }
        this.service.withdraw();
        this.service.queue.shut_down(pdev);
    }

    fn shutdown(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) {
        this.service.queue.quiesce(pdev);
    }

    fn suspend(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) -> Result {
        this.service.queue.interrupt(pdev, true);
        // This also keeps a device that has not followed the reset from accessing memory.
        dma::clear_master(pdev);
        Ok(())
    }

    fn resume(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) -> Result {
        this.service.restore(pdev)
    }

    fn sriov_configure(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>, count: u16) -> Result<u16> {
        let alive = !this.service.is_gone();
        change_vfs(pdev, count, this.service.num_functions(), alive)
    }

    fn error_detected(
        this: Pin<&Self>,
        pdev: &pci::Device<Core<'_>>,
        state: ChannelState,
    ) -> Verdict {
        let verdict = policy::verdict(policy::damage(state), !this.service.is_gone());
        match policy::damage(state) {
            Damage::None => {}
            Damage::Reset => this.service.queue.interrupt(pdev, false),
            Damage::Gone => this.service.queue.lose(),
        }
        dev_warn!(pdev, "error of the PCI channel: {state:?}, {verdict:?}\n");
        verdict
    }

    fn mmio_enabled(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) -> Verdict {
        let answers = match this.service.queue.enter() {
            Ok(hw) => hardware::answers(&hw),
            Err(_) => false,
        };
        let verdict = policy::verdict_after_look(!this.service.is_gone(), answers);
        if verdict == Verdict::NeedReset {
            this.service.queue.interrupt(pdev, false);
        }
        verdict
    }

    fn slot_reset(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) -> Verdict {
        ext::pci::restore_state(pdev);
        // The saved state may be one with bus mastering on; the device has not been reset yet.
        dma::clear_master(pdev);
        // The error may have left this function alone: the driver of another function below the
        // port may have asked for the reset.
        this.service.queue.interrupt(pdev, false);
        match this.service.restore(pdev) {
            Ok(()) => Verdict::Recovered,
            Err(error) if error == ENODEV || error == ENOTCONN => Verdict::Disconnect,
            // The device is slow. The next command continues the recovery of the queue.
            Err(_) => Verdict::Recovered,
        }
    }

    fn recovered(_this: Pin<&Self>, _pdev: &pci::Device<Core<'_>>) {}

    fn reset_prepare(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) {
        this.service.queue.interrupt(pdev, true);
    }

    fn reset_done(this: Pin<&Self>, pdev: &pci::Device<Core<'_>>) {
        // `reset_done` returns nothing to the PCI core. `restore` has logged the error, and calls
        // fail until the queue has recovered.
        let _ = this.service.restore(pdev);
    }
}

/// Changes the number of VFs for `sriov_configure`, and returns the number of enabled VFs. The
/// other arguments are those of [`policy::change_of_vfs`].
fn change_vfs(
    pdev: &pci::Device<Core<'_>>,
    wanted: u16,
    functions: u32,
    alive: bool,
) -> Result<u16> {
    match policy::change_of_vfs(sriov::count(pdev), wanted, functions, alive)? {
        Change::None => {}
        Change::Make(count) => sriov::enable(pdev, count)?,
        Change::Remove => sriov::disable(pdev),
    }
    Ok(sriov::count(pdev))
}

impl Driver {
    /// Sets up a management function in probe, and publishes its service.
    fn bring_up(new: Unallocated<'_>) -> Result<Self> {
        let pdev = new.set_mask(DmaMask::new::<64>())?;
        ext::pci::enable_mem(pdev)?;
        // Bus mastering may be on because another kernel left it so (kdump).
        dma::clear_master(pdev);
        // `slot_reset` restores this state. Bus mastering is off in it: the driver turns it on
        // after the reset of the device.
        ext::pci::save_state(pdev)?;
        let hw = BoundCell::new(pdev, regs::BAR, c"dlr-mgmt", Shared::new)?;
        let limits = {
            let hw = hw.enter().ok_or(ENOTCONN)?;
            let limits = hw.data().limits;
            // Stale DMA from a previous kernel or driver must not resume once bus mastering is on.
            Queue::stop(pdev, &hw, with_margin(limits.queue.timeout_ms))?;
            limits
        };
        pdev.set_master();
        let mut channels = KVec::with_capacity(limits.functions as usize, GFP_KERNEL)?;
        for number in 0..limits.functions {
            channels.push(FunctionData::channel(u16::try_from(number)?)?, GFP_KERNEL)?;
        }
        let device = Management {
            stats: Stats::new(),
        };
        let queue = Queue::new(hw, device, channels, limits.queue)?;
        let result = Self::start(pdev, &queue, limits);
        match result {
            Ok((service, vectors)) => Ok(Self {
                _debugfs: debugfs::make(pdev.as_ref().name(), (*service).clone()),
                service,
                _vectors: vectors,
            }),
            Err(error) => {
                queue.shut_down(pdev);
                Err(error)
            }
        }
    }

    /// The part of [`Self::bring_up`] whose failure needs [`Queue::shut_down`].
    fn start(
        pdev: &pci::Device<Core<'_>>,
        queue: &Arc<Queue>,
        limits: Limits,
    ) -> Result<(Published<Service>, Devres<Vectors<Handler>>)> {
        let mut count = 0;
        let vectors = Vectors::new(
            pdev,
            2,
            limits.functions.saturating_add(1),
            c"dlr-mgmt",
            |index, all| {
                count = all;
                Handler::new(queue.clone(), index, all)
            },
        )?;
        queue.start()?;
        let service = Service::new(queue, limits, u32::try_from(count)?)?.publish(pdev)?;
        if service.has_twin()? {
            dev_warn!(
                pdev,
                "another NIC has serial {:#018x}, too: ATTEST tells their data functions apart\n",
                service.serial()
            );
        }
        if !identify::is_programmed(service.serial()) {
            dev_warn!(
                pdev,
                "serial {:#018x} is unprogrammed: no data function can be paired\n",
                service.serial()
            );
        }
        let nic = service.nic();
        dev_info!(
            pdev,
            "{} firmware {}, serial {:#018x}, {} functions, {} vectors\n",
            identify::text(&nic.model),
            identify::text(&nic.firmware),
            service.serial(),
            service.num_functions(),
            count
        );
        Ok((service, vectors))
    }
}
