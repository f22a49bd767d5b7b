// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What to plug the ports into, as text for the command line.

use std::{fmt, net::Ipv4Addr, path::PathBuf, str::FromStr};

/// Most addresses that the built-in peer can have.
pub(crate) const MAX_ADDRESSES: usize = 4;

/// A back end of the wire.
///
/// As text: `none`, `peer`, `peer:10.9.0.1/24,10.9.1.1/24`, `link:/run/link.sock`,
/// `peer+link:/run/link.sock`, `tap:tap0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireConfig {
    /// Nothing but the other data functions.
    None,
    /// The built-in peer.
    Peer(PeerConfig),
    /// A link to the wire of another NIC process: whichever comes first creates the socket.
    Link(PathBuf),
    /// The built-in peer, and a link to a NIC that has none: both NICs' guests have it.
    PeerAndLink(PeerConfig, PathBuf),
    /// A tap device of this name.
    Tap(String),
}

/// An IPv4 address with its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Address.
    pub address: Ipv4Addr,
    /// Bits of it that name the network.
    pub prefix: u8,
}

/// The built-in peer: a host that answers ARP and ping, echoes, generates and verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 addresses, one to four.
    pub addresses: Vec<Cidr>,
}

impl Default for PeerConfig {
    /// 02:d1:72:00:00:01, and 10.9.N.1/24 for N from 0 to 3: a network for each NIC of a guest.
    fn default() -> Self {
        let address = |n| Cidr {
            address: Ipv4Addr::new(10, 9, n, 1),
            prefix: 24,
        };
        Self {
            mac: [0x02, 0xd1, 0x72, 0, 0, 1],
            addresses: (0..4).map(address).collect(),
        }
    }
}

impl Default for WireConfig {
    fn default() -> Self {
        Self::Peer(PeerConfig::default())
    }
}

/// The text does not name a back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl FromStr for Cidr {
    type Err = ConfigError;

    fn from_str(s: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError(format!("`{s}` is not an address like 10.9.0.1/24"));
        let (address, prefix) = s.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        let prefix = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(wrong)?;
        Ok(Self { address, prefix })
    }
}

impl FromStr for WireConfig {
    type Err = ConfigError;

    fn from_str(s: &str) -> Result<Self, ConfigError> {
        let (kind, rest) = match s.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (s, None),
        };
        match (kind, rest) {
            ("none", None) => Ok(Self::None),
            ("peer", None) => Ok(Self::default()),
            ("peer", Some(list)) => {
                let addresses: Vec<Cidr> =
                    list.split(',').map(str::parse).collect::<Result<_, _>>()?;
                if addresses.len() > MAX_ADDRESSES {
                    return Err(ConfigError(format!(
                        "the peer takes at most {MAX_ADDRESSES} addresses"
                    )));
                }
                Ok(Self::Peer(PeerConfig {
                    addresses,
                    ..PeerConfig::default()
                }))
            }
            ("link", Some(path)) if !path.is_empty() => Ok(Self::Link(path.into())),
            ("peer+link", Some(path)) if !path.is_empty() => {
                Ok(Self::PeerAndLink(PeerConfig::default(), path.into()))
            }
            ("tap", Some(name)) if (1..16).contains(&name.len()) => Ok(Self::Tap(name.into())),
            _ => Err(ConfigError(format!(
                "unknown wire `{s}`; known: none, peer[:ADDRESS/PREFIX,…], link:PATH, \
                 peer+link:PATH, tap:NAME"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!("none".parse(), Ok(WireConfig::None));
        assert_eq!("peer".parse(), Ok(WireConfig::default()));
        assert_eq!("link:/a/b".parse(), Ok(WireConfig::Link("/a/b".into())));
        assert_eq!(
            "peer+link:/a/b".parse(),
            Ok(WireConfig::PeerAndLink(
                PeerConfig::default(),
                "/a/b".into()
            ))
        );
        assert_eq!("tap:tap7".parse(), Ok(WireConfig::Tap("tap7".into())));
        let Ok(WireConfig::Peer(peer)) = "peer:192.168.1.1/16".parse() else {
            panic!("not a peer");
        };
        assert_eq!(
            peer.addresses,
            [Cidr {
                address: [192, 168, 1, 1].into(),
                prefix: 16
            }]
        );
    }

    #[test]
    fn nonsense_is_named() {
        for text in [
            "",
            "peer:",
            "peer:1.2.3.4",
            "peer:1.2.3.4/33",
            "link:",
            "peer+link:",
            "tap:0123456789abcdef",
            "x",
        ] {
            assert!(text.parse::<WireConfig>().is_err(), "{text}");
        }
    }
}
