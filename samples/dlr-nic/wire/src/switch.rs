// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which place a frame goes to. Pure: it sees addresses and times, never a function.
//!
//! A learning switch: an address is where a frame came from it last, and nowhere else. A station
//! that moves has to send something from its new place, as with any switch.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// Most addresses that are remembered, so that a guest which makes up addresses cannot
/// make the NIC grow.
const TABLE: usize = 1024;

/// An address that moves more often than this is used by two stations.
const MOVES: u32 = 4;
/// Time in which so many moves are too many.
const MOVES_WITHIN: Duration = Duration::from_secs(1);

/// Destination and source address of a frame, `None` for what is too short for both.
pub(crate) fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let dst = frame.get(..6)?.try_into().ok()?;
    let src = frame.get(6..12)?.try_into().ok()?;
    Some((dst, src))
}

/// Group bit: broadcast or multicast.
pub(crate) fn is_group(mac: &Mac) -> bool {
    mac[0] & 1 == 1
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To this place.
    To(usize),
    /// To all places but the sender's: a group, or an address that nothing was heard of.
    All,
    /// Nowhere: its station is where the frame comes from.
    Nowhere,
}

/// What a frame said about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Nothing new.
    Known,
    /// It has moved here from this place.
    Moved(usize),
    /// It moves to and fro between this place and that of the frame. Said once a second at most.
    Flaps(usize),
}

#[derive(Clone, Copy, Debug)]
struct Station {
    place: usize,
    /// Moves since `since`.
    moves: u32,
    since: Instant,
}

/// Table of learned addresses.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    stations: HashMap<Mac, Station>,
}

impl Switch {
    /// `mac` has sent from `place`.
    pub(crate) fn learn(&mut self, mac: Mac, place: usize, now: Instant) -> Learned {
        if is_group(&mac) {
            return Learned::Known;
        }
        if let Some(station) = self.stations.get_mut(&mac) {
            return station.seen(place, now);
        }
        if self.stations.len() >= TABLE {
            self.stations.clear();
        }
        let station = Station {
            place,
            moves: 0,
            since: now,
        };
        self.stations.insert(mac, station);
        Learned::Known
    }

    /// Place that `mac` was last seen at.
    pub(crate) fn place(&self, mac: &Mac) -> Option<usize> {
        self.stations.get(mac).map(|station| station.place)
    }

    /// Where a frame for `dst` goes that comes from the place `from`.
    pub(crate) fn route(&self, dst: &Mac, from: Option<usize>) -> Route {
        match self.place(dst) {
            Some(place) if Some(place) == from => Route::Nowhere,
            Some(place) => Route::To(place),
            None => Route::All,
        }
    }
}

impl Station {
    fn seen(&mut self, place: usize, now: Instant) -> Learned {
        if self.place == place {
            return Learned::Known;
        }
        let before = std::mem::replace(&mut self.place, place);
        if now.saturating_duration_since(self.since) >= MOVES_WITHIN {
            (self.moves, self.since) = (0, now);
        }
        self.moves = self.moves.saturating_add(1);
        if self.moves == MOVES {
            Learned::Flaps(before)
        } else {
            Learned::Moved(before)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn a_station_is_where_it_was_heard_last() {
        let (mut switch, now) = (Switch::default(), Instant::now());
        assert_eq!(switch.route(&GUEST, Some(1)), Route::All);
        assert_eq!(switch.learn(GUEST, 2, now), Learned::Known);
        assert_eq!(switch.route(&GUEST, Some(1)), Route::To(2));
        assert_eq!(switch.route(&GUEST, Some(2)), Route::Nowhere);
        assert_eq!(switch.route(&GUEST, None), Route::To(2));
        assert_eq!(switch.learn(GUEST, 0, now), Learned::Moved(2));
        assert_eq!(switch.route(&GUEST, Some(1)), Route::To(0));
        assert_eq!(switch.learn(GUEST, 0, now), Learned::Known);
    }

    #[test]
    fn groups_go_to_all_and_are_not_learned() {
        let (mut switch, now) = (Switch::default(), Instant::now());
        switch.learn([0xff; 6], 1, now);
        assert_eq!(switch.place(&[0xff; 6]), None);
        assert_eq!(switch.route(&[0xff; 6], Some(1)), Route::All);
    }

    #[test]
    fn two_stations_with_one_address_are_noticed() {
        let (mut switch, mut now) = (Switch::default(), Instant::now());
        // A guest that moves there and back, a few seconds each time.
        for place in [0, 1, 0, 1, 0, 1, 0] {
            assert!(!matches!(
                switch.learn(GUEST, place, now),
                Learned::Flaps(_)
            ));
            now += Duration::from_secs(2);
        }
        // Two guests that send at the same time.
        let mut flaps = 0;
        for n in 0..100 {
            let learned = switch.learn(GUEST, n % 2, now);
            flaps += usize::from(matches!(learned, Learned::Flaps(_)));
            now += Duration::from_millis(25);
        }
        assert_eq!(flaps, 3, "once a second");
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut switch, now) = (Switch::default(), Instant::now());
        for n in 0..3000_u32 {
            let b = n.to_be_bytes();
            switch.learn([2, 0, b[0], b[1], b[2], b[3]], 0, now);
        }
        assert!(switch.stations.len() <= TABLE);
    }

    #[test]
    fn short_frames_have_no_addresses() {
        assert_eq!(addresses(&[0; 11]), None);
        assert!(addresses(&[0; 12]).is_some());
    }
}
