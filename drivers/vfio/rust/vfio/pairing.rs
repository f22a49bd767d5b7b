// SPDX-License-Identifier: GPL-2.0

//! Pairing of a function with its management function, whose driver executes commands for it.
//!
//! A [`Pair`] has an exclusive claim to the function at its management function. Probe creates it,
//! it belongs to the binding, and unbind drops it. When a management function was unbound and is
//! bound again, the next call that needs it creates a new pair, unless a session or a log of the
//! old one still exists.

mod access;
#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_pairings;

use super::function::PciFunction;
use crate::ext::{
    self,
    killable::lock_killable, //
};
use access::{
    access,
    Access, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex,
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

pub(crate) use access::Missing;

/// Time after which a search in probe begins no new round. An FLR takes 100 ms (PCIe 6.0, section
/// 6.6.2), and a function that leaves D3cold may read as all ones for a second (section 2.3.1).
const PATIENCE_AT_PROBE: Delta = Delta::from_millis(1200);
/// Time after which a search in a call of a user begins no new round. The call may hold other locks
/// of VFIO. Any search ends after one
/// [`Budget`](crate::ext::budget::Budget), even if no candidate answers.
const PATIENCE_LATER: Delta = Delta::from_millis(200);
/// Time for which calls do not search again after a search that asked management functions in vain.
const BACKOFF: Delta = Delta::from_millis(1000);

/// A function and its management function, which was proved to be the right one. Dropping it ends
/// the claim.
///
/// # Examples
///
/// From `drivers/vfio/pci/dlr/vf/pair.rs`:
///
/// ```ignore
/// impl pairing::Pair for Pair {
///     type Identity = Identity;
///     type Handle = Function;
///     type Abilities = FnInfo;
///
///     fn find(
///         pdev: PciFunction<'_>,
///         identity: &Identity,
///         patience: Delta,
///     ) -> Result<Result<Self, Missing>> {
///         // A function in D3 reads as all ones.
///         let _awake = pdev.awake()?;
///         // …
///     }
///
///     fn handle(&self) -> &Function {
///         &self.function
///     }
///
///     fn is_gone(&self) -> bool {
///         self.function.is_gone()
///     }
///
///     // …
///     fn can_continue(&self, registered: &FnInfo) -> bool {
///         registered.is_interchangeable(self.function.info())
///     }
///
///     // …
/// }
/// ```
pub(crate) trait Pair: Send + Sized + Unpin {
    /// The information of a function about its management function, for example in configuration
    /// space.
    type Identity: Send + Sync;

    /// Handle for commands. A clone of it fails with `ENOTCONN` once the management function is
    /// unbound.
    type Handle: Clone;

    /// Capabilities and limits of the function.
    type Abilities: Send + Sync;

    /// Searches for the management function of `pdev` and claims the function there. Begins no new
    /// round after `patience`, and takes no longer than one
    /// [`Budget`](crate::ext::budget::Budget).
    ///
    /// # Errors
    ///
    /// The outer error is for a failure of the driver or of the setup. The inner error is the
    /// reason why there is no pair.
    fn find(
        pdev: PciFunction<'_>,
        identity: &Self::Identity,
        patience: Delta,
    ) -> Result<Result<Self, Missing>>;

    /// Returns the handle, even if the management function is gone.
    fn handle(&self) -> &Self::Handle;

    /// Returns whether the management function is gone for good.
    fn is_gone(&self) -> bool;

    /// Returns the capabilities and limits that VFIO is told at registration.
    fn abilities(&self) -> Self::Abilities;

    /// Returns whether a function that was registered with VFIO as `registered` can continue with
    /// this pair.
    fn can_continue(&self, registered: &Self::Abilities) -> bool;

    /// Called when the last user begins to close the function. Until [`Self::end_closing`] all
    /// clean-up shares one [`Budget`](crate::ext::budget::Budget).
    fn begin_closing(&self);

    /// Ends what [`Self::begin_closing`] began.
    fn end_closing(&self);
}

/// The pairing of a bound function.
#[pin_data]
pub(crate) struct Pairing<P: Pair> {
    identity: P::Identity,
    /// Capabilities and limits with which the function was registered with VFIO.
    registered: P::Abilities,
    /// Held during a search after probe.
    #[pin]
    searching: Mutex<()>,
    /// Taken inside `searching`, and not held during a search.
    #[pin]
    current: Mutex<Current<P>>,
}

struct Current<P> {
    pair: Option<P>,
    /// Time and errno of the last search that failed.
    failed: Option<(Instant<Monotonic>, Error)>,
    /// The driver has logged that the management function came back as another device.
    told: bool,
    /// The last user closes the device, or has closed it: until the next open no call searches.
    closing: bool,
}

impl<P: Pair> Current<P> {
    /// Returns the handle of the pair, or `None` if the caller is to search for another one.
    fn function(&self, is_idle: impl FnOnce() -> bool) -> Result<Option<P::Handle>> {
        let gone = self.pair.as_ref().map(P::is_gone);
        let failed = self.failed.filter(|(at, _)| at.elapsed() < BACKOFF);
        match access(gone, self.closing, failed.map(|(_, error)| error), is_idle) {
            Access::Use => Ok(self.pair.as_ref().map(|pair| pair.handle().clone())),
            Access::Search => Ok(None),
            Access::Fail(error) => Err(error),
        }
    }
}

impl<P: Pair> Pairing<P> {
    /// Pairs `pdev` in probe.
    ///
    /// # Errors
    ///
    /// `EPROBE_DEFER` if no management function proves to be its own, `ENODEV` if those that were
    /// found belong to other devices. Otherwise those of [`Pair::find`].
    pub(crate) fn new(
        pdev: PciFunction<'_>,
        identity: P::Identity,
    ) -> Result<impl PinInit<Self, Error>> {
        let pair = match P::find(pdev, &identity, PATIENCE_AT_PROBE)? {
            Ok(pair) => pair,
            Err(missing) => {
                let error = missing.at_probe();
                ext::probe::say_why(pdev.as_ref(), error, missing.text());
                return Err(error);
            }
        };
        let registered = pair.abilities();
        let current = Current {
            pair: Some(pair),
            failed: None,
            told: false,
            closing: false,
        };
        Ok(try_pin_init!(Self {
            identity,
            registered,
            searching <- new_mutex!((), "vfio::Pairing::searching"),
            current <- new_mutex!(current, "vfio::Pairing::current"),
        }))
    }

    /// Returns the capabilities and limits with which the function was registered with VFIO.
    pub(crate) fn registered(&self) -> &P::Abilities {
        &self.registered
    }

    /// Returns the function's handle. If its management function is gone, searches for the one that
    /// has taken its place, provided that `is_idle` returns `true`: no session and no log of the
    /// old one exists. Sleeps; the caller must not hold `memory_lock`.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the management function is gone; during a close there is no search. `ENODEV`
    /// if a management function with other capabilities or another model has come back. `EINTR` if
    /// a fatal signal came while another thread searched.
    pub(crate) fn function(
        &self,
        pdev: PciFunction<'_>,
        is_idle: impl Fn() -> bool,
    ) -> Result<P::Handle> {
        if let Some(function) = lock_killable(&self.current)?.function(&is_idle)? {
            return Ok(function);
        }
        let _searching = lock_killable(&self.searching)?;
        let mut current = self.current.lock();
        // Another thread may have found one meanwhile.
        if let Some(function) = current.function(is_idle)? {
            return Ok(function);
        }
        // Drop the old claim and the old device link first.
        let old = current.pair.take();
        drop(current);
        drop(old);
        let found = P::find(pdev, &self.identity, PATIENCE_LATER);
        let mut current = self.current.lock();
        let pair = match found {
            Ok(Ok(pair)) => pair,
            // Without a candidate the search takes no time, so no pause is needed.
            Ok(Err(Missing::Unbound)) => return Err(ENOTCONN),
            _ => {
                current.failed = Some((Instant::now(), ENOTCONN));
                return Err(ENOTCONN);
            }
        };
        if !pair.can_continue(&self.registered) {
            if !current.told {
                dev_err!(
                    pdev,
                    "the management function came back with other abilities or another model: bind the \
                     function again to use them\n"
                );
            }
            current.told = true;
            current.failed = Some((Instant::now(), ENODEV));
            // The pair is dropped after the lock is released, as the old one was.
            drop(current);
            return Err(ENODEV);
        }
        dev_info!(pdev, "paired with its management function again\n");
        current.told = false;
        current.failed = None;
        let handle = pair.handle().clone();
        current.pair = Some(pair);
        Ok(handle)
    }

    /// Returns the function's handle like [`Self::function`], but never searches, and does not wait
    /// for a thread that does.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the management function is gone, also if another has taken its place and no
    /// call of [`Self::function`] has found it yet. `ENODEV` for a while after that has found one
    /// with other capabilities or another model.
    pub(crate) fn paired(&self) -> Result<P::Handle> {
        // While it is not idle there is no search.
        self.current.lock().function(|| false)?.ok_or(ENOTCONN)
    }

    /// Notes that the last user begins to close the device. Until [`Self::end_closing`] no call
    /// searches, and all clean-up shares one [`Budget`](crate::ext::budget::Budget). Sleeps
    /// while another thread searches.
    pub(crate) fn begin_closing(&self) {
        let _searching = self.searching.lock();
        let mut current = self.current.lock();
        current.closing = true;
        if let Some(pair) = &current.pair {
            pair.begin_closing();
        }
    }

    /// Ends what [`Self::begin_closing`] began. Sleeps while another thread searches.
    pub(crate) fn end_closing(&self) {
        let _searching = self.searching.lock();
        let mut current = self.current.lock();
        current.closing = false;
        if let Some(pair) = &current.pair {
            pair.end_closing();
        }
    }

    /// Drops the pair, at unbind. Sleeps while another thread searches, so that no pair is found
    /// afterwards.
    pub(crate) fn release(&self) {
        let _searching = self.searching.lock();
        let pair = self.current.lock().pair.take();
        drop(pair);
    }
}
