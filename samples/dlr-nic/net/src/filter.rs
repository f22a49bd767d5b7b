// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which frames the guest wants.

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// Addresses in each table; a driver that sets more gets all of the kind.
pub(crate) const TABLE: usize = 64;

/// Receive mode of the function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) promiscuous: bool,
    pub(crate) all_multicast: bool,
    /// More addresses were set than the tables hold.
    pub(crate) unicast_overflow: bool,
    pub(crate) multicast_overflow: bool,
    pub(crate) unicast: Vec<Mac>,
    pub(crate) multicast: Vec<Mac>,
}

impl Filter {
    /// Before the first command: everything. A driver that does not know the commands (firmware,
    /// boot loaders) still has to get its multicast frames.
    pub(crate) fn power_on() -> Self {
        Self {
            promiscuous: true,
            ..Self::default()
        }
    }

    /// Whether a frame to `destination` is for a guest with address `mac`.
    pub(crate) fn accepts(&self, mac: &Mac, destination: &Mac) -> bool {
        if self.promiscuous || destination == &[0xff; 6] {
            true
        } else if destination[0] & 1 != 0 {
            self.all_multicast || self.multicast_overflow || self.multicast.contains(destination)
        } else {
            destination == mac || self.unicast_overflow || self.unicast.contains(destination)
        }
    }

    /// Takes the tables of `VIRTIO_NET_CTRL_MAC_TABLE_SET`. `None` when the command is
    /// malformed; nothing has changed then.
    pub(crate) fn set_tables(&mut self, data: &[u8]) -> Option<()> {
        let (unicast, rest) = table(data)?;
        let (multicast, rest) = table(rest)?;
        if !rest.is_empty() {
            return None;
        }
        self.unicast_overflow = unicast.len() > TABLE;
        self.multicast_overflow = multicast.len() > TABLE;
        self.unicast = if self.unicast_overflow {
            Vec::new()
        } else {
            unicast
        };
        self.multicast = if self.multicast_overflow {
            Vec::new()
        } else {
            multicast
        };
        Some(())
    }
}

/// A 32-bit count and as many addresses; and what follows.
fn table(data: &[u8]) -> Option<(Vec<Mac>, &[u8])> {
    let (count, rest) = data.split_first_chunk::<4>()?;
    let bytes = usize::try_from(u32::from_le_bytes(*count))
        .ok()?
        .checked_mul(6)?;
    let (entries, rest) = rest.split_at_checked(bytes)?;
    let entries = entries
        .chunks_exact(6)
        .filter_map(|mac| mac.try_into().ok())
        .collect();
    Some((entries, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const GROUP: Mac = [0x33, 0x33, 0, 0, 0, 1];

    fn tables(unicast: &[Mac], multicast: &[Mac]) -> Vec<u8> {
        let mut data = Vec::new();
        for list in [unicast, multicast] {
            data.extend_from_slice(&(list.len() as u32).to_le_bytes());
            data.extend_from_slice(list.as_flattened());
        }
        data
    }

    #[test]
    fn power_on_takes_everything_until_a_command_says_otherwise() {
        let mut filter = Filter::power_on();
        assert!(filter.accepts(&OWN, &OTHER) && filter.accepts(&OWN, &GROUP));
        filter.promiscuous = false;
        assert!(filter.accepts(&OWN, &OWN));
        assert!(filter.accepts(&OWN, &[0xff; 6]));
        assert!(!filter.accepts(&OWN, &OTHER));
        assert!(!filter.accepts(&OWN, &GROUP));
    }

    #[test]
    fn modes_and_tables() {
        let mut filter = Filter::default();
        filter.set_tables(&tables(&[OTHER], &[GROUP])).unwrap();
        assert!(filter.accepts(&OWN, &OTHER));
        assert!(filter.accepts(&OWN, &GROUP));
        filter.set_tables(&tables(&[], &[])).unwrap();
        assert!(!filter.accepts(&OWN, &GROUP));
        filter.all_multicast = true;
        assert!(filter.accepts(&OWN, &GROUP));
        filter.promiscuous = true;
        assert!(filter.accepts(&OWN, &OTHER));
    }

    #[test]
    fn too_many_means_all() {
        let mut filter = Filter::default();
        filter
            .set_tables(&tables(&[], &[[1; 6]; TABLE + 1]))
            .unwrap();
        assert!(filter.accepts(&OWN, &GROUP));
        assert!(!filter.accepts(&OWN, &OTHER));
        filter
            .set_tables(&tables(&[[2; 6]; TABLE + 1], &[]))
            .unwrap();
        assert!(filter.accepts(&OWN, &OTHER));
        assert!(!filter.accepts(&OWN, &GROUP));
    }

    #[test]
    fn malformed_tables_change_nothing() {
        let mut filter = Filter::default();
        filter.set_tables(&tables(&[OTHER], &[])).unwrap();
        let before = filter.clone();
        let good = tables(&[OWN], &[GROUP]);
        for len in 0..good.len() {
            assert!(filter.set_tables(&good[..len]).is_none());
        }
        assert!(filter.set_tables(&[0xff; 32]).is_none());
        assert!(filter.set_tables(&[good, vec![0]].concat()).is_none());
        assert_eq!(filter, before);
    }
}
