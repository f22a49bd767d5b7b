// SPDX-License-Identifier: GPL-2.0

//! A registry of services that drivers offer to the drivers of other devices, such as a PF to its
//! VFs.
//!
//! The driver of a VF cannot use the drvdata of the PF: the PF may have another driver or none, and
//! may be unbound at any time. Instead the driver of the PF publishes a service while it is bound.
//! The driver of the VF gets a reference to it, which outlives the binding of the PF. The methods
//! of the service must fail once its device is unbound, for example by a
//! [`BoundCell`](super::bound_cell).

use super::{
    gfp::USER,
    global::Global, //
};
use core::ops::Deref;
use kernel::{
    device::Device,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        LockClassKey, //
    },
};

/// The published services of type `S`. It is the type of a `static`.
pub(crate) struct Registry<S: Send + Sync + 'static>(Global<KVec<Entry<S>>>);

/// A published service and its device.
struct Entry<S> {
    device: ARef<Device>,
    service: Arc<S>,
}

impl<S: Send + Sync + 'static> Registry<S> {
    /// Creates a registry that is not initialised.
    pub(crate) const fn new() -> Self {
        Self(Global::new())
    }

    /// Initialises the registry, before the first driver that uses it is registered. The name and
    /// the key (`kernel::static_lock_class!()`) are for lockdep.
    ///
    /// # Errors
    ///
    /// `EBUSY` on a second call.
    pub(crate) fn init(
        &'static self,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> Result {
        self.0.init(KVec::new(), name, key)
    }

    /// Adds the service of `device` to the registry until the result is dropped or withdrawn.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and `ENXIO` before [`Self::init`].
    pub(crate) fn publish(&'static self, device: &Device, service: Arc<S>) -> Result<Published<S>> {
        let entry = Entry {
            device: device.into(),
            service: service.clone(),
        };
        self.0.lock()?.push(entry, GFP_KERNEL)?;
        Ok(Published {
            registry: self,
            service,
        })
    }

    /// Returns the service of `device`, if one is published.
    ///
    /// # Errors
    ///
    /// `ENXIO` before [`Self::init`].
    pub(crate) fn of(&'static self, device: &Device) -> Result<Option<Arc<S>>> {
        let services = self.0.lock()?;
        let mut entries = services.iter();
        let entry = entries.find(|entry| core::ptr::eq(&*entry.device, device));
        Ok(entry.map(|entry| entry.service.clone()))
    }

    /// Returns the number of services for which `matches` is true. `matches` runs with the lock of
    /// the registry held.
    ///
    /// # Errors
    ///
    /// `ENXIO` before [`Self::init`].
    pub(crate) fn count(&'static self, matches: impl Fn(&S) -> bool) -> Result<usize> {
        let services = self.0.lock()?;
        Ok(services
            .iter()
            .filter(|entry| matches(&entry.service))
            .count())
    }

    /// Returns all services for which `matches` is true. `matches` runs with the lock of the
    /// registry held.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and `ENXIO` before [`Self::init`].
    pub(crate) fn matching(&'static self, matches: impl Fn(&S) -> bool) -> Result<KVec<Arc<S>>> {
        let mut found = KVec::new();
        for entry in self.0.lock()?.iter() {
            if matches(&entry.service) {
                found.push(entry.service.clone(), USER)?;
            }
        }
        Ok(found)
    }
}

/// A published service, withdrawn when this is dropped.
pub(crate) struct Published<S: Send + Sync + 'static> {
    registry: &'static Registry<S>,
    service: Arc<S>,
}

impl<S: Send + Sync + 'static> Published<S> {
    /// Removes the service from the registry. A second call has no effect.
    pub(crate) fn withdraw(&self) {
        let Ok(mut services) = self.registry.0.lock() else {
            return;
        };
        let is_ours = |entry: &Entry<S>| Arc::ptr_eq(&entry.service, &self.service);
        if let Some(index) = services.iter().position(is_ours) {
            let _ = services.remove(index);
        }
        if services.is_empty() {
            // Free the memory here: a `static` is never dropped.
            *services = KVec::new();
        }
    }
}

impl<S: Send + Sync + 'static> Deref for Published<S> {
    type Target = Arc<S>;

    fn deref(&self) -> &Arc<S> {
        &self.service
    }
}

impl<S: Send + Sync + 'static> Drop for Published<S> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[kunit_tests(ext_registry)]
mod tests {
    use super::{
        super::testing::DmaDevice,
        *, //
    };

    #[test]
    fn a_service_is_found_while_it_is_published() -> Result {
        static NUMBERS: Registry<u32> = Registry::new();
        // The suite may run a second time.
        let _ = NUMBERS.init(c"vfio_kunit", kernel::static_lock_class!());
        let physical = DmaDevice::new(c"vfio-kunit-registry")?;
        let other = DmaDevice::new(c"vfio-kunit-registry-other")?;
        let first = NUMBERS.publish(physical.bound(), Arc::new(1, GFP_KERNEL)?)?;
        let second = NUMBERS.publish(other.bound(), Arc::new(2, GFP_KERNEL)?)?;
        let found = NUMBERS.of(physical.bound())?;
        assert_eq!(found.as_deref(), Some(&1));
        assert_eq!(NUMBERS.of(other.bound())?.as_deref(), Some(&2));
        assert_eq!(NUMBERS.matching(|n| *n > 1)?.len(), 1);
        assert_eq!(NUMBERS.count(|_| true)?, 2);
        first.withdraw();
        first.withdraw();
        assert!(NUMBERS.of(physical.bound())?.is_none());
        drop((first, second));
        assert!(NUMBERS.matching(|_| true)?.is_empty());
        // A reference that was taken before remains valid.
        assert_eq!(found.as_deref(), Some(&1));
        Ok(())
    }

    #[test]
    fn before_init_nothing_is_found() {
        static NEVER: Registry<u32> = Registry::new();
        assert_eq!(NEVER.matching(|_| true).err(), Some(ENXIO));
    }
}
