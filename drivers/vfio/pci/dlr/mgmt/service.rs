// SPDX-License-Identifier: GPL-2.0

//! A bound management function, as the drivers of its data functions see it.

use super::{
    channel::Channel,
    function::Function,
    hardware::Limits,
    memory::{
        Buffer,
        Memory, //
    },
    queue::{
        Queue,
        VECTOR, //
    },
    stats::Stats, //
};
use crate::{
    kext::{
        device_link::DeviceLink,
        dma,
        global::Global, //
    },
    proto::{
        admin::Command,
        identify::{
            self,
            Cap, //
        },
        status_page,
        FnInfo,
        NicInfo, //
    },
};
use kernel::{
    device::{
        Bound,
        Core,
        Device, //
    },
    pci,
    prelude::*,
    static_lock_class,
    sync::Arc, //
};

/// All live services.
static SERVICES: Global<KVec<Arc<Service>>> = Global::new();

/// Makes the list of services. Before the first driver of this module is registered.
///
/// # Errors
///
/// `EBUSY` the second time.
pub(crate) fn init() -> Result {
    SERVICES.init(KVec::new(), c"dlr_mgmt::SERVICES", static_lock_class!())
}

/// The service of the NIC with this serial.
pub(crate) fn find(serial: u64) -> Option<Arc<Service>> {
    let services = SERVICES.lock().ok()?;
    let found = services.iter().find(|s| s.serial() == serial)?;
    Some(found.clone())
}

/// A bound management function. Outlives the binding; then every call says `ENOTCONN`.
pub(crate) struct Service {
    pub(super) queue: Arc<Queue>,
    pub(super) memory: Arc<Memory>,
    limits: Limits,
    /// MSI-X vectors that we got.
    vectors: u32,
    nic: NicInfo,
    functions: KVec<FnInfo>,
}

impl Service {
    /// Asks the device who it and its functions are, and starts their status pages. The queue runs.
    pub(super) fn new(
        queue: &Arc<Queue>,
        memory: &Arc<Memory>,
        limits: Limits,
        vectors: u32,
    ) -> Result<Arc<Self>> {
        let buffer = {
            let hw = queue.hw.enter().ok_or(ENOTCONN)?;
            memory.alloc(hw.device(), identify::NIC_SIZE.max(identify::FN_SIZE))?
        };
        let nic: [u8; identify::NIC_SIZE] = ask(queue, &buffer, Command::identify_nic())?;
        let nic = NicInfo::decode(nic);
        if !identify::is_same_nic(&nic, limits.serial, limits.functions) {
            return Err(EPROTO);
        }
        let mut functions = KVec::with_capacity(limits.functions as usize, GFP_KERNEL)?;
        for channel in &queue.channels {
            let number = channel.number;
            let info = ask(queue, &buffer, Command::identify_fn(number))?;
            let info = FnInfo::decode(info)?;
            functions.push(info, GFP_KERNEL)?;
            if info.caps.contains(Cap::StatusPage) {
                let command = status_page_command(queue, number)?;
                queue.submit(command, None, None)?.wait()?;
            }
        }
        Ok(Arc::new(
            Self {
                queue: queue.clone(),
                memory: memory.clone(),
                limits,
                vectors,
                nic,
                functions,
            },
            GFP_KERNEL,
        )?)
    }

    /// Makes it known to [`find`].
    ///
    /// # Errors
    ///
    /// `EEXIST` when a NIC with this serial is there already.
    pub(super) fn publish(self: &Arc<Self>) -> Result {
        let mut services = SERVICES.lock()?;
        if services.iter().any(|s| s.serial() == self.serial()) {
            return Err(EEXIST);
        }
        services.push(self.clone(), GFP_KERNEL)?;
        Ok(())
    }

    /// The contrary of [`Self::publish`].
    pub(super) fn withdraw(self: &Arc<Self>) {
        let Ok(mut services) = SERVICES.lock() else {
            return;
        };
        let index = services.iter().position(|s| Arc::ptr_eq(s, self));
        if let Some(index) = index {
            let _ = services.remove(index);
        }
        if services.is_empty() {
            // A `static` is never dropped: leave no memory behind.
            *services = KVec::new();
        }
    }

    /// Serial of the NIC.
    pub(crate) fn serial(&self) -> u64 {
        self.limits.serial
    }

    /// Has a data function suspended and shut down before its management function.
    ///
    /// # Errors
    ///
    /// `ENOTCONN`, and those of [`DeviceLink::new`].
    pub(crate) fn order_after(&self, function: &Device<Bound>) -> Result<DeviceLink> {
        let hw = self.queue.hw.enter().ok_or(ENOTCONN)?;
        DeviceLink::new(function, hw.device())
    }

