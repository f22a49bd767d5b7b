// SPDX-License-Identifier: GPL-2.0

//! Access to a bound PCI device from objects that can outlive the binding, for users that sleep.
//!
//! `Devres::try_access` gives such access under RCU, where one must not sleep. Here a user enters, may do
//! anything, and leaves; revoking refuses new users and waits for those inside.

use super::completion::Completion;
use core::{
    cell::UnsafeCell,
    ops::Deref, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    devres::Devres,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc, //
    },
};

/// Added to the count of users when it is revoked.
const REVOKED: i64 = 1 << 32;

/// The device, its BAR, and what the driver keeps with them.
pub(crate) struct Hardware<T, const SIZE: usize> {
    // Dropped first: may own DMA memory of the device.
    data: T,
    mapped: Mapped<SIZE>,
}

/// The device and its BAR.
pub(crate) struct Mapped<const SIZE: usize> {
    bar: pci::Bar<'static, SIZE>,
    pdev: &'static pci::Device<Bound>,
}

impl<const SIZE: usize> Mapped<SIZE> {
    /// The registers.
    pub(crate) fn bar(&self) -> &pci::Bar<'_, SIZE> {
        &self.bar
    }

    /// The device, for DMA.
    pub(crate) fn device(&self) -> &Device<Bound> {
        self.pdev.as_ref()
    }
}

impl<T, const SIZE: usize> Hardware<T, SIZE> {
    /// What the driver keeps.
    pub(crate) fn data(&self) -> &T {
        &self.data
    }
}

impl<T, const SIZE: usize> Deref for Hardware<T, SIZE> {
    type Target = Mapped<SIZE>;

    fn deref(&self) -> &Mapped<SIZE> {
        &self.mapped
    }
}

/// See the module.
///
/// # Invariants
///
/// `hardware` is `Some` from `new` until `users` has had [`REVOKED`] added and has then been exactly
/// [`REVOKED`]; it is not changed before, and not looked at after.
#[pin_data]
pub(crate) struct Lease<T, const SIZE: usize> {
    users: Atomic<i64>,
    #[pin]
    left: Completion,
    revoked: Atomic<bool>,
    #[pin]
    gone: Completion,
    hardware: UnsafeCell<Option<Hardware<T, SIZE>>>,
}

// SAFETY: `T` is sent with the lease; the BAR and the device may be used from any thread.
unsafe impl<T: Send, const SIZE: usize> Send for Lease<T, SIZE> {}
// SAFETY: Users share `T` only by reference; one thread alone drops it (`revoke`).
unsafe impl<T: Send + Sync, const SIZE: usize> Sync for Lease<T, SIZE> {}

impl<T: Send + Sync + 'static, const SIZE: usize> Lease<T, SIZE> {
    /// Maps a BAR and makes the driver's part from it.
    ///
    /// The second value revokes the lease when dropped, at the latest when the device is unbound.
    pub(crate) fn new(
        pdev: &pci::Device<Bound>,
        bar: u32,
        name: &'static CStr,
        data: impl FnOnce(&Mapped<SIZE>) -> Result<T>,
    ) -> Result<(Arc<Self>, Devres<Revoker<T, SIZE>>)> {
        // SAFETY: The reference goes into `Mapped`, which hands it out for its own lifetime only, and
        // which is dropped before the device is unbound: by `revoke`, called by `Revoker`'s drop, which
        // devres guarantees; or in this function.
        let pdev: &'static pci::Device<Bound> = unsafe { &*core::ptr::from_ref(pdev) };
        let mapped = Mapped {
            bar: pdev.iomap_region_sized::<SIZE>(bar, name)?,
            pdev,
        };
        let data = data(&mapped)?;
        let lease = Arc::pin_init(
            // INVARIANT: No user yet, not revoked.
            pin_init!(Self {
                users: Atomic::new(0),
                left <- Completion::new(),
                revoked: Atomic::new(false),
                gone <- Completion::new(),
                hardware: UnsafeCell::new(Some(Hardware { data, mapped })),
            }),
            GFP_KERNEL,
        )?;
        let revoker = Devres::new(
            pdev.as_ref(),
            Ok::<_, Error>(Revoker {
                lease: lease.clone(),
            }),
        )?;
        Ok((lease, revoker))
    }

    /// Starts to use the hardware. `None` once revoked. From any context.
    pub(crate) fn enter(&self) -> Option<Guard<'_, T, SIZE>> {
        // ORDERING: Full, pairs with the one in `revoke`: either this user is counted there or it sees
        // the mark here.
        if self.users.fetch_add(1, Full) >= REVOKED {
            self.leave();
            return None;
        }
        // SAFETY: This user is counted and the lease was not revoked before, so by the type invariant
        // `hardware` is `Some` and does not change until `leave`.
        let hardware = unsafe { &*self.hardware.get() }.as_ref();
        match hardware {
            Some(hardware) => Some(Guard {
                lease: self,
                hardware,
            }),
            None => {
                self.leave();
                None
            }
        }
    }

    fn leave(&self) {
        if self.users.fetch_sub(1, Full) == REVOKED + 1 {
            self.left.complete_all();
        }
    }

    /// Refuses new users, waits for those inside, and drops the hardware. Sleeps. When it returns, all
    /// that is done, whoever did it.
    pub(crate) fn revoke(&self) {
        if self.revoked.xchg(true, Full) {
            self.gone.wait();
            return;
        }
        if self.users.fetch_add(REVOKED, Full) != 0 {
            self.left.wait();
        }
        // SAFETY: Revoked and no user left, so nobody looks at `hardware` any more, and `revoked` lets
        // one thread alone get here.
        drop(unsafe { &mut *self.hardware.get() }.take());
        self.gone.complete_all();
    }
}

/// Revokes a lease when dropped.
pub(crate) struct Revoker<T: Send + Sync + 'static, const SIZE: usize> {
    lease: Arc<Lease<T, SIZE>>,
}

impl<T: Send + Sync + 'static, const SIZE: usize> Drop for Revoker<T, SIZE> {
    fn drop(&mut self) {
        self.lease.revoke();
    }
}

/// A user inside.
pub(crate) struct Guard<'a, T: Send + Sync + 'static, const SIZE: usize> {
    lease: &'a Lease<T, SIZE>,
    hardware: &'a Hardware<T, SIZE>,
}

impl<T: Send + Sync + 'static, const SIZE: usize> Deref for Guard<'_, T, SIZE> {
    type Target = Hardware<T, SIZE>;

    fn deref(&self) -> &Hardware<T, SIZE> {
        self.hardware
    }
}

impl<T: Send + Sync + 'static, const SIZE: usize> Drop for Guard<'_, T, SIZE> {
    fn drop(&mut self) {
        self.lease.leave();
    }
}
