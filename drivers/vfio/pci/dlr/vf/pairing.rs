// SPDX-License-Identifier: GPL-2.0

//! Pairing of a data function with its management function ("Pairing" in `dlr-contract.rst`).
//!
//! A serial is a hint, and ATTEST is the proof: the driver draws a nonce, gives it to a management
//! function that carries the serial, and reads it back from the configuration space of the data
//! function itself.
//!
//! A [`Pair`] has an exclusive claim to the function of its management function. Probe creates it,
//! it belongs to the binding, and unbind drops it. When a management function was unbound and is
//! bound again, the next call that needs it creates a new pair, unless a session or a log of the
//! old one still exists.

use super::{
    identity::Identity,
    pair::Pair,
    proof::{
        access,
        Access,
        Missing, //
    },
};
use crate::{
    kext::{
        self,
        killable::lock_killable, //
    },
    mgmt::Function,
    proto::FnInfo,
    vfio::PciFunction, //
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

/// Time after which a search in probe begins no new round. An FLR takes 100 ms (PCIe 6.0, section
/// 6.6.2), and a function that leaves D3cold may read as all ones for a second (section 2.3.1).
const PATIENCE_AT_PROBE: Delta = Delta::from_millis(1200);
/// The same for a call of a user, which may hold other locks of VFIO. Any search ends after one
/// [`Budget`](crate::kext::budget::Budget), even if no candidate answers.
const PATIENCE_LATER: Delta = Delta::from_millis(200);
/// Time for which calls do not search again after a search that asked management functions in vain.
const BACKOFF: Delta = Delta::from_millis(1000);

/// The pairing of a bound data function.
#[pin_data]
pub(super) struct Pairing {
    identity: Identity,
    /// Capabilities and limits with which the function was registered with VFIO.
    registered: FnInfo,
    #[pin]
    current: Mutex<Current>,
}

struct Current {
    pair: Option<Pair>,
    /// Time and errno of the last search that failed.
    failed: Option<(Instant<Monotonic>, Error)>,
    /// The driver has logged that the management function came back as another device.
    told: bool,
    /// The last user closes the device, or has closed it: until the next open no call searches.
    closing: bool,
}

impl Current {
    /// Returns the handle of the pair, even if its management function is gone.
    fn function(&self) -> Option<Function> {
        Some(self.pair.as_ref()?.function.clone())
    }
}

impl Pairing {
    /// Pairs `pdev` in probe.
    ///
    /// # Errors
    ///
    /// `EPROBE_DEFER` if no management function proves to be its own, `ENODEV` if those with its
    /// serial belong to other NICs, `EINVAL` if its management function is in the same IOMMU group.
    /// Otherwise `ENOMEM` or the error of a command.
    pub(super) fn new(
        pdev: PciFunction<'_>,
        identity: Identity,
    ) -> Result<impl PinInit<Self, Error>> {
        let pair = match Pair::find(pdev, &identity, PATIENCE_AT_PROBE)? {
            Ok(pair) => pair,
            Err(missing) => {
                let error = missing.at_probe();
                kext::probe::say_why(pdev.as_ref(), error, missing.text());
                return Err(error);
            }
        };
        let registered = *pair.function.info();
        let current = Current {
            pair: Some(pair),
            failed: None,
            told: false,
            closing: false,
        };
        Ok(try_pin_init!(Self {
            identity,
            registered,
            current <- new_mutex!(current, "dlr_vf::Pairing::current"),
        }))
    }

    /// Returns the capabilities and limits with which the function was registered with VFIO.
    pub(super) fn registered(&self) -> &FnInfo {
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
    pub(super) fn function(
        &self,
        pdev: PciFunction<'_>,
        is_idle: impl FnOnce() -> bool,
    ) -> Result<Function> {
        let mut current = lock_killable(&self.current)?;
        let gone = current.pair.as_ref().map(|pair| pair.function.is_gone());
        let failed = current.failed.filter(|(at, _)| at.elapsed() < BACKOFF);
        match access(
            gone,
            current.closing,
            failed.map(|(_, error)| error),
            is_idle,
        ) {
            Access::Use => return current.function().ok_or(ENOTCONN),
            Access::Search => (),
            Access::Fail(error) => return Err(error),
        }
        // The old claim and the old device link must go first.
        current.pair = None;
        let pair = match Pair::find(pdev, &self.identity, PATIENCE_LATER) {
            Ok(Ok(pair)) => pair,
            // Without a candidate the search costs nothing, so that no pause is needed.
            Ok(Err(Missing::Unbound)) => return Err(ENOTCONN),
            _ => {
                current.failed = Some((Instant::now(), ENOTCONN));
                return Err(ENOTCONN);
            }
        };
        if !self.registered.is_interchangeable(pair.function.info()) {
            if !current.told {
                dev_err!(
                    pdev,
                    "the management function came back with other abilities or another model: bind the \
                     function again to use them\n"
                );
            }
            current.told = true;
            current.failed = Some((Instant::now(), ENODEV));
            return Err(ENODEV);
        }
        dev_info!(pdev, "paired with its management function again\n");
        current.told = false;
        current.failed = None;
        let function = pair.function.clone();
        current.pair = Some(pair);
        Ok(function)
    }

    /// Notes that the last user begins to close the device. Until [`Self::end_closing`] no call
    /// searches, and all clean-up shares one [`Budget`](crate::kext::budget::Budget). Sleeps
    /// while another thread searches.
    pub(super) fn begin_closing(&self) {
        let mut current = self.current.lock();
        current.closing = true;
        if let Some(function) = current.function() {
            function.begin_closing();
        }
    }

    /// Ends what [`Self::begin_closing`] began. Sleeps while another thread searches.
    pub(super) fn end_closing(&self) {
        let mut current = self.current.lock();
        current.closing = false;
        if let Some(function) = current.function() {
            function.end_closing();
        }
    }

    /// Drops the pair, at unbind.
    pub(super) fn release(&self) {
        let pair = self.current.lock().pair.take();
        drop(pair);
    }
}
