// SPDX-License-Identifier: GPL-2.0

//! Access to a bound PCI device for users that sleep, from objects that can outlive the binding.
//!
//! `Devres::try_access` gives such access under RCU, where the user must not sleep. A user of a
//! [`BoundCell`] enters it, may sleep, and leaves it. [`BoundCell::revoke`] refuses new users and
//! waits for those inside. [`BoundCell::pause`] does the same until [`BoundCell::unpause`]; it is
//! for a reset of the device, because an access to a function in reset is an SError on some
//! machines.

mod users;

use self::users::Users;
use super::{
    completion::Completion,
    dma_pool::{
        Pool,
        Slice, //
    },
};
use core::{
    cell::UnsafeCell,
    ops::Deref, //
};
use kernel::{
    alloc::Flags,
    device::{
        Bound,
        Device, //
    },
    devres, pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    },
};

/// The device, its BAR, and what the driver keeps with them.
pub(crate) struct Hardware<T, const SIZE: usize> {
    // Declared and so dropped first: it may own DMA memory of the device.
    data: T,
    mapped: Mapped<SIZE>,
}

/// The device and its BAR.
pub(crate) struct Mapped<const SIZE: usize> {
    bar: pci::Bar<'static, SIZE>,
    pdev: &'static pci::Device<Bound>,
}

impl<const SIZE: usize> Mapped<SIZE> {
    /// Returns the registers.
    pub(crate) fn bar(&self) -> &pci::Bar<'_, SIZE> {
        &self.bar
    }

    /// Returns the device, for messages. It is not a `Device<Bound>`, see the SAFETY comment in
    /// [`BoundCell::new`].
    pub(crate) fn device(&self) -> &Device {
        self.pdev.as_ref()
    }
}

impl<T, const SIZE: usize> Hardware<T, SIZE> {
    /// Returns the driver's data.
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

/// The BAR of a device and the driver's data, usable until the device is unbound.
///
/// # Invariants
///
/// `hardware` is `Some` and does not change from `new` until `users` is revoked and has no user
/// left. After that only `revoke_after` accesses it.
#[pin_data]
pub(crate) struct BoundCell<T, const SIZE: usize> {
    #[pin]
    users: Users,
    revoked: Atomic<bool>,
    #[pin]
    gone: Completion,
    hardware: UnsafeCell<Option<Hardware<T, SIZE>>>,
    /// Memory that users have allocated with [`Guard::alloc`].
    pool: Arc<Pool>,
}

// SAFETY: `T` is sent with the bound cell; the BAR and the device may be used from any thread.
unsafe impl<T: Send, const SIZE: usize> Send for BoundCell<T, SIZE> {}
// SAFETY: Users share `T` only by reference; one thread alone drops it (`revoke`).
unsafe impl<T: Send + Sync, const SIZE: usize> Sync for BoundCell<T, SIZE> {}

impl<T: Send + Sync + 'static, const SIZE: usize> BoundCell<T, SIZE> {
    /// Maps a BAR and makes the driver's data with `data`. Devres revokes the bound cell when the
    /// device is unbound, after it has released what is registered later.
    ///
    /// # Errors
    ///
    /// Those of `data` and of mapping the BAR; `ENOMEM`.
    pub(crate) fn new(
        pdev: &pci::Device<Bound>,
        bar: u32,
        name: &'static CStr,
        data: impl FnOnce(&Mapped<SIZE>, &Device<Bound>) -> Result<T>,
    ) -> Result<Arc<Self>> {
        // SAFETY: The reference goes into `Mapped`, which is dropped before the device is unbound:
        // by `revoke`, which devres calls when it drops `Revoker`, or on failure in this function.
        // `Mapped` gives the device to users without `Bound`: a user may run while devres releases
        // newer resources of the device, which `Bound` would claim to exist.
        let pdev: &'static pci::Device<Bound> = unsafe { &*core::ptr::from_ref(pdev) };
        let mapped = Mapped {
            bar: pdev.iomap_region_sized::<SIZE>(bar, name)?,
            pdev,
        };
        let data = data(&mapped, pdev.as_ref())?;
        let cell = Arc::pin_init(
            // INVARIANT: No user yet, not revoked.
            try_pin_init!(Self {
                users <- Users::new(),
                revoked: Atomic::new(false),
                gone <- Completion::new(),
                hardware: UnsafeCell::new(Some(Hardware { data, mapped })),
                // SAFETY: `revoke` closes the pool, and devres calls `revoke` before the device is
                // unbound. Only users of this bound cell allocate from the pool, and only for this
                // device.
                pool: unsafe { Pool::new()? },
            }? Error),
            GFP_KERNEL,
        )?;
        let revoker = Revoker(cell.clone());
        devres::register::<_, Error>(pdev.as_ref(), Ok(revoker), GFP_KERNEL)?;
        Ok(cell)
    }

