// SPDX-License-Identifier: GPL-2.0

//! Pairing of a data function with its management function ("Pairing" in `dlr-contract.rst`).
//!
//! A serial is a hint, and ATTEST is the proof: the driver draws a nonce, gives it to a management
//! function that carries the serial, and reads it back from the configuration space of the data
//! function itself. The layer's [`Pairing`](pairing::Pairing) keeps the pair and decides when to
//! search.

use super::{
    identity::Identity,
    proof::{
        can_be_nonce,
        judge,
        may_own,
        Pf,
        Verdict, //
    },
};
use crate::{
    ext::{
        self,
        budget::Budget,
        device_link::DeviceLink, //
    },
    mgmt::{
        self,
        Claim,
        Function,
        Service, //
    },
    proto::FnInfo,
    vfio::{
        pairing::{
            self,
            Missing, //
        },
        PciFunction, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// Pause between two rounds of the search.
const PAUSE: Delta = Delta::from_millis(10);

/// A pair: a data function and the function of a management function that was proved to be the
/// same.
pub(super) struct Pair {
    function: Function,
    /// Makes the core suspend and shut down the data function before the management function.
    _after_management: DeviceLink,
    _claim: Claim,
}

impl pairing::Pair for Pair {
    type Identity = Identity;
    type Handle = Function;
    type Abilities = FnInfo;

    /// Finds the management function of `pdev` and claims its function. Asks all candidates, in
    /// rounds; begins no new one after `patience`. All rounds together wait for the candidates for
    /// one [`Budget`] at most.
    ///
    /// # Errors
    ///
    /// The outer error is for a failure of the driver (`ENOMEM`) or of the setup (`EINVAL`: the
    /// same IOMMU group). The inner error is the reason why there is no pair.
    fn find(
        pdev: PciFunction<'_>,
        identity: &Identity,
        patience: Delta,
    ) -> Result<Result<Self, Missing>> {
        // A function in D3 reads as all ones.
        let _awake = pdev.awake()?;
        let begin = Instant::<Monotonic>::now();
        let budget = Budget::new();
        loop {
            // Read the clock before the round, so that one round follows the deadline.
            let late = begin.elapsed() > patience || budget.is_over();
            match Self::ask_all(pdev, identity, &budget)? {
                Err(Missing::Unproved) if !late => fsleep(PAUSE),
                result => return Ok(result),
            }
        }
    }

    fn handle(&self) -> &Function {
        &self.function
    }

    fn is_gone(&self) -> bool {
        self.function.is_gone()
    }

    fn abilities(&self) -> FnInfo {
        *self.function.info()
    }

    fn can_continue(&self, registered: &FnInfo) -> bool {
        registered.is_interchangeable(self.function.info())
    }

    fn begin_closing(&self) {
        self.function.begin_closing();
    }

    fn end_closing(&self) {
        self.function.end_closing();
    }
}

impl Pair {
    /// Asks each management function that may own `pdev`, within `budget`.
    fn ask_all(
        pdev: PciFunction<'_>,
        identity: &Identity,
        budget: &Budget,
    ) -> Result<Result<Self, Missing>> {
        let mut missing = Missing::Unbound;
        let candidates = mgmt::candidates(identity.serial)?;
        let mut left = candidates.len();
        for service in candidates {
            // A candidate that does not answer must leave time for the others.
            let part = budget.part(left);
            left = left.saturating_sub(1);
            if !may_own(pf_of(pdev, &service)) {
                continue;
            }
            match Self::ask(pdev, identity, &service, &part) {
                Ok(Ok(pair)) => return Ok(Ok(pair)),
                // Once one management function may still prove to be the right one, keep searching.
                Ok(Err(why)) if missing != Missing::Unproved => missing = why,
                Ok(Err(_)) => (),
                // The management function was unbound meanwhile.
                Err(error) if error == ENOTCONN => (),
                // This management function does not answer now. It may later, and another one may
                // be the right one.
                Err(error) if error == EIO || error == ETIMEDOUT => missing = Missing::Unproved,
                Err(error) => return Err(error),
            }
        }
        Ok(Err(missing))
    }

    /// Asks the management function of `service` by ATTEST whether `pdev` is its function.
    fn ask(
        pdev: PciFunction<'_>,
        identity: &Identity,
        service: &Arc<Service>,
        budget: &Budget,
    ) -> Result<Result<Self, Missing>> {
        // The claim also keeps two data functions from using ATTEST on one function at a time.
        let (function, claim) = match Function::claim(service, identity.number) {
            Ok(claimed) => claimed,
            Err(error) if error == EBUSY => return Ok(Err(Missing::Unproved)),
            Err(error) if error == ENODEV => return Ok(Err(Missing::NotOurs)),
            Err(error) => return Err(error),
        };
        let before = identity.nonce(pdev);
        let mut nonce = ext::random::random_u64();
        while !can_be_nonce(nonce, before) {
            nonce = ext::random::random_u64();
        }
        function.attest(nonce, budget)?;
        let verdict = judge(before, nonce, identity.nonce(pdev));
        // Ignore an error: the layer shows zeros to the user in place of these words.
        let _ = function.attest(0, budget);
        match verdict {
            Verdict::Same => (),
            Verdict::NotYet => return Ok(Err(Missing::Unproved)),
            Verdict::Other => return Ok(Err(Missing::NotOurs)),
        }
        if service.shares_group_with(pdev.as_ref())? {
            dev_err!(
                pdev,
                "its management function is in the same IOMMU group, so it cannot be given to a user \
                 alone: put them in slots of their own\n"
            );
            return Err(EINVAL);
        }
        Ok(Ok(Self {
            function,
            _after_management: service.order_after(pdev.as_ref())?,
            _claim: claim,
        }))
    }
}

/// Returns the PF of `pdev`. `service` is the management function in question.
fn pf_of(pdev: PciFunction<'_>, service: &Service) -> Pf {
    match pdev.virtual_function() {
        None => Pf::None,
        Some(vf) if Identity::is_management(vf.physical) => Pf::Management {
            // A management function that is unbound meanwhile is not asked.
            asked: service.is_of(vf.physical).unwrap_or(false),
        },
        Some(_) => Pf::Other,
    }
}
