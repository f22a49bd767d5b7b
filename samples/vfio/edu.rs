// SPDX-License-Identifier: GPL-2.0

//! Logging of DMA writes for QEMU's `edu` device: a driver that implements one trait, `Tracker`.
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

/// Maximum number of copies that are kept between two reports. After more, all memory is dirty.
const MAX_COPIES: usize = 64;

/// Copies that write to memory.
#[derive(Default)]
struct Copies {
    /// Whether a log is active.
    logging: bool,
    /// The range of the copy that began last, which may be under way.
    last: Option<IovaRange>,
    /// The ranges of the copies before it, which have ended.
    earlier: KVec<IovaRange>,
    /// There were more copies than `earlier` holds.
    overflow: bool,
}

impl Copies {
    /// Notes that a copy begins, so that the one before has ended.
    fn begin(&mut self, transfer: &Transfer) {
        let (true, Some(range)) = (self.logging, transfer.written()) else {
            return;
        };
        let Some(before) = self.last.replace(range) else {
            return;
        };
        if self.earlier.len() >= MAX_COPIES || self.earlier.push(before, GFP_KERNEL).is_err() {
            self.overflow = true;
        }
    }

    /// Forgets all copies that have ended.
    fn forget(&mut self, is_running: bool) {
        self.overflow = false;
        self.earlier.clear();
        self.last = self.last.filter(|_| is_running);
    }
}

/// A device bound to the driver.
#[pin_data]
pub(crate) struct Edu {
    log: Arc<Log<EduLog>>,
    /// Held for all accesses to the DMA registers, so that they do not change between a read and
    /// the command that begins a copy. A copy is noted here before the device gets the command.
    #[pin]
    copies: Mutex<Copies>,
}

impl Edu {
    /// Writes `bytes` to `offset`, which is in the DMA registers.
    fn write_register(dev: &OpenDevice<'_, Self>, offset: usize, bytes: &[u8]) -> Result {
        let value = match *bytes {
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(EINVAL),
        };
        let bar = dev.bar(BAR)?;
        let mut copies = dev.data().get_ref().copies.lock();
        if bar.read64(transfer::CMD)? & transfer::CMD_RUN != 0 {
            // The device drops such a write while a copy runs. It must not see the write after the
            // copy has ended, and begin a copy that is not noted.
            return Ok(());
        }
        if offset == transfer::CMD && value & transfer::CMD_RUN != 0 {
            let transfer = Transfer::read(value, |register| bar.read64(register))?;
            if !transfer.is_valid() {
                return Err(EINVAL);
            }
            copies.begin(&transfer);
        }
        match bytes.len() {
            4 => bar.write32(offset, value as u32),
            _ => bar.write64(offset, value),
        }
    }
}

impl Operations for Edu {
    type OpenData = ();

    const ID_TABLE: IdTable = &TABLE;
    const NAME: &'static CStr = c"edu-vfio-pci";
    const DMA_LOGGING: Option<dma_logging::Ops<Self>> = Some(dma_logging::Ops::new());

    fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            log: Log::new(0)?,
            copies <- new_mutex!(Copies::default()),
        })
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            dma_logging: true,
            ..Capabilities::default()
        }
    }

    fn trapped_bars(&self) -> BarSet {
        BarSet::only(BAR)
    }

    fn write(dev: &OpenDevice<'_, Self>, write: Write<'_>) -> Result<usize> {
        let end = write.offset().saturating_add(write.len() as u64);
        if write.region() != BAR
            || end <= transfer::REGISTERS.start
            || write.offset() >= transfer::REGISTERS.end
        {
            return write.forward();
        }
        // VFIO would split a longer or unaligned access, and the device ignores parts of it.
        let (offset, len) = (usize::try_from(write.offset())?, write.len());
        if !matches!(len, 4 | 8) || offset % len != 0 {
            return Err(EINVAL);
        }
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..len).ok_or(EINVAL)?;
        let done = write.take(bytes)?;
        Self::write_register(dev, offset, bytes)?;
        Ok(done)
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

    fn with_context<R>(
        dev: &OpenDevice<'_, Self>,
        f: impl FnOnce(&OpenDevice<'_, Self>) -> R,
    ) -> R {
        f(dev)
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

    /// Accepts any page size and any address, because the driver keeps the log.
    fn limits(_cx: &OpenDevice<'_, Edu>) -> Result<Limits> {
        Ok(Limits {
            page_shift_min: 12,
            page_shift_max: 30,
            max_ranges: 256,
            iova_bits: 64,
        })
    }

    fn start(cx: &OpenDevice<'_, Edu>, _start: &Start<'_>) -> Result<Self> {
        let bar = cx.bar(BAR)?;
        let mut copies = cx.data().get_ref().copies.lock();
        // `hold` fails if the user has disabled memory decoding.
        let bar = bar.hold()?;
        copies.logging = true;
        // A copy that is under way is logged as well.
        if is_running(&bar)? {
            let cmd = bar.read64(transfer::CMD)?;
            copies.begin(&Transfer::read(cmd, |register| bar.read64(register))?);
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
        let bar = cx.bar(BAR)?;
        let mut copies = cx.data().get_ref().copies.lock();
        // Read before the marks are set: a copy that ends later is reported once more.
        let is_running = is_running(&bar.hold()?)?;
        if copies.overflow {
            dirty.mark_all();
        }
        for range in Iterator::chain(copies.earlier.iter(), &copies.last) {
            dirty.mark_tracked(range.iova(), range.length());
        }
        copies.forget(is_running);
        Ok(())
    }

    fn stop(self, cx: &OpenDevice<'_, Edu>) -> Result {
        let mut copies = cx.data().get_ref().copies.lock();
        copies.logging = false;
        copies.forget(false);
        Ok(())
    }

    fn snapshot(&self) {}
}
