// SPDX-License-Identifier: GPL-2.0

//! Tests of the pairing of a function whose management function comes and goes.

use super::*;
use crate::ext::testing::FakeFunction;
use kernel::sync::{
    atomic::{
        Atomic,
        Relaxed, //
    },
    Arc, //
};

/// What the pairs of a test share.
#[pin_data]
struct Bench {
    /// Number of searches.
    searches: Atomic<u32>,
    /// The management function of all pairs is gone.
    gone: Atomic<bool>,
    /// The pairing that a search looks at from within.
    #[pin]
    watched: Mutex<Option<Arc<Pairing<FakePair>>>>,
    /// The answer of [`Pairing::paired`] during the last search, or `None` if it would wait.
    #[pin]
    during: Mutex<Option<Result<u32>>>,
}

impl Bench {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                searches: Atomic::new(0),
                gone: Atomic::new(false),
                watched <- new_mutex!(None, "vfio_kunit_watched"),
                during <- new_mutex!(None, "vfio_kunit_during"),
            }),
            GFP_KERNEL,
        )
    }
}

/// The pair of the search with this number.
struct FakePair(Arc<Bench>, u32);

impl Pair for FakePair {
    type Identity = Arc<Bench>;
    type Handle = u32;
    type Abilities = ();

    fn find(
        _pdev: PciFunction<'_>,
        bench: &Arc<Bench>,
        _patience: Delta,
    ) -> Result<Result<Self, Missing>> {
        if let Some(pairing) = &*bench.watched.lock() {
            let is_free = pairing.current.try_lock().is_some();
            *bench.during.lock() = is_free.then(|| pairing.paired());
        }
        bench.gone.store(false, Relaxed);
        let number = bench.searches.fetch_add(1, Relaxed);
        Ok(Ok(Self(bench.clone(), number)))
    }

    fn handle(&self) -> &u32 {
        &self.1
    }

    fn is_gone(&self) -> bool {
        self.0.gone.load(Relaxed)
    }

    fn abilities(&self) {}

    fn can_continue(&self, (): &()) -> bool {
        true
    }

    fn begin_closing(&self) {}

    fn end_closing(&self) {}
}

#[kunit_tests(vfio_pairing_life)]
mod tests {
    use super::*;

    /// MIG_DATA_SIZE neither searches nor drops the old claim, and it does not wait for a search.
    #[test]
    fn a_query_never_searches() -> Result {
        let function = FakeFunction::new()?;
        let pdev = PciFunction::of_test(&function);
        let bench = Bench::new()?;
        let pairing = Pairing::<FakePair>::new(pdev, bench.clone())?;
        let pairing = Arc::pin_init(pairing, GFP_KERNEL)?;
        assert_eq!(pairing.paired(), Ok(0));
        bench.gone.store(true, Relaxed);
        for _ in 0..2 {
            assert_eq!(pairing.paired(), Err(ENOTCONN));
            assert!(pairing.current.lock().pair.is_some());
        }
        assert_eq!(bench.searches.load(Relaxed), 1);
        // There is a session of the old one.
        assert_eq!(pairing.function(pdev, || false), Err(ENOTCONN));
        assert_eq!(bench.searches.load(Relaxed), 1);
        *bench.watched.lock() = Some(pairing.clone());
        assert_eq!(pairing.function(pdev, || true), Ok(1));
        *bench.watched.lock() = None;
        assert_eq!(*bench.during.lock(), Some(Err(ENOTCONN)));
        assert_eq!(pairing.paired(), Ok(1));
        assert_eq!(bench.searches.load(Relaxed), 2);
        Ok(())
    }
}
