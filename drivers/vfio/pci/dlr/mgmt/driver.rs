// SPDX-License-Identifier: GPL-2.0

//! The PCI driver of management functions: what happens in which order at bind and unbind.

use super::{
    channel::Channel,
    debugfs,
    hardware::{
        Revoker,
        Shared, //
    },
    interrupt::Handler,
    memory::Memory,
    queue::Queue,
    service::{
        self,
        Service, //
    }, //
};
use crate::{
    kext::{
        self,
        dma,
        irq::Vectors,
        lease::Lease, //
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
    sync::Arc, //
};

/// A bound management function.
pub(crate) struct Driver {
    _debugfs: Option<debugfs::Directory>,
    service: Arc<Service>,
    memory: Arc<Memory>,
    // Interrupts end before the lease does.
    _vectors: Devres<Vectors<Handler>>,
    _revoker: Devres<Revoker>,
}

kernel::pci_device_table!(
    TABLE,
    <Driver as pci::Driver>::IdInfo,
    [(
        kext::pci::device_id(proto::PCI_VENDOR_ID, proto::PCI_DEVICE_ID_MF),
        ()
    )]
);

impl pci::Driver for Driver {
    type IdInfo = ();
    type Data<'bound> = Self;
    const ID_TABLE: pci::IdTable<()> = &TABLE;

    fn probe<'bound>(
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound ()>,
    ) -> impl PinInit<Self, Error> + 'bound {
        pin_init::pin_init_scope(move || Ok(Self::bring_up(pdev)))
    }

    fn unbind<'bound>(pdev: &'bound pci::Device<Core<'_>>, this: Pin<&Self>) {
        this.service.withdraw();
        service::shut_down(&this.service.queue, &this.memory, pdev);
    }
}

impl Driver {
    fn bring_up(pdev: &pci::Device<Core<'_>>) -> Result<Self> {
        pdev.enable_device_mem()?;
        dma::set_mask(pdev, DmaMask::new::<64>())?;
        // Whatever a former kernel or driver left must not write to memory once it may again.
        if let Err(error) = dma::reset(pdev) {
            dev_warn!(pdev, "cannot be reset ({error:?})\n");
        }
        pdev.set_master();
        let (hw, revoker) = Lease::new(pdev, regs::BAR, c"dlr-mgmt", Shared::new)?;
        let limits = hw.enter().ok_or(ENOTCONN)?.data().limits;
        let mut channels = KVec::with_capacity(limits.functions as usize, GFP_KERNEL)?;
        for number in 0..limits.functions {
            channels.push(Channel::new(u16::try_from(number)?)?, GFP_KERNEL)?;
        }
        let memory = Memory::new()?;
        let queue = Queue::new(hw, channels, limits)?;
        let result = Self::start(pdev, &queue, &memory, limits);
        match result {
            Ok((service, vectors)) => Ok(Self {
                _debugfs: debugfs::make(pdev.as_ref().name(), service.clone()),
                service,
                memory,
                _vectors: vectors,
                _revoker: revoker,
            }),
            Err(error) => {
                service::shut_down(&queue, &memory, pdev);
                Err(error)
            }
        }
    }

    /// What must be undone when it fails half way.
    fn start(
        pdev: &pci::Device<Core<'_>>,
        queue: &Arc<Queue>,
        memory: &Arc<Memory>,
        limits: super::hardware::Limits,
    ) -> Result<(Arc<Service>, Devres<Vectors<Handler>>)> {
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
        let service = Service::new(queue, memory, limits, u32::try_from(count)?)?;
        service.publish()?;
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
