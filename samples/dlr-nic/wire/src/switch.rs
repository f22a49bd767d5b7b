// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which port a frame goes to. Pure: it sees addresses and results, never a function.

use std::collections::HashMap;

use dlr_core::Delivery;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// Most addresses that are remembered, so that a guest which makes up addresses cannot
/// make the NIC grow.
const TABLE: usize = 1024;

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

/// Table of learned addresses.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    owner: HashMap<Mac, usize>,
}

impl Switch {
    /// `mac` has sent from `port`.
    pub(crate) fn learn(&mut self, mac: Mac, port: usize) {
        if is_group(&mac) {
            return;
        }
        if self.owner.len() >= TABLE && !self.owner.contains_key(&mac) {
            self.owner.clear();
        }
        self.owner.insert(mac, port);
    }

    /// `mac` is elsewhere.
    pub(crate) fn forget(&mut self, mac: &Mac) {
        self.owner.remove(mac);
    }

    /// Port that `mac` was last seen at.
    pub(crate) fn owner(&self, mac: &Mac) -> Option<usize> {
        self.owner.get(mac).copied()
    }

    /// Offers a frame for `dst` to the ports, except to `from`.
    ///
    /// A group address goes to all. Any other one goes to its owner, and if that takes it
    /// not, to whoever does: after a migration the guest lives at another port, and may
    /// have had nothing to send from there yet.
    pub(crate) fn offer(
        &mut self,
        dst: &Mac,
        ports: usize,
        from: Option<usize>,
        mut to: impl FnMut(usize) -> Delivery,
    ) -> Delivery {
        // If nobody takes it: what its owner said, else whether anybody might later.
        let mut result = None;
        let owner = self.owner(dst).filter(|p| *p < ports && Some(*p) != from);
        let others = (0..ports).filter(|p| Some(*p) != owner && Some(*p) != from);
        for port in owner.into_iter().chain(others) {
            match to(port) {
                Delivery::Accepted if !is_group(dst) => {
                    self.learn(*dst, port);
                    return Delivery::Accepted;
                }
                Delivery::Accepted => result = Some(Delivery::Accepted),
                answer if owner == Some(port) => result = Some(answer),
                Delivery::NoBuffer if owner.is_none() && result.is_none() => {
                    result = Some(Delivery::NoBuffer);
                }
                Delivery::NoBuffer | Delivery::Dropped => (),
            }
        }
        result.unwrap_or(Delivery::Dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn the_owner_comes_first_and_alone() {
        let mut switch = Switch::default();
        switch.learn(GUEST, 2);
        let mut asked = vec![];
        let result = switch.offer(&GUEST, 4, None, |p| {
            asked.push(p);
            Delivery::Accepted
        });
        assert_eq!((result, asked), (Delivery::Accepted, vec![2]));
    }

    #[test]
    fn a_moved_guest_is_found_and_remembered() {
        let mut switch = Switch::default();
        switch.learn(GUEST, 0);
        let at = |here: usize| {
            move |p: usize| {
                if p == here {
                    Delivery::Accepted
                } else {
                    Delivery::NoBuffer
                }
            }
        };
        assert_eq!(switch.offer(&GUEST, 3, None, at(1)), Delivery::Accepted);
        assert_eq!(switch.owner(&GUEST), Some(1));
    }

    #[test]
    fn nobody_takes_it() {
        let mut switch = Switch::default();
        switch.learn(GUEST, 0);
        let busy = |p: usize| {
            if p == 0 {
                Delivery::NoBuffer
            } else {
                Delivery::Dropped
            }
        };
        assert_eq!(switch.offer(&GUEST, 3, None, busy), Delivery::NoBuffer);
        assert_eq!(switch.owner(&GUEST), Some(0));
        assert_eq!(
            switch.offer(&GUEST, 3, None, |_| Delivery::Dropped),
            Delivery::Dropped
        );
    }

    #[test]
    fn the_owner_says_whether_to_wait() {
        let mut switch = Switch::default();
        switch.learn(GUEST, 1);
        let stopped = |p: usize| {
            if p == 1 {
                Delivery::Dropped
            } else {
                Delivery::NoBuffer
            }
        };
        assert_eq!(switch.offer(&GUEST, 3, None, stopped), Delivery::Dropped);
    }

    #[test]
    fn groups_go_to_all_but_the_sender() {
        let mut switch = Switch::default();
        let mut asked = vec![];
        switch.offer(&[0xff; 6], 3, Some(1), |p| {
            asked.push(p);
            Delivery::Accepted
        });
        assert_eq!(asked, [0, 2]);
        assert_eq!(switch.owner(&[0xff; 6]), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut switch = Switch::default();
        for n in 0..3000_u32 {
            let b = n.to_be_bytes();
            switch.learn([2, 0, b[0], b[1], b[2], b[3]], 0);
        }
        assert!(switch.owner.len() <= TABLE);
    }

    #[test]
    fn short_frames_have_no_addresses() {
        assert_eq!(addresses(&[0; 11]), None);
        assert!(addresses(&[0; 12]).is_some());
    }
}
