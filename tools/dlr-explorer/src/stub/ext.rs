// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Parts of the layer that are C behind a thin cover.

/// `ext::gfp`.
pub(crate) mod gfp {
    use crate::stub::alloc::Flags;

    pub(crate) const USER: Flags = Flags;
}

/// `ext::memcg`.
pub(crate) mod memcg {
    /// No cgroup.
    pub(crate) struct Charge;

    impl Charge {
        pub(crate) fn current() -> Self {
            Self
        }

        pub(crate) fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
            f()
        }
    }
}

/// `ext::signal`.
pub(crate) mod signal {}

/// `ext::killable`.
pub(crate) mod killable {
    use crate::stub::{
        error::Result,
        sync::{lock::mutex::MutexGuard, Mutex},
    };

    pub(crate) fn lock_killable<T>(mutex: &Mutex<T>) -> Result<MutexGuard<'_, T>> {
        Ok(mutex.lock())
    }
}

/// `ext::dma_pool`.
pub(crate) mod dma_pool {
    use crate::stub::{dma::Coherent, error::Result};

    /// `Slice`: its binding does not end.
    pub(crate) struct Slice<T>(Coherent<[T]>);

    impl<T> Slice<T> {
        pub(crate) fn new(memory: Coherent<[T]>) -> Self {
            Self(memory)
        }

        pub(crate) fn with<R>(&self, f: impl FnOnce(&Coherent<[T]>) -> R) -> Result<R> {
            Ok(f(&self.0))
        }
    }
}
