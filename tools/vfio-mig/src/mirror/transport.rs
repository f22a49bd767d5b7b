// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A modern virtio function over the regions of a VFIO device (virtio 1.2, section 4.1).

use anyhow::{bail, ensure, Context, Result};
use vfio_bindings::bindings::vfio as vb;

use super::queue::Rings;
use crate::device::Device;

const CONFIG: u32 = vb::VFIO_PCI_CONFIG_REGION_INDEX;
const PCI_COMMAND: u64 = 0x04;
/// Memory accesses and bus mastering on, INTx off.
const COMMAND_ON: u16 = 0x0406;
const PCI_STATUS: u64 = 0x06;
const STATUS_CAPABILITIES: u16 = 0x10;
const PCI_CAPABILITIES: u64 = 0x34;
const CAP_VENDOR: u8 = 0x09;

const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

const STATUS_ACKNOWLEDGE: u8 = 1;
const STATUS_DRIVER: u8 = 2;
const STATUS_DRIVER_OK: u8 = 4;
const STATUS_FEATURES_OK: u8 = 8;
const STATUS_NEEDS_RESET: u8 = 0x40;

/// The function tells at which index it wants a doorbell (`avail_event`).
pub const F_EVENT_IDX: u64 = 1 << 29;
/// There is a control queue.
pub const NET_F_CTRL_VQ: u64 = 1 << 17;
/// It takes commands for the receive filter.
pub const NET_F_CTRL_RX: u64 = 1 << 18;
/// Sizes of network frames are told, several buffers take one frame.
pub const NET_F_MRG_RXBUF: u64 = 1 << 15;
const NET_F_MAC: u64 = 1 << 5;
const F_VERSION_1: u64 = 1 << 32;
const F_ACCESS_PLATFORM: u64 = 1 << 33;

/// A queue without interrupts has this vector.
pub const NO_VECTOR: u16 = 0xffff;

/// Which features to agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Features {
    /// Those that traffic needs.
    Basic,
    /// EVENT_IDX and the control queue as well, for what only they make a function write.
    Full,
}

/// Access to the function's registers: its PCI regions, or a model of them in tests.
pub trait Regions {
    /// Reads from region `index`.
    ///
    /// # Errors
    ///
    /// The access failed.
    fn read(&self, index: u32, offset: u64, buf: &mut [u8]) -> std::io::Result<()>;

    /// Writes to region `index`.
    ///
    /// # Errors
    ///
    /// The access failed.
    fn write(&self, index: u32, offset: u64, data: &[u8]) -> std::io::Result<()>;
}

impl Regions for Device {
    fn read(&self, index: u32, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.region_read(index, offset, buf)
    }

    fn write(&self, index: u32, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.region_write(index, offset, data)
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    bar: u32,
    offset: u64,
    length: u64,
}

/// A virtio function.
pub struct VirtioPci<'a, R: Regions> {
    regions: &'a R,
    common: Window,
    notify: Window,
    multiplier: u64,
    device: Window,
}