    /// Enters as a user of the hardware. Returns `None` once revoked, while paused, or with 2^31 -
    /// 1 users inside. Can be called from any context.
    pub(crate) fn enter(&self) -> Option<Guard<'_, T, SIZE>> {
        self.users.enter().then(|| self.guard()).flatten()
    }

    /// Like [`Self::enter`], but also while paused. For the bus callbacks of the device, one of
    /// which called [`Self::pause`].
    pub(crate) fn enter_in_pause(&self) -> Option<Guard<'_, T, SIZE>> {
        self.users.enter_in_pause().then(|| self.guard()).flatten()
    }

    /// Makes the guard of a user that `users` has just counted.
    fn guard(&self) -> Option<Guard<'_, T, SIZE>> {
        // SAFETY: This user is counted and the bound cell was not revoked before. So by the type
        // invariant `hardware` is `Some` and does not change until the user leaves.
        let hardware = unsafe { &*self.hardware.get() }.as_ref();
        match hardware {
            Some(hardware) => Some(Guard {
                cell: self,
                hardware,
            }),
            None => {
                self.users.leave();
                None
            }
        }
    }

    /// Refuses new users until [`Self::unpause`], and waits for those inside. Sleeps. When this
    /// returns, the returned guard is the only user. After that only [`Self::enter_in_pause`] lets
    /// others in.
    ///
    /// The caller must have no guard, for which this would wait for ever. Returns `None` once
    /// revoked, and while paused.
    pub(crate) fn pause(&self) -> Option<Guard<'_, T, SIZE>> {
        let guard = self.enter_in_pause()?;
        self.users.pause().then_some(guard)
    }

    /// Returns the number of allocations of users that are not freed.
    pub(crate) fn pieces_of_memory(&self) -> usize {
        self.pool.count()
    }

    /// Ends a pause: [`Self::enter`] succeeds again.
    pub(crate) fn unpause(&self) {
        self.users.unpause();
    }

    /// Refuses new users, waits for those inside, and drops the hardware. Sleeps. A call that comes
    /// second waits until the first is done.
    pub(crate) fn revoke(&self) {
        self.revoke_after(|_| ());
    }

    /// Like [`Self::revoke`], but runs `last` on the hardware when no user is left. Does not run it
    /// if the bound cell was revoked before.
    pub(crate) fn revoke_after(&self, last: impl FnOnce(&Hardware<T, SIZE>)) {
        if self.revoked.xchg(true, Full) {
            self.gone.wait();
            return;
        }
        self.users.revoke();
        // SAFETY: The bound cell is revoked and has no user left, so that no user reads `hardware`
        // any more. `revoked` lets only one thread get here.
        let hardware = unsafe { &mut *self.hardware.get() }.take();
        if let Some(hardware) = &hardware {
            last(hardware);
        }
        drop(hardware);
        self.pool.close();
        self.gone.complete_all();
    }
}

/// Revokes a bound cell when dropped. Only devres owns one.
struct Revoker<T: Send + Sync + 'static, const SIZE: usize>(Arc<BoundCell<T, SIZE>>);

impl<T: Send + Sync + 'static, const SIZE: usize> Drop for Revoker<T, SIZE> {
    fn drop(&mut self) {
        self.0.revoke();
    }
}

/// An access of one user to a [`BoundCell`], which ends when this is dropped.
pub(crate) struct Guard<'a, T: Send + Sync + 'static, const SIZE: usize> {
    cell: &'a BoundCell<T, SIZE>,
    hardware: &'a Hardware<T, SIZE>,
}

impl<T: Send + Sync + 'static, const SIZE: usize> Guard<'_, T, SIZE> {
    /// Allocates coherent DMA memory for `len` values. Revoking the bound cell frees it; the
    /// [`Slice`] then returns `ENOTCONN`. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a length of 0, `ENOMEM`.
    pub(crate) fn alloc<U>(&self, len: usize, flags: Flags) -> Result<Slice<U>>
    where
        U: AsBytes + FromBytes + Send + 'static,
    {
        // `revoke` waits for this user, and unbinding the device waits for `revoke`.
        self.cell.pool.alloc(self.mapped.pdev.as_ref(), len, flags)
    }
}

impl<T: Send + Sync + 'static, const SIZE: usize> Deref for Guard<'_, T, SIZE> {
    type Target = Hardware<T, SIZE>;

    fn deref(&self) -> &Hardware<T, SIZE> {
        self.hardware
    }
}

impl<T: Send + Sync + 'static, const SIZE: usize> Drop for Guard<'_, T, SIZE> {
    fn drop(&mut self) {
        self.cell.users.leave();
    }
}

// A user must not get a `Device<Bound>`: with it safe code could use resources that devres has
// already released.
super::assert_not_impl!(Guard<'static, (), 1>: AsRef<Device<Bound>>);
super::assert_not_impl!(Mapped<1>: AsRef<Device<Bound>>);
super::assert_not_impl!(Mapped<1>: Deref<Target = pci::Device<Bound>>);
const _: fn(&Mapped<1>) -> &Device = Mapped::<1>::device;
