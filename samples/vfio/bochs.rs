// SPDX-License-Identifier: GPL-2.0

//! Migration of QEMU's `bochs-display` device. Besides `Operations` and `Migratable`, the driver
//! implements `Engine`.
//!
//! All of the device's state is in its BARs: the picture, eleven registers of which nine are saved,
//! and the byte order. The device does no DMA and has no timer, so its state does not change while
//! the CPUs of the guest are stopped.

use crate::{
    ext::crc32c::crc32c,
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

/// The state of the device, in the order of the image. `VBE_DISPI_INDEX_ENABLE` needs no special
/// place, because the device reads it only when it draws the picture.
const STATE: BarState = BarState::new(&[
    // `VBE_DISPI_INDEX_XRES` to `VBE_DISPI_INDEX_Y_OFFSET`. The others read as constants.
    Part::registers16(REGISTERS, 0x502, 9),
    // The byte order.
    Part::registers32(REGISTERS, 0x604, 1),
    Part::memory(PICTURE),
]);

/// Offset of the EDID in the BAR of the registers.
const EDID: usize = 0x000;
const EDID_BYTES: usize = 0x100;
/// Offset of the register `VBE_DISPI_INDEX_VIDEO_MEMORY_64K`.
const MEMORY_64K: usize = 0x514;

/// A device bound to the driver.
#[pin_data]
pub(crate) struct Bochs {
    #[pin]
    machine: Machine<BochsEngine>,
}

impl Operations for Bochs {
    type OpenData = ();

    const ID_TABLE: IdTable = IdTable::new(&TABLE);
    const NAME: &'static CStr = c"bochs-vfio-pci";
    /// The device starts no access to other devices in any state, so it supports P2P.
    const MIGRATION: Option<migration::Ops<Self>> = Some(migration::Ops::new().with_p2p());

    fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            machine <- Machine::new(BochsEngine),
        })
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
}

/// Returns the format of the image. Its magic identifies the model: a device with another EDID or
/// another size of memory refuses the image.
fn format(cx: &OpenDevice<'_, Bochs>) -> Result<Format> {
    let max_bytes = STATE.bytes(cx)?;
    let mut registers = cx.bar(REGISTERS)?;
    let held = registers.hold()?;
    let mut edid = [0; EDID_BYTES];
    held.copy_from(EDID, &mut edid)?;
    let memory = held.read16(MEMORY_64K)?;
    let model = u64::from(crc32c(&edid)) << 16 | u64::from(memory);
    Ok(Format {
        magic: 0xb0c5_0000_0000_0000 | model,
        version: 1,
        max_bytes,
    })
}

/// The migration engine. It has no state of its own.
pub(crate) struct BochsEngine;

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
        Snapshot::start(&format(cx)?, &STATE.read(cx)?, stopped)
    }

    fn begin_load(&self, cx: &OpenDevice<'_, Bochs>) -> Result<LoadStart<Self::Load>> {
        Ok(Image::start(&format(cx)?))
    }

    fn install(
        &self,
        cx: &OpenDevice<'_, Bochs>,
        _sink: &Self::Load,
        io: &LoadIo<Accepted>,
    ) -> Result {
        Self::Load::activate(io, |state| STATE.write(cx, state))
    }

    fn pending(&self, cx: &OpenDevice<'_, Bochs>) -> Result<Pending> {
        Ok(Self::Save::size(STATE.bytes(cx)?))
    }

    /// Does nothing, as [`Self::set_level`].
    fn recover(&self) -> Result {
        Ok(())
    }
}
