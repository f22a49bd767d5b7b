// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The interrupt of the receive queue: the VMM connects it, and after a move it has to come.

use std::{
    io::ErrorKind,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use vmm_sys_util::eventfd::{EventFd, EFD_NONBLOCK};

use crate::device::Device;

/// The MSI-X vector.
pub const VECTOR: u16 = 0;

/// Time between two looks at the event.
const PACE: Duration = Duration::from_millis(1);

/// Sets the vector up. A VMM that gives a guest its interrupts back does it while the device is in
/// RESUMING. The device keeps its own reference to the eventfd.
///
/// # Errors
///
/// The function refuses.
pub fn connect(device: &Device) -> Result<EventFd> {
    let event = EventFd::new(EFD_NONBLOCK).context("eventfd")?;
    device.enable_msix(&event).context("SET_IRQS")?;
    Ok(event)
}

/// Does the interrupt come within `limit`?
///
/// # Errors
///
/// The event cannot be read.
pub(super) fn comes(event: &EventFd, limit: Duration) -> Result<bool> {
    let end = Instant::now() + limit;
    loop {
        match event.read() {
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e).context("eventfd"),
        }
        if Instant::now() > end {
            return Ok(false);
        }
        thread::sleep(PACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_interrupt_comes() -> Result<()> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        assert!(!comes(&event, Duration::from_millis(5))?);
        event.write(1)?;
        assert!(comes(&event, Duration::ZERO)?);
        assert!(!comes(&event, Duration::ZERO)?, "it is taken");
        Ok(())
    }
}
