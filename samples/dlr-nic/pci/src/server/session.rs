// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One client's connection: what each command does.

use std::{cell::Cell, io};

use rustix::io::Errno;
use vm_memory::Permissions;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    dma::{FileError, MapError},
    function::{PciFunction, Port, ResetKind},
    vfio_user::*,
};

type Reply = Result<Vec<u8>, Errno>;

/// A function as one client sees it.
pub(crate) struct Session<'a> {
    port: &'a Port,
    function: &'a dyn PciFunction,
    /// The client has been told that its memory is out of reach.
    told: Cell<bool>,
}

/// Largest expansion ROM (PCI Local Bus Specification 3.0, 6.2.5.2): clients map such memory
/// without a file, and no guest needs DMA to it.
const LARGEST_ROM: u64 = 16 << 20;

impl<'a> Session<'a> {
    pub(crate) fn new(port: &'a Port, function: &'a dyn PciFunction) -> Self {
        Self {
            port,
            function,
            told: Cell::new(false),
        }
    }

    /// Serves until the client leaves.
    pub(crate) fn run(&self, transport: &mut dyn Transport) -> io::Result<()> {
        while let Some(request) = transport.receive()? {
            let header = request.header;
            if header.flags & TYPE_MASK != TYPE_COMMAND {
                self.port.complain(&format_args!("stray reply {header:?}"));
                continue;
            }
            let reply = self.command(request);
            if let Err(errno) = &reply {
                self.port.complain(&format_args!("{header:?}: {errno}"));
            }
            if header.flags & FLAG_NO_REPLY == 0 {
                transport.reply(&header, reply.as_deref().map_err(|e| *e))?;
            }
        }
        Ok(())
    }

