// SPDX-License-Identifier: GPL-2.0

//! The variant driver of a data function: pairing, capabilities, open and close.

use super::{
    debugfs::Files,
    dirty::{
        LogParams,
        Logging, //
    },
    identity::Identity,
    migrate::Sessions,
    resets::Resets,
    shared::Shared, //
};
use crate::{
    kext::device_link::DeviceLink,
    mgmt::{
        self,
        Function, //
    },
    params::Config,
    proto::identify::Cap,
    vfio::{
        config_space::ConfigRange,
        dma_logging::{
            self,
            DmaLogging, //
        },
        iova_bitmap::{
            IovaBitmap,
            IovaRange, //
        },
        migration,
        pci::{
            Capabilities,
            ChannelState,
            Operations, //
        },
        state_lock::StateLock,
        DeviceId, IdTable, OpenDevice,
    },
};
use kernel::{
    device::Bound,
    pci,
    prelude::*,
    sync::Arc, //
};

kernel::module_device_table!(
    "pci",
    DeviceId,
    DF_TABLE,
    (),
    [(
        DeviceId::new(super::identity::VENDOR, super::identity::DEVICE),
        ()
    )]
);

/// A data function bound to the driver. Lives until the last user of the VFIO device
/// is gone, which may be after unbind.
#[pin_data]
pub(crate) struct Vf {
    identity: Identity,
    hidden: KVec<ConfigRange>,
    capabilities: Capabilities,
    #[pin]
    pub(super) state: StateLock<Sessions>,
    pub(super) shared: Arc<Shared>,
    pub(super) resets: Arc<Resets>,
    #[pin]
    files: Files,
    _after_management: DeviceLink,
}

/// From the first open to the last close.
pub(crate) struct OpenData {
    /// `None` when the management function was not there at the open. The device
    /// works for its user all the same; migration and logging are `ENOTCONN`.
    function: Option<Function>,
}

impl OpenData {
    /// The function's handle.
    ///
    /// # Errors
    ///
    /// `ENOTCONN`: the management function is gone, or was not there at the open.
    pub(super) fn function(&self) -> Result<&Function> {
        match &self.function {
            Some(function) if !function.is_gone() => Ok(function),
            _ => Err(ENOTCONN),
        }
    }
}

impl Operations for Vf {
    type OpenData = OpenData;

    const ID_TABLE: IdTable = &DF_TABLE;
    const NAME: &'static CStr = c"dlr-vfio-pci";
    const MIGRATION: Option<migration::Ops<Self>> = Some(migration::Ops::new());
    const DMA_LOGGING: Option<dma_logging::Ops<Self>> = Some(dma_logging::Ops::new());

    fn new(pdev: &pci::Device<Bound>) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let identity = Identity::read(pdev)?;
            let Some(service) = mgmt::find(identity.serial) else {
                // Tried again by the PCI core as soon as another driver, such as that
                // of the management function, has bound.
                dev_info!(
                    pdev,
                    "management function of NIC {:#x} is not bound: not migratable, not bound\n",
                    identity.serial
                );
                return Err(EPROBE_DEFER);
            };
            let function = service.function(identity.number).inspect_err(|_| {
                dev_err!(
                    pdev,
                    "NIC {:#x} has no function {}\n",
                    identity.serial,
                    identity.number
                );
            })?;
            let info = function.info();
            let migratable = info.caps.contains(Cap::State) && info.caps.contains(Cap::StatusPage);
            if !migratable {
                dev_warn!(pdev, "the NIC offers no device state: not migratable\n");
            }
            let capabilities = Capabilities {
                migration: migratable.then_some(migration::Flags {
                    p2p: info.caps.contains(Cap::P2p),
                    pre_copy: info.caps.contains(Cap::Precopy),
                }),
                dma_logging: info.caps.contains(Cap::Log),
            };
            let name = pdev.as_ref().name();
            let order = u32::from(Config::get().log_ring_order);
            let logging = Logging::new(name, LogParams { ring_order: order })?;
            // Gone since it was found: as if it had not been found.
            let after = service
                .order_after(pdev.as_ref())
                .map_err(|error| match error {
                    e if e == ENOTCONN => EPROBE_DEFER,
                    e => e,
                })?;
            Ok(try_pin_init!(Self {
                hidden: identity.hidden()?,
                identity,
                capabilities,
                state <- StateLock::new(Sessions::default()),
                shared: Shared::new(logging, state.mirror())?,
                resets: Arc::new(Resets::new(), GFP_KERNEL)?,
                files <- Files::new(name, shared),
                _after_management: after,
            }))
        })
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn hidden_config(&self) -> &[ConfigRange] {
        &self.hidden
    }

    fn open(this: Pin<&Self>, pdev: &pci::Device<Bound>) -> impl PinInit<OpenData, Error> {
        let identity = &this.get_ref().identity;
        let function = mgmt::find(identity.serial).and_then(|s| s.function(identity.number).ok());
        if function.is_none() {
            dev_warn!(
                pdev,
                "opened without its management function: not migratable\n"
            );
        }
        Ok::<_, Error>(OpenData { function })
    }

    /// Logging is stopped and the session ended by now (contract S18, L21).
    fn close(_this: Pin<&Self>, _pdev: &pci::Device<Bound>, _open: Pin<&OpenData>) {}

    fn unbind(this: Pin<&Self>, _pdev: &pci::Device<Bound>) {
        this.get_ref().files.remove();
    }

    fn reset_prepare(&self) {
        self.resets.prepare();
    }

    fn reset_done(&self) {
        self.resets.done();
    }

    /// What is known about the device's writes and state is worth nothing from here
    /// on. Flags and wake-ups only.
    fn error_detected(&self, state: ChannelState) {
        if state != ChannelState::Normal {
            self.shared.logging.poison();
            let current = self.shared.current();
            if let Some(save) = current.save {
                save.poison();
            }
            if let Some(load) = current.load {
                load.poison();
            }
        }
    }
}

impl DmaLogging for Vf {
    /// All that the user API takes: `dirty::ranges` combines them to what the device
    /// takes.
    fn max_ranges(&self) -> usize {
        256
    }

    fn start(dev: &OpenDevice<'_, Self>, ranges: &[IovaRange], page_size: u64) -> Result<u64> {
        let function = dev.open_data().get_ref().function()?;
        dev.data()
            .get_ref()
            .shared
            .logging
            .as_arc_borrow()
            .start(function, ranges, page_size)
    }

    fn stop(dev: &OpenDevice<'_, Self>) -> Result {
        let function = dev.open_data().get_ref().function().ok();
        dev.data().get_ref().shared.logging.stop(function)
    }

    fn report(dev: &OpenDevice<'_, Self>, range: IovaRange, dirty: &mut IovaBitmap<'_>) -> Result {
        dev.data().get_ref().shared.logging.report(range, dirty)
    }
}