    /// Number of data functions.
    pub(crate) fn num_functions(&self) -> u32 {
        self.limits.functions
    }

    /// What the NIC says about itself.
    pub(crate) fn nic(&self) -> &NicInfo {
        &self.nic
    }

    /// Whether the management function is gone for good.
    pub(crate) fn is_gone(&self) -> bool {
        self.queue.is_down()
    }

    /// Counters.
    pub(crate) fn stats(&self) -> &Stats {
        &self.queue.stats
    }

    /// What is in use now: DMA buffers, commands in flight, log rings. All of it comes back when sessions
    /// and logs end.
    pub(super) fn in_use(&self) -> [(&'static str, usize); 3] {
        let rings = |c: &&Arc<Channel>| c.log.lock().ring.is_some();
        [
            ("buffers", self.memory.count()),
            ("in_flight", self.queue.in_flight()),
            (
                "log_rings",
                self.queue.channels.iter().filter(rings).count(),
            ),
        ]
    }

    /// A data function.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the NIC has none with this number.
    pub(crate) fn function(self: &Arc<Self>, number: u32) -> Result<Function> {
        let index = number as usize;
        let channel = self.queue.channels.get(index).ok_or(ENODEV)?.clone();
        let info = *self.functions.get(index).ok_or(ENODEV)?;
        Ok(Function::new(self.clone(), channel, info))
    }

    /// The vector of a function's log.
    pub(super) fn log_vector(&self, function: u16) -> u16 {
        // CAST: A device has at most 2048 vectors.
        log_vector(function.into(), self.vectors) as u16
    }
}

/// The vector that the logs of function `number` raise; with too few vectors they share, but never with
/// the queue: its completions are what a drain may be waiting for.
pub(super) fn log_vector(number: u32, vectors: u32) -> u32 {
    let own = vectors.saturating_sub(1).max(1);
    VECTOR + 1 + number.checked_rem(own).unwrap_or(0)
}

/// The command that tells the device where a function's status page is.
pub(super) fn status_page_command(queue: &Queue, number: u16) -> Result<Command> {
    let hw = queue.hw.enter().ok_or(ENOTCONN)?;
    let offset = usize::from(number) * status_page::SIZE;
    let address = hw.data().pages.dma_address() + offset as u64;
    Ok(Command::status_page(number, address))
}

/// Runs a command that fills `buffer`, and takes the first `N` bytes of it.
fn ask<const N: usize>(
    queue: &Arc<Queue>,
    buffer: &Arc<Buffer>,
    command: Command,
) -> Result<[u8; N]> {
    let len = u32::try_from(N)?;
    queue
        .submit(command, Some((buffer.clone(), len)), None)?
        .wait()?;
    let mut bytes = [0; N];
    buffer.copy_out(0, &mut bytes)?;
    Ok(bytes)
}

/// Ends everything that uses the device, and frees all DMA memory, whoever still has handles. On unbind,
/// and when probe fails half way.
pub(super) fn shut_down(queue: &Queue, memory: &Memory, pdev: &pci::Device<Core<'_>>) {
    // From here on every call fails, and everybody who sleeps wakes up.
    queue.go_down(ENOTCONN);
    let quiet = queue.quiesce();
    // Whatever the device thinks, now it cannot reach memory any more. The reset also ends logs and status
    // pages, which the handshake leaves alone.
    dma::clear_master(pdev);
    let reset = dma::reset(pdev);
    if let (Err(error), _) | (_, Err(error)) = (quiet, reset) {
        dev_warn!(pdev, "did not stop cleanly ({error:?})\n");
    }
    // Waits for those who are at the hardware, and frees rings and status pages.
    queue.hw.revoke();
    queue.free_slots();
    for channel in &queue.channels {
        free_log(channel);
        channel.set_client(None);
    }
    memory.close();
}

fn free_log(channel: &Channel) {
    let mut log = channel.log.lock();
    log.active = false;
    // With the lock held: whoever else frees the ring does so under it as well, and so before unbind ends.
    log.ring = None;
}

#[kunit_tests(dlr_mgmt_service)]
mod tests {
    use super::*;

    #[test]
    fn logs_never_share_the_queues_vector() {
        for vectors in 2..66 {
            for number in 0..64 {
                let vector = log_vector(number, vectors);
                assert!(vector != VECTOR && vector < vectors);
            }
        }
        assert_eq!(log_vector(0, 3), 1);
        assert_eq!(log_vector(1, 3), 2);
        assert_eq!(log_vector(2, 3), 1);
    }

    #[test]
    fn unknown_serial() {
        assert!(find(0x0123_4567_89ab_cdef).is_none());
    }
}
