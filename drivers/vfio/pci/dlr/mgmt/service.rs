// SPDX-License-Identifier: GPL-2.0

//! The service that a bound management function offers to the drivers of its data functions.

use super::{
    channel::Channel,
    device::Queue,
    hardware::Limits, //
};
use crate::{
    ext::{
        self,
        cmdq::{
            buffer::Buffer,
            interrupt::vector_of,
            ring::Words, //
        },
        device_link::DeviceLink,
        patience::Patience,
        registry::{
            Published,
            Registry, //
        },
        trust::Pass, //
    },
    proto::{
        admin::Command,
        identify::{
            self,
            Cap, //
        },
        status_page::{
            self,
            StatusPage, //
        },
        FnInfo,
        NicInfo, //
    },
};
use kernel::{
    device::Device,
    pci,
    prelude::*,
    static_lock_class,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
};

/// All published services.
static SERVICES: Registry<Service> = Registry::new();

/// Initialises [`SERVICES`]. Called before the first driver of this module is registered.
///
/// # Errors
///
/// `EBUSY` if called twice.
pub(crate) fn init() -> Result {
    SERVICES.init(c"dlr_mgmt::SERVICES", static_lock_class!())
}

/// Returns the services of all NICs with this serial whose management functions are not gone.
/// Several NICs may have it: a data function belongs to the one that ATTEST proves. Called by probe
/// and by calls of users.
///
/// # Errors
///
/// `ENOMEM` if the allocation fails.
pub(crate) fn candidates(serial: u64) -> Result<KVec<Arc<Service>>> {
    if !identify::is_programmed(serial) {
        return Ok(KVec::new());
    }
    SERVICES.matching(|service| service.serial() == serial && !service.is_gone())
}

/// A bound management function. It outlives the binding; every call then fails with `ENOTCONN`.
pub(crate) struct Service {
    pub(super) queue: Arc<Queue>,
    limits: Limits,
    /// Number of MSI-X vectors that the driver has got.
    vectors: u32,
    nic: NicInfo,
    pub(super) functions: KVec<FnInfo>,
}

impl Service {
    /// Identifies the device and its functions, and starts their status pages. The queue must be
    /// up.
    pub(super) fn new(queue: &Arc<Queue>, limits: Limits, vectors: u32) -> Result<Arc<Self>> {
        let buffer = {
            let hw = queue.hw.enter().ok_or(ENOTCONN)?;
            Buffer::new(&hw, identify::NIC_SIZE.max(identify::FN_SIZE))?
        };
        let nic: [u8; identify::NIC_SIZE] =
            ask(queue, &buffer, Command::identify_nic(), Patience::Killable)?;
        let nic = NicInfo::decode(nic);
        if !identify::is_same_nic(&nic, limits.serial, limits.functions) {
            return Err(EPROTO);
        }
        let mut functions = KVec::with_capacity(limits.functions as usize, GFP_KERNEL)?;
        for channel in &queue.channels {
            let number = channel.number;
            let command = Command::identify_fn(number);
            let info = ask(queue, &buffer, command, Patience::Killable)?;
            let info = FnInfo::decode(info)?;
            functions.push(info, GFP_KERNEL)?;
            if info.caps.contains(Cap::StatusPage) {
                // Store the address first, so that a recovery sets up the page, too. If the device
                // refuses the page, the driver never reads it.
                let address = status_page_address(queue, number)?;
                channel.page.store(address, Relaxed);
                set_up_page(queue, channel)?;
            }
        }
        Ok(Arc::new(
            Self {
                queue: queue.clone(),
                limits,
                vectors,
                nic,
                functions,
            },
            GFP_KERNEL,
        )?)
    }

    /// Reads the status page of a data function. `None` if it has none, in an outage, if the device
    /// has not taken the page since, or if it is updating it.
    pub(super) fn health(&self, number: u32) -> Option<StatusPage> {
        let index = number as usize;
        if !self.functions.get(index)?.caps.contains(Cap::StatusPage) {
            return None;
        }
        let hw = self.queue.hw.enter()?;
        if !self.queue.channels.get(index)?.is_page_live() {
            return None;
        }
        let first = index.checked_mul(status_page::WORDS)?;
        let word = |i: usize| hw.data().pages.get(first.saturating_add(i));
        // 1 is an odd sequence number, which makes the page unstable.
        StatusPage::snapshot(|i| word(i).unwrap_or(1))
    }

    /// Returns the constants from the registers.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Makes the service of `pdev` available to [`candidates`].
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails.
    pub(super) fn publish(self: Arc<Self>, pdev: &pci::Device) -> Result<Published<Self>> {
        SERVICES.publish(pdev.as_ref(), self)
    }

