// SPDX-License-Identifier: GPL-2.0

//! Migration of QEMU's `bochs-display` device: a driver that implements one trait, `Engine`.
//!
//! All of the device's state is in its BARs: the picture, eleven registers of which nine are saved,
//! and the byte order. The device does no DMA and has no timer, so its state does not change while
//! the CPUs of the guest are stopped.

mod state;

use crate::{
    ext::gfp::USER,
    vfio::prelude::*, //
};
use kernel::prelude::*;

kernel::module_device_table!(
    "pci",
    DeviceId,
    TABLE,
    (),
    [(DeviceId::new(0x1234, 0x1111), ())]
);

/// BAR with the picture.
const PICTURE: u32 = 0;
const REGISTERS: u32 = 2;

/// A device bound to the driver.
#[pin_data]
pub(crate) struct Bochs {
    #[pin]
    machine: Machine<BochsEngine>,
}

impl Operations for Bochs {
    type OpenData = ();

    const ID_TABLE: IdTable = &TABLE;
    const NAME: &'static CStr = c"bochs-vfio-pci";
    const MIGRATION: Option<migration::Ops<Self>> = Some(migration::Ops::new());

    fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            machine <- Machine::new(BochsEngine),
        })
    }

    /// The device starts no access to other devices in any state, so it supports P2P.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            migration: Some(Flags {
                p2p: true,
                pre_copy: false,
            }),
            dma_logging: false,
        }
    }

    fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
        Ok::<_, Error>(())
    }
}

impl Migratable for Bochs {
    type Engine = BochsEngine;

    fn machine(&self) -> &Machine<BochsEngine> {
        &self.machine
    }

    fn with_engine<R>(dev: &OpenDevice<'_, Self>, f: impl FnOnce(&OpenDevice<'_, Self>) -> R) -> R {
        f(dev)
    }
}

/// The migration engine. It has no state of its own.
pub(crate) struct BochsEngine;

fn bars<'a>(cx: &OpenDevice<'a, Bochs>) -> Result<(Bar<'a>, Bar<'a>)> {
    Ok((cx.bar(PICTURE)?, cx.bar(REGISTERS)?))
}

impl Engine for BochsEngine {
    type Context<'a> = OpenDevice<'a, Bochs>;
    type Save = Snapshot<crate::LocalModule>;
    type Load = Image<crate::LocalModule>;

    /// Does nothing: the device starts nothing by itself at any level.
    fn set_level(
        &self,
        _cx: &OpenDevice<'_, Bochs>,
        _from: RunLevel,
        _to: RunLevel,
        _limit: WaitLimit<'_>,
    ) -> Result {
        Ok(())
    }

    fn begin_save(
        &self,
        cx: &OpenDevice<'_, Bochs>,
        stopped: bool,
    ) -> Result<SaveStart<Self::Save>> {
        let (picture, registers) = bars(cx)?;
        let format = state::format(&picture, &registers)?;
        let state = state::read(&picture, &registers, USER)?;
        Snapshot::start(&format, &state, stopped)
    }

    fn begin_load(&self, cx: &OpenDevice<'_, Bochs>) -> Result<LoadStart<Self::Load>> {
        let (picture, registers) = bars(cx)?;
        Ok(Image::start(&state::format(&picture, &registers)?))
    }

    fn install(
        &self,
        cx: &OpenDevice<'_, Bochs>,
        _sink: &Self::Load,
        io: &LoadIo<Accepted>,
    ) -> Result {
        let (picture, registers) = bars(cx)?;
        Self::Load::activate(io, |state| state::write(&picture, &registers, state))
    }

    fn pending(&self, cx: &OpenDevice<'_, Bochs>) -> Result<Pending> {
        Ok(Self::Save::size(state::bytes(&cx.bar(PICTURE)?)?))
    }
}