    fn command(&self, mut request: Request) -> Reply {
        match request.header.command {
            CMD_VERSION => version(&request.payload),
            CMD_DMA_MAP => self.dma_map(&mut request),
            CMD_DMA_UNMAP => self.dma_unmap(&request.payload),
            CMD_DEVICE_GET_INFO => self.device_info(),
            CMD_DEVICE_GET_REGION_INFO => self.region_info(&request.payload),
            CMD_DEVICE_GET_IRQ_INFO => self.irq_info(&request.payload),
            CMD_DEVICE_SET_IRQS => self.set_irqs(request),
            CMD_REGION_READ => self.region_read(&request.payload),
            CMD_REGION_WRITE => self.region_write(&request.payload),
            CMD_DEVICE_RESET => {
                self.port.reset(self.function, ResetKind::Device);
                Ok(Vec::new())
            }
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    fn dma_map(&self, request: &mut Request) -> Reply {
        let (map, _) = take::<DmaMap>(&request.payload)?;
        let perm = match (map.flags & MAP_READ != 0, map.flags & MAP_WRITE != 0) {
            (true, true) => Permissions::ReadWrite,
            (true, false) => Permissions::Read,
            (false, true) => Permissions::Write,
            (false, false) => return Err(Errno::INVAL),
        };
        if request.fds.len() > 1 {
            return Err(Errno::INVAL);
        }
        let Some(fd) = request.fds.pop() else {
            // Memory without a file (QEMU's ROMs) is out of reach: DMA to it is a fault.
            if map.size > LARGEST_ROM && !self.told.replace(true) {
                log::warn!(
                    "{}: {:#x} bytes of client memory at {:#x} come without a file: DMA to them \
                     fails. If this is the memory of a guest, give it to QEMU with \
                     memory-backend-memfd,share=on",
                    self.port.name(),
                    map.size,
                    map.address
                );
            }
            self.port.memory().unmap(map.address, map.size);
            return Ok(Vec::new());
        };
        self.port
            .memory()
            .map(map.address, map.size, fd, map.offset, perm)
            .map_err(|e| {
                self.port.complain(&format_args!("{map:x?}: {e}"));
                match e {
                    MapError::Invalid => Errno::INVAL,
                    MapError::File(FileError::System(e)) => {
                        Errno::from_io_error(&e).unwrap_or(Errno::NOMEM)
                    }
                    MapError::File(FileError::TooMany) | MapError::TooMany => Errno::NOSPC,
                    MapError::File(_) => Errno::PERM,
                }
            })?;
        Ok(Vec::new())
    }

    fn dma_unmap(&self, payload: &[u8]) -> Reply {
        let (unmap, _) = take::<DmaUnmap>(payload)?;
        if unmap.flags & UNMAP_ALL != 0 {
            self.port.memory().unmap_all();
        } else if unmap.flags != 0 {
            // Dirty bitmap: never offered.
            return Err(Errno::OPNOTSUPP);
        } else {
            self.port.memory().unmap(unmap.address, unmap.size);
        }
        Ok(unmap.as_bytes().to_vec())
    }

    fn device_info(&self) -> Reply {
        let info = DeviceInfo {
            argsz: size_of::<DeviceInfo>() as u32,
            flags: DEVICE_FLAGS_PCI | DEVICE_FLAGS_RESET,
            num_regions: NUM_REGIONS,
            num_irqs: NUM_IRQS,
        };
        Ok(info.as_bytes().to_vec())
    }

    fn region_size(&self, region: u32) -> u64 {
        match region {
            0..=5 => self.port.bar_size(region as u8),
            REGION_CONFIG => 4096,
            _ => 0,
        }
    }

    fn region_info(&self, payload: &[u8]) -> Reply {
        let (ask, _) = take::<RegionInfo>(payload)?;
        if ask.index >= NUM_REGIONS {
            return Err(Errno::INVAL);
        }
        let size = self.region_size(ask.index);
        let info = RegionInfo {
            argsz: size_of::<RegionInfo>() as u32,
            flags: if size != 0 { REGION_FLAGS_RW } else { 0 },
            index: ask.index,
            cap_offset: 0,
            size,
            offset: 0,
        };
        Ok(info.as_bytes().to_vec())
    }

    fn irq_info(&self, payload: &[u8]) -> Reply {
        let (ask, _) = take::<IrqInfo>(payload)?;
        if ask.index >= NUM_IRQS {
            return Err(Errno::INVAL);
        }
        let (flags, count) = match ask.index {
            IRQ_MSIX => (
                IRQ_INFO_EVENTFD | IRQ_INFO_NORESIZE,
                u32::from(self.port.interrupt().count()),
            ),
            _ => (IRQ_INFO_EVENTFD, 0),
        };
        let info = IrqInfo {
            argsz: size_of::<IrqInfo>() as u32,
            flags,
            index: ask.index,
            count,
        };
        Ok(info.as_bytes().to_vec())
    }

    fn set_irqs(&self, request: Request) -> Reply {
        let (set, bools) = take::<IrqSet>(&request.payload)?;
        if set.index >= NUM_IRQS {
            return Err(Errno::INVAL);
        }
        if set.index != IRQ_MSIX {
            // Interrupts that the function does not have: nothing to set, nothing fires.
            return Ok(Vec::new());
        }
        let msix = self.port.interrupt();
        let action =
            set.flags & (IRQ_SET_ACTION_MASK | IRQ_SET_ACTION_UNMASK | IRQ_SET_ACTION_TRIGGER);
        let data = set.flags & (IRQ_SET_DATA_NONE | IRQ_SET_DATA_BOOL | IRQ_SET_DATA_EVENTFD);
        let done = match (data, action) {
            (IRQ_SET_DATA_EVENTFD, IRQ_SET_ACTION_TRIGGER) if request.fds.is_empty() => {
                msix.disconnect(set.start, set.count)
            }
            (IRQ_SET_DATA_EVENTFD, IRQ_SET_ACTION_TRIGGER) => {
                request.fds.len() as u64 == u64::from(set.count)
                    && msix.connect(set.start, request.fds)
            }
            (IRQ_SET_DATA_NONE, IRQ_SET_ACTION_TRIGGER) if set.count == 0 => {
                msix.disable();
                true
            }
            (IRQ_SET_DATA_NONE, IRQ_SET_ACTION_TRIGGER) => msix.fire(set.start, set.count),
            (IRQ_SET_DATA_NONE, IRQ_SET_ACTION_MASK) => msix.mask(set.start, set.count, true),
            (IRQ_SET_DATA_NONE, IRQ_SET_ACTION_UNMASK) => msix.mask(set.start, set.count, false),
            (IRQ_SET_DATA_BOOL, _) => {
                bools.len() as u64 == u64::from(set.count)
                    && (set.start..)
                        .zip(bools)
                        .filter(|(_, on)| **on != 0)
                        .all(|(vector, _)| match action {
                            IRQ_SET_ACTION_TRIGGER => msix.fire(vector, 1),
                            IRQ_SET_ACTION_MASK => msix.mask(vector, 1, true),
                            IRQ_SET_ACTION_UNMASK => msix.mask(vector, 1, false),
                            _ => false,
                        })
            }
            _ => false,
        };
        done.then(Vec::new).ok_or(Errno::INVAL)
    }

    /// Checks that an access lies inside its region.
    fn check(&self, access: &RegionAccess) -> Result<(), Errno> {
        let inside = access
            .offset
            .checked_add(u64::from(access.count))
            .is_some_and(|end| end <= self.region_size(access.region));
        if inside && access.count <= MAX_DATA {
            Ok(())
        } else {
            Err(Errno::INVAL)
        }
    }

    fn region_read(&self, payload: &[u8]) -> Reply {
        let (access, _) = take::<RegionAccess>(payload)?;
        self.check(&access)?;
        let mut reply = access.as_bytes().to_vec();
        let start = reply.len();
        reply.resize(start + access.count as usize, 0);
        let data = &mut reply[start..];
        match access.region {
            REGION_CONFIG => self
                .port
                .config_read(self.function, access.offset as u16, data),
            bar => self
                .port
                .bar_read(self.function, bar as u8, access.offset, data),
        }
        Ok(reply)
    }

    fn region_write(&self, payload: &[u8]) -> Reply {
        let (access, data) = take::<RegionAccess>(payload)?;
        self.check(&access)?;
        if data.len() != access.count as usize {
            return Err(Errno::INVAL);
        }
        match access.region {
            REGION_CONFIG => self
                .port
                .config_write(self.function, access.offset as u16, data),
            bar => self
                .port
                .bar_write(self.function, bar as u8, access.offset, data),
        }
        Ok(access.as_bytes().to_vec())
    }
}

/// The structure at the start of `payload`, and what follows it.
fn take<T: FromBytes + KnownLayout + Immutable>(payload: &[u8]) -> Result<(T, &[u8]), Errno> {
    T::read_from_prefix(payload).map_err(|_| Errno::INVAL)
}

fn version(payload: &[u8]) -> Reply {
    let (client, capabilities) = take::<Version>(payload)?;
    if client.major != 0 {
        return Err(Errno::INVAL);
    }
    log::debug!(
        "client speaks {}.{}: {}",
        client.major,
        client.minor,
        String::from_utf8_lossy(capabilities)
    );
    let ours = serde_json::json!({
        "capabilities": {
            "max_msg_fds": MAX_FDS,
            "max_data_xfer_size": MAX_DATA,
        }
    });
    let mut reply = Version { major: 0, minor: 0 }.as_bytes().to_vec();
    reply.extend_from_slice(ours.to_string().as_bytes());
    reply.push(0);
    Ok(reply)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "transport_tests.rs"]
mod transport_tests;
