// SPDX-License-Identifier: GPL-2.0

//! Logging of DMA writes for QEMU's `edu` device. Besides `Operations` and `Logged`, the driver
//! implements `Tracker`.
//!
//! The device has no log. It copies up to 4096 bytes at a time, 100 ms after a write to its command
//! register, and the driver can read source, destination and length from its registers. So BAR 0 is
//! trapped: the driver sees each copy begin, and reports the memory that it writes as dirty until
//! the device says that the copy has ended.
//!
//! The device cannot be migrated, because the contents of its buffer can be neither read nor
//! restored.

mod transfer;

use self::transfer::Transfer;
use crate::vfio::prelude::*;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

kernel::module_device_table!(
    "pci",
    DeviceId,
    TABLE,
    (),
    [(DeviceId::new(0x1234, 0x11e8), ())]
);

/// Number of the BAR with all registers.
const BAR: u32 = 0;

/// A device bound to the driver.
#[pin_data]
pub(crate) struct Edu {
    log: Arc<Log<EduLog>>,
    /// The copies that write to memory. Held for all accesses to the DMA registers, so that they do
    /// not change between a read and the command that begins a copy. A copy is noted here before
    /// the device gets the command.
    #[pin]
    writes: Mutex<Writes>,
}

impl Operations for Edu {
    type OpenData = ();

    const ID_TABLE: IdTable = IdTable::new(&TABLE);
    const NAME: &'static CStr = c"edu-vfio-pci";
    const DMA_LOGGING: Option<dma_logging::Ops<Self>> = Some(dma_logging::Ops::new());

    fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            log: Log::new(0)?,
            writes <- new_mutex!(Writes::new()),
        })
    }

    fn trapped_bars(&self) -> BarSet {
        BarSet::only(BAR)
    }

    fn write(dev: &OpenDevice<'_, Self>, write: Write<'_>) -> Result<usize> {
        if !write.touches(BAR, transfer::REGISTERS) {
            return write.forward();
        }
        // VFIO would split any other access, and the device ignores parts of it.
        let register = write.take_register(&[4, 8])?;
        let bar = dev.bar(BAR)?;
        let mut writes = dev.data().get_ref().writes.lock();
        if bar.read64(transfer::CMD)? & transfer::CMD_RUN != 0 {
            // The device drops such a write while a copy runs. It must not see the write after the
            // copy has ended, and begin a copy that is not noted.
            return Ok(register.len());
        }
        if register.offset() == transfer::CMD && register.value() & transfer::CMD_RUN != 0 {
            let transfer = Transfer::read(register.value(), |offset| bar.read64(offset))?;
            if !transfer.is_valid() {
                return Err(EINVAL);
            }
            if let Some(range) = transfer.written() {
                writes.begin(range);
            }
        }
        register.write_to(&bar)
    }

    fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
        Ok::<_, Error>(())
    }
}

impl Logged for Edu {
    type Tracker = EduLog;

    fn log(&self) -> &Arc<Log<EduLog>> {
        &self.log
    }
}

/// The tracker of an active log.
pub(crate) struct EduLog;

/// Returns whether a copy is under way.
fn is_running(bar: &HeldBar<'_>) -> Result<bool> {
    Ok(bar.read64(transfer::CMD)? & transfer::CMD_RUN != 0)
}

impl Tracker for EduLog {
    type Context<'a> = OpenDevice<'a, Edu>;
    type Snapshot = ();

    fn limits(_cx: &OpenDevice<'_, Edu>) -> Result<Limits> {
        Ok(Limits::UNLIMITED)
    }

    fn start(cx: &OpenDevice<'_, Edu>, _start: &Start<'_>) -> Result<Self> {
        let mut bar = cx.bar(BAR)?;
        let mut writes = cx.data().get_ref().writes.lock();
        // Without `hold`, reads fail while the user has disabled memory decoding.
        let bar = bar.hold()?;
        writes.start()?;
        // A copy that is under way is logged as well.
        if is_running(&bar)? {
            let cmd = bar.read64(transfer::CMD)?;
            let transfer = Transfer::read(cmd, |offset| bar.read64(offset))?;
            if let Some(range) = transfer.written() {
                writes.begin(range);
            }
        }
        Ok(Self)
    }

    fn add(&mut self, _cx: &OpenDevice<'_, Edu>, _range: IovaRange) -> Result {
        Ok(())
    }

    fn collect(
        &mut self,
        cx: &OpenDevice<'_, Edu>,
        _range: IovaRange,
        dirty: &mut Dirty<'_>,
    ) -> Result {
        let mut bar = cx.bar(BAR)?;
        let mut writes = cx.data().get_ref().writes.lock();
        // Read before the marks are set: a copy that ends later is reported once more.
        let running = is_running(&bar.hold()?)?;
        // The device makes one copy at a time.
        writes.report_in_order(usize::from(running), dirty);
        Ok(())
    }

    fn stop(self, cx: &OpenDevice<'_, Edu>) -> Result {
        cx.data().get_ref().writes.lock().stop();
        Ok(())
    }

    fn snapshot(&self) {}
}
