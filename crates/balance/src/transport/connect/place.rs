//! Where one try to connect goes, and in which order.

use std::{collections::VecDeque, fmt, net::SocketAddr};

use registry::Address;

/// Where one try to connect goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: Address,
    /// The socket address that its host has; `None` for a Unix socket.
    pub(super) at: Option<SocketAddr>,
}

impl Place {
    /// The place that needs no looking up.
    pub(super) fn known(address: &Address) -> Option<Self> {
        let at = address.socket_addr();
        (at.is_some() || address.unix_path().is_some()).then(|| Self {
            address: address.clone(),
            at,
        })
    }

    fn family(&self) -> Family {
        match self.at {
            None => Family::Unix,
            Some(SocketAddr::V4(_)) => Family::V4,
            Some(SocketAddr::V6(_)) => Family::V6,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match self.at {
            Some(at) if self.address.socket_addr().is_none() => write!(f, " ({at})"),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unix,
    V4,
    V6,
}

/// The places in turns between the families, that of the first place first, each family in its own order (RFC 8305,
/// section 4).
pub(super) fn interleaved(places: impl IntoIterator<Item = Place>) -> VecDeque<Place> {
    let mut families: Vec<(Family, VecDeque<Place>)> = Vec::new();
    for place in places {
        let family = place.family();
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, list)) => list.push_back(place),
            None => families.push((family, VecDeque::from([place]))),
        }
    }
    let longest = families.iter().map(|(_, list)| list.len()).max();
    (0..longest.unwrap_or_default())
        .flat_map(|turn| {
            families
                .iter()
                .filter_map(move |(_, list)| list.get(turn).cloned())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Address, Place, interleaved};

    #[test]
    fn families_take_turns_and_the_preferred_address_is_first() {
        let order = |list: &[&str]| -> Vec<String> {
            let places = list.iter().map(|text| {
                let address = Address::new(text).expect(text);
                Place::known(&address).expect(text)
            });
            let order = interleaved(places);
            order.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            order(&[
                "10.0.0.1:1",
                "10.0.0.2:1",
                "10.0.0.3:1",
                "[::1]:1",
                "[::2]:1"
            ]),
            [
                "10.0.0.1:1",
                "[::1]:1",
                "10.0.0.2:1",
                "[::2]:1",
                "10.0.0.3:1"
            ]
        );
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "unix:/a", "10.0.0.1:1"]),
            ["[::1]:1", "unix:/a", "10.0.0.1:1", "[::2]:1"]
        );
        assert!(order(&[]).is_empty());
    }

    #[test]
    fn a_place_that_a_name_was_looked_up_for_tells_both() {
        let address = Address::new("greeter.example:80").expect("an address");
        assert_eq!(Place::known(&address), None);
        let at = "[::1]:80".parse().ok();
        let place = Place { address, at };
        assert_eq!(place.to_string(), "greeter.example:80 ([::1]:80)");
    }
}