impl<'a, R: Regions> VirtioPci<'a, R> {
    /// Finds the registers. Changes nothing but the COMMAND register, without which a BAR
    /// cannot be read; it may be called for a function that runs or is being loaded.
    ///
    /// # Errors
    ///
    /// It is not a modern virtio function.
    pub fn new(regions: &'a R) -> Result<Self> {
        let mut this = Self {
            regions,
            common: Window {
                bar: u32::MAX,
                offset: 0,
                length: 0,
            },
            notify: Window {
                bar: u32::MAX,
                offset: 0,
                length: 0,
            },
            multiplier: 0,
            device: Window {
                bar: u32::MAX,
                offset: 0,
                length: 0,
            },
        };
        regions.write(CONFIG, PCI_COMMAND, &COMMAND_ON.to_le_bytes())?;
        ensure!(
            this.config_u16(PCI_STATUS)? & STATUS_CAPABILITIES != 0,
            "the function has no PCI capabilities: it is not a modern virtio function"
        );
        let mut at = this.config_u8(PCI_CAPABILITIES)? & 0xfc;
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            let place = u64::from(at);
            if this.config_u8(place)? == CAP_VENDOR {
                this.capability(place)?;
            }
            at = this.config_u8(place + 1)? & 0xfc;
        }
        for (window, what, least) in [
            (this.common, "common configuration", 0x38),
            (this.notify, "notification", 2),
            (this.device, "device configuration", 6),
        ] {
            ensure!(
                window.bar <= 5 && window.length >= least,
                "no virtio {what} capability: it is not a modern virtio-net function"
            );
        }
        Ok(this)
    }

    fn capability(&mut self, at: u64) -> Result<()> {
        let window = Window {
            bar: u32::from(self.config_u8(at + 4)?),
            offset: u64::from(self.config_u32(at + 8)?),
            length: u64::from(self.config_u32(at + 12)?),
        };
        let slot = match self.config_u8(at + 3)? {
            COMMON => &mut self.common,
            NOTIFY => {
                self.multiplier = u64::from(self.config_u32(at + 16)?);
                &mut self.notify
            }
            DEVICE => &mut self.device,
            _ => return Ok(()),
        };
        // The first of each kind is the one that the device prefers.
        if slot.bar == u32::MAX {
            *slot = window;
        }
        Ok(())
    }

    fn config_u8(&self, at: u64) -> Result<u8> {
        let mut buf = [0; 1];
        self.regions
            .read(CONFIG, at, &mut buf)
            .context("reading PCI configuration space")?;
        Ok(buf[0])
    }

    fn config_u16(&self, at: u64) -> Result<u16> {
        let mut buf = [0; 2];
        self.regions
            .read(CONFIG, at, &mut buf)
            .context("reading PCI configuration space")?;
        Ok(u16::from_le_bytes(buf))
    }

    fn config_u32(&self, at: u64) -> Result<u32> {
        let mut buf = [0; 4];
        self.regions
            .read(CONFIG, at, &mut buf)
            .context("reading PCI configuration space")?;
        Ok(u32::from_le_bytes(buf))
    }

    fn get(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        let Window { bar, offset, .. } = self.common;
        self.regions
            .read(bar, offset + at, buf)
            .context("reading a virtio register")
    }

    fn put(&self, at: u64, data: &[u8]) -> Result<()> {
        let Window { bar, offset, .. } = self.common;
        self.regions
            .write(bar, offset + at, data)
            .context("writing a virtio register")
    }

    fn get_u16(&self, at: u64) -> Result<u16> {
        let mut buf = [0; 2];
        self.get(at, &mut buf)?;
        Ok(u16::from_le_bytes(buf))
    }

    fn status(&self) -> Result<u8> {
        let mut buf = [0];
        self.get(0x14, &mut buf)?;
        Ok(buf[0])
    }

    fn put_u64(&self, at: u64, value: u64) -> Result<()> {
        self.put(at, &(value as u32).to_le_bytes())?;
        self.put(at + 4, &((value >> 32) as u32).to_le_bytes())
    }

    /// Resets the function and agrees on features; answers with them.
    ///
    /// # Errors
    ///
    /// It lacks one of them.
    pub fn begin(&self, features: Features) -> Result<u64> {
        self.put(0x14, &[0])?;
        for _ in 0..1000 {
            if self.status()? == 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        ensure!(
            self.status()? == 0,
            "the function does not finish its virtio reset"
        );
        self.put(0x14, &[STATUS_ACKNOWLEDGE])?;
        self.put(0x14, &[STATUS_ACKNOWLEDGE | STATUS_DRIVER])?;
        let mut offered = 0;
        for half in 0..2u32 {
            self.put(0, &half.to_le_bytes())?;
            let mut buf = [0; 4];
            self.get(4, &mut buf)?;
            offered |= u64::from(u32::from_le_bytes(buf)) << (32 * half);
        }
        let needed = F_VERSION_1
            | NET_F_MRG_RXBUF
            | NET_F_MAC
            | match features {
                Features::Basic => 0,
                Features::Full => F_EVENT_IDX | NET_F_CTRL_VQ | NET_F_CTRL_RX,
            };
        ensure!(
            offered & needed == needed,
            "the function offers features {offered:#x}, but {needed:#x} are needed"
        );
        let taken = needed | offered & F_ACCESS_PLATFORM;
        for half in 0..2u32 {
            self.put(8, &half.to_le_bytes())?;
            self.put(0xc, &((taken >> (32 * half)) as u32).to_le_bytes())?;
        }
        self.put(
            0x14,
            &[STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK],
        )?;
        ensure!(
            self.status()? & STATUS_FEATURES_OK != 0,
            "the function refuses features {taken:#x}"
        );
        Ok(taken)
    }

    /// Largest size of a queue.
    ///
    /// # Errors
    ///
    /// The function has no such queue.
    pub fn queue_limit(&self, queue: u16) -> Result<u16> {
        self.put(0x16, &queue.to_le_bytes())?;
        match self.get_u16(0x18)? {
            0 => bail!("the function has no queue {queue}"),
            limit => Ok(limit),
        }
    }

    /// Gives the function a queue. Its interrupts have MSI-X vector `vector`, or [`NO_VECTOR`].
    ///
    /// # Errors
    ///
    /// A register cannot be accessed, or the function has no such vector.
    pub fn enable_queue(&self, queue: u16, rings: Rings, vector: u16) -> Result<()> {
        self.put(0x16, &queue.to_le_bytes())?;
        self.put(0x18, &rings.size.to_le_bytes())?;
        self.put(0x1a, &vector.to_le_bytes())?;
        ensure!(
            vector == NO_VECTOR || self.get_u16(0x1a)? == vector,
            "the function has no vector {vector} for queue {queue}"
        );
        self.put_u64(0x20, rings.desc)?;
        self.put_u64(0x28, rings.avail)?;
        self.put_u64(0x30, rings.used)?;
        self.put(0x1c, &1u16.to_le_bytes())
    }

    /// Lets it work.
    ///
    /// # Errors
    ///
    /// It says that it cannot.
    pub fn finish(&self) -> Result<()> {
        let status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
        self.put(0x14, &[status])?;
        self.check()
    }

    /// Is it still at work?
    ///
    /// # Errors
    ///
    /// It is not: broken, or not the function that was set up.
    pub fn check(&self) -> Result<()> {
        let status = self.status()?;
        ensure!(
            status & STATUS_DRIVER_OK != 0 && status & STATUS_NEEDS_RESET == 0,
            "the function is not at work: virtio status {status:#x}"
        );
        Ok(())
    }

    /// Where a write notifies the function of queue `queue`: region and offset.
    ///
    /// # Errors
    ///
    /// A register cannot be accessed.
    pub fn doorbell(&self, queue: u16) -> Result<Doorbell> {
        self.put(0x16, &queue.to_le_bytes())?;
        let number = u64::from(self.get_u16(0x1e)?);
        let offset = self.multiplier * number;
        ensure!(
            offset + 2 <= self.notify.length,
            "the doorbell of queue {queue} is outside"
        );
        Ok(Doorbell {
            bar: self.notify.bar,
            offset: self.notify.offset + offset,
            queue,
        })
    }

    /// The MAC address.
    ///
    /// # Errors
    ///
    /// A register cannot be accessed.
    pub fn mac(&self) -> Result<[u8; 6]> {
        let mut mac = [0; 6];
        for (at, byte) in mac.iter_mut().enumerate() {
            let mut buf = [0];
            let place = self.device.offset + at as u64;
            self.regions.read(self.device.bar, place, &mut buf)?;
            *byte = buf[0];
        }
        Ok(mac)
    }
}

/// Where a queue is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    bar: u32,
    offset: u64,
    queue: u16,
}

impl Doorbell {
    /// Notifies the function.
    ///
    /// # Errors
    ///
    /// The access failed.
    pub fn ring<R: Regions>(&self, regions: &R) -> Result<()> {
        regions
            .write(self.bar, self.offset, &self.queue.to_le_bytes())
            .context("notifying a queue")
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
