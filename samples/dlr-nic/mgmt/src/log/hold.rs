// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Hold-back of DMA at a full ring (R6): how long, no I/O.
//!
//! A function asks before it begins work, with the number of entries that the work may cost. So
//! nothing is half done while it waits, no lock is held, and neither POSTED nor SYNC notices.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(super) struct Hold {
    /// `hold_us` of LOG_START.
    limit: Duration,
    /// When the hold began, and the free slots that end it.
    held: Option<(Instant, u32)>,
    /// The time is up: until the driver has made so much room work goes on, up to LOST.
    spent: Option<u32>,
}

/// What a function that asks is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Work goes on.
    Go,
    /// The hold begins now and ends then.
    Begin(Instant),
    /// It goes on until then.
    Wait(Instant),
    /// The time is up, and work goes on without room.
    Over,
}

impl Hold {
    /// Work is held back for `limit` at most; zero for not at all.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            held: None,
            spent: None,
        }
    }

    /// Work that needs `need` free slots is to begin, and `free` are there. `clock` tells the time:
    /// it is asked only where they are too few, as each frame comes here.
    pub(super) fn ask(&mut self, need: u32, free: u32, clock: impl FnOnce() -> Instant) -> Answer {
        if free >= need {
            self.held = None;
            self.spent = None;
            return Answer::Go;
        }
        if self.limit.is_zero() || self.spent.is_some() {
            return Answer::Go;
        }
        let now = clock();
        let (since, most) = self.held.unwrap_or((now, need));
        let until = since + self.limit;
        if now >= until {
            self.held = None;
            self.spent = Some(most.max(need));
            return Answer::Over;
        }
        let begins = self.held.is_none();
        self.held = Some((since, most.max(need)));
        if begins {
            Answer::Begin(until)
        } else {
            Answer::Wait(until)
        }
    }

    /// No work is held back, and none goes on without room.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_none() && self.spent.is_none()
    }

    /// The driver has made room. True when that ends a hold.
    pub(super) fn room(&mut self, free: u32) -> bool {
        if self.spent.is_some_and(|need| free >= need) {
            self.spent = None;
        }
        match self.held {
            Some((_, need)) if free >= need => {
                self.held = None;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_micros(1000);

    #[test]
    fn it_begins_once_and_ends_in_time_or_with_room() {
        let begin = Instant::now();
        let at = |us| begin + Duration::from_micros(us);
        let mut hold = Hold::new(LIMIT);
        assert_eq!(
            hold.ask(4, 4, || panic!("there is room: no clock is read")),
            Answer::Go
        );
        assert_eq!(hold.ask(4, 3, || begin), Answer::Begin(at(1000)));
        assert_eq!(hold.ask(8, 3, || at(400)), Answer::Wait(at(1000)));
        assert!(!hold.room(7), "not enough for all that wait");
        assert!(hold.room(8));
        assert_eq!(hold.ask(8, 8, || at(500)), Answer::Go);
        assert_eq!(hold.ask(4, 3, || at(600)), Answer::Begin(at(1600)));
        assert_eq!(hold.ask(4, 3, || at(1600)), Answer::Over);
        assert_eq!(
            hold.ask(4, 2, || at(1601)),
            Answer::Go,
            "spent until there is room"
        );
        assert_eq!(hold.ask(4, 4, || at(1700)), Answer::Go);
        assert_eq!(hold.ask(4, 3, || at(1800)), Answer::Begin(at(2800)));
    }

    #[test]
    fn without_a_limit_nothing_is_held() {
        let mut hold = Hold::new(Duration::ZERO);
        assert_eq!(hold.ask(4, 1, Instant::now), Answer::Go);
        assert!(!hold.room(16));
    }

    proptest! {
        /// Whatever the driver consumes meanwhile, no work waits longer than the limit.
        #[test]
        fn no_work_waits_longer_than_the_limit(
            steps in prop::collection::vec((0u64..400, 0u32..16, any::<bool>()), 1..200)
        ) {
            let begin = Instant::now();
            let mut now = begin;
            let mut hold = Hold::new(LIMIT);
            // Since when this work has been asking.
            let mut asking: Option<Instant> = None;
            for (us, free, consume) in steps {
                now += Duration::from_micros(us);
                if consume {
                    hold.room(free);
                }
                let since = *asking.get_or_insert(now);
                match hold.ask(8, free, || now) {
                    Answer::Go | Answer::Over => asking = None,
                    Answer::Begin(until) | Answer::Wait(until) => {
                        prop_assert!(until <= since + LIMIT);
                        prop_assert!(until > now);
                    }
                }
            }
        }
    }
}