    /// Returns whether another published NIC has the same serial. Existing pairs of that NIC stay
    /// as they are.
    ///
    /// # Errors
    ///
    /// `ENXIO` before [`init`].
    pub(super) fn has_twin(&self) -> Result<bool> {
        Ok(SERVICES.count(|service| service.serial() == self.serial())? > 1)
    }

    /// Returns the serial of the NIC.
    pub(crate) fn serial(&self) -> u64 {
        self.limits.serial
    }

    /// Creates a device link: the core then suspends and shuts down `function` before its
    /// management function.
    ///
    /// # Errors
    ///
    /// `ENOTCONN`, and those of [`DeviceLink::new`].
    pub(crate) fn order_after(&self, function: &Device) -> Result<DeviceLink> {
        let hw = self.queue.hw.enter().ok_or(ENOTCONN)?;
        DeviceLink::new(function, hw.device())
    }

    /// Returns whether `pdev` is the management function of this service.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the management function is gone.
    pub(crate) fn is_of(&self, pdev: &pci::Device) -> Result<bool> {
        let hw = self.queue.hw.enter().ok_or(ENOTCONN)?;
        let own: &pci::Device = hw.device().try_into()?;
        Ok(ext::pci::is_same(own, pdev))
    }

    /// Returns whether a data function is in the IOMMU group of its management function. VFIO could
    /// not assign such a data function on its own.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the management function is gone.
    pub(crate) fn shares_group_with(&self, function: &Device) -> Result<bool> {
        let hw = self.queue.hw.enter().ok_or(ENOTCONN)?;
        Ok(ext::iommu::share_group(hw.device(), function))
    }

    /// Returns the number of data functions.
    pub(crate) fn num_functions(&self) -> u32 {
        self.limits.functions
    }

    /// Returns the answer to IDENTIFY_NIC.
    pub(crate) fn nic(&self) -> &NicInfo {
        &self.nic
    }

    /// Returns whether the management function is gone for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.queue.is_down()
    }

    /// Returns the numbers of DMA buffers, commands in flight and log rings. All of them return to
    /// zero when sessions and logs have ended.
    pub(super) fn in_use(&self) -> [(&'static str, usize); 3] {
        let has_ring = |c: &&Arc<Channel>| c.log.lock().ring.is_some();
        let rings = self.queue.channels.iter().filter(has_ring).count();
        let pieces = self.queue.hw.pieces_of_memory();
        [
            // The pool holds the rings, too.
            ("buffers", pieces.saturating_sub(rings)),
            ("in_flight", self.queue.in_flight()),
            ("log_rings", rings),
        ]
    }

    /// Returns the channel and the capabilities of a data function.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the NIC has no such function.
    pub(super) fn channel(&self, number: u32) -> Result<(Arc<Channel>, FnInfo)> {
        let index = number as usize;
        let channel = self.queue.channels.get(index).ok_or(ENODEV)?.clone();
        let info = *self.functions.get(index).ok_or(ENODEV)?;
        Ok((channel, info))
    }

    /// Returns the MSI-X vector of a function's log.
    pub(super) fn log_vector(&self, function: u16) -> u16 {
        // CAST: A device has at most 2048 vectors.
        vector_of(function.into(), self.vectors) as u16
    }
}

/// Returns the DMA address of a function's status page.
fn status_page_address(queue: &Queue, number: u16) -> Result<u64> {
    let hw = queue.enter()?;
    let offset = usize::from(number) * status_page::SIZE;
    Ok(hw.data().pages.dma_address() + offset as u64)
}

/// Makes the device that is being bound update the status page of a function.
fn set_up_page(queue: &Arc<Queue>, channel: &Arc<Channel>) -> Result {
    let (command, patience) = (page_command(channel), Patience::Killable);
    let channel = Some(channel.clone());
    let ticket = queue.submit(command, None, channel, Pass::Check, patience)?;
    ticket.wait().map(drop)
}

/// Creates the command by which the device updates the status page of a function.
pub(super) fn page_command(channel: &Channel) -> Command {
    Command::status_page(channel.number, channel.page.load(Relaxed))
}

/// Runs a command that fills `buffer`, and returns the first `N` bytes. The device need not have
/// been checked since the last outage.
pub(super) fn ask<const N: usize>(
    queue: &Arc<Queue>,
    buffer: &Arc<Buffer>,
    command: Command,
    patience: Patience<'_>,
) -> Result<[u8; N]> {
    let buffer_and_len = Some((buffer.clone(), u32::try_from(N)?));
    queue
        .submit(command, buffer_and_len, None, Pass::Check, patience)?
        .wait_with(patience)?;
    let mut bytes = [0; N];
    buffer.copy_out(0, &mut bytes)?;
    Ok(bytes)
}

#[kunit_tests(dlr_mgmt_service)]
mod tests {
    use super::*;

    #[test]
    fn unknown_serial() -> Result {
        assert!(candidates(0x0123_4567_89ab_cdef)?.is_empty());
        Ok(())
    }
}
