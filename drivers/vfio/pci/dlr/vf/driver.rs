// SPDX-License-Identifier: GPL-2.0

//! The variant driver of a data function: pairing, capabilities, open and close.
//!
//! C header: [`include/linux/vfio_pci_core.h`](srctree/include/linux/vfio_pci_core.h)

use super::{
    engine::{
        self,
        DlrEngine, //
    },
    identity::Identity,
    pair::Pair,
    tracker::{
        FunctionRing,
        Logging, //
    },
};
use crate::{
    ext::lookup::Lookup,
    mgmt::Function,
    params::Config,
    proto::identify::Cap,
    vfio::{
        config_space::ConfigRange,
        debugfs,
        dirty::ring::tracker::{
            Context,
            RingParams,
            RingShared, //
        },
        dma_logging::{
            self,
            LoggedWith, //
        },
        migration::{
            self,
            engine::Engine,
            machine::Machine,
            state::Flags,
            MigratableWith, //
        },
        pairing::Pairing,
        pci::{
            Capabilities,
            Operations, //
        },
        DeviceId, IdTable, OpenDevice, PciFunction,
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

kernel::module_device_table!("pci", DeviceId, DF_TABLE, (), [(super::identity::ID, ())]);

type Shared = debugfs::Shared<DlrEngine, Function>;
type Files = debugfs::Files<DlrEngine, Function>;

/// A data function bound to the driver. It lives until unbind, when no user has the VFIO device
/// open.
#[pin_data]
pub(crate) struct Vf {
    pairing: Pin<KBox<Pairing<Pair>>>,
    hidden: KVec<ConfigRange>,
    capabilities: Capabilities,
    #[pin]
    machine: Machine<DlrEngine>,
    shared: Arc<Shared>,
    #[pin]
    files: Files,
}

impl Vf {
    /// Returns the function's handle.
    ///
    /// # Errors
    ///
    /// The errors of [`Pairing::function`].
    pub(super) fn function(&self, pdev: PciFunction<'_>) -> Result<Function> {
        self.pairing.function(pdev, || {
            self.shared.migration.is_idle() && !self.shared.logging.is_active()
        })
    }
}

impl Operations for Vf {
    type OpenData = ();

    const ID_TABLE: IdTable = IdTable::new(&DF_TABLE);
    const NAME: &'static CStr = c"dlr-vfio-pci";
    const MIGRATION: Option<migration::Ops<Self>> = Some(migration::Ops::new());
    const DMA_LOGGING: Option<dma_logging::Ops<Self>> = Some(dma_logging::Ops::new());

    fn new(pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let identity = Identity::read(pdev)?;
            let hidden = identity.hidden()?;
            let pairing = KBox::pin_init(Pairing::<Pair>::new(pdev, identity)?, GFP_KERNEL)?;
            let info = *pairing.registered();
            let migratable = info.caps.contains(Cap::State) && info.caps.contains(Cap::StatusPage);
            if !migratable {
                dev_warn!(pdev, "the NIC offers no device state: not migratable\n");
            }
            let capabilities = Capabilities {
                migration: migratable.then_some(Flags {
                    p2p: info.caps.contains(Cap::P2p),
                    pre_copy: info.caps.contains(Cap::Precopy),
                }),
                dma_logging: info.caps.contains(Cap::Log),
            };
            let name = pdev.name();
            let config = Config::get();
            let params = RingParams {
                order: config.log_ring_order.into(),
            };
            let logging = Logging::new(config.log_memory_mib)?;
            let rings = RingShared::new(name, params)?;
            Ok(try_pin_init!(Self {
                hidden,
                pairing,
                capabilities,
                machine <- Machine::new(DlrEngine::new()),
                shared: Arc::new(
                    Shared {
                        logging,
                        rings,
                        migration: machine.view().clone(),
                    },
                    GFP_KERNEL,
                )?,
                files <- Files::new(name, shared),
            }))
        })
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn masked_config(&self) -> &[ConfigRange] {
        &self.hidden
    }

    /// Opens the device. This does not need the management function: without it, migration and
    /// logging fail with `ENOTCONN` until it is bound again, or with `ENODEV` if a device of other
    /// capabilities is bound.
    fn open(this: Pin<&Self>, pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
        this.get_ref().pairing.end_closing();
        if let Err(error) = this.get_ref().function(pdev) {
            dev_warn!(
                pdev,
                "opened without its management function ({error:?}): not migratable\n"
            );
        }
        Ok::<_, Error>(())
    }

    /// Begins the close by the last user. Until the next open, all clean-up (the stop of the log,
    /// the end of the session, the recovery after a reset) shares one
    /// [`Budget`](crate::ext::budget::Budget).
    fn closing(this: Pin<&Self>) {
        this.get_ref().pairing.begin_closing();
    }

    fn unbind(this: Pin<&Self>, _pdev: PciFunction<'_>) {
        this.get_ref().files.remove();
        this.get_ref().pairing.release();
    }
}

impl MigratableWith for Vf {
    type Engine = DlrEngine;

    fn machine(&self) -> &Machine<DlrEngine> {
        &self.machine
    }

    fn with_engine<R>(
        dev: &OpenDevice<'_, Self>,
        f: impl FnOnce(&<DlrEngine as Engine>::Context<'_>) -> R,
    ) -> R {
        let vf = dev.data().get_ref();
        let find = || vf.function(dev.pdev());
        f(&engine::Context {
            pdev: dev.pdev(),
            pairing: &vf.pairing,
            function: Lookup::new(&find),
        })
    }
}

impl LoggedWith for Vf {
    type Tracker = FunctionRing;

    fn log(&self) -> &Arc<Logging> {
        &self.shared.logging
    }

    fn with_context<R>(
        dev: &OpenDevice<'_, Self>,
        f: impl FnOnce(&Context<'_, Function>) -> R,
    ) -> R {
        let vf = dev.data().get_ref();
        let find = || vf.function(dev.pdev());
        f(&Context::new(&find, &vf.shared.rings))
    }
}
