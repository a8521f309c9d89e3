//! Which addresses may be reached. Peers choose the URLs that nodes call back, so without this a peer could make a
//! node call its own administration port or a cloud's metadata service (SSRF).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use url::{Host, Url};

/// A network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8, // Invariant: at most 32 or 128; bits of `address` beyond it are zero.
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("network `{text}` is not `address/prefix` with all bits beyond the prefix zero")]
pub struct ParseNetworkError {
    /// The text.
    pub text: String,
}

/// Why an address or a URL may not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither `https`, nor `http` to loopback where that is allowed.
    #[error("scheme `{scheme}` is not allowed here")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The URL carries a user name or password.
    #[error("url carries credentials")]
    Credentials,
    /// The URL has no host.
    #[error("url has no host")]
    NoHost,
    /// The address is loopback, private or otherwise not public.
    #[error("address {address} is not public and not allowed")]
    Address {
        /// The address, after resolution.
        address: IpAddr,
    },
}

/// The rule for addresses.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard {
    insecure_loopback: bool,
    allowed: Vec<Network>,
}

impl AddressGuard {
    /// `insecure_loopback` lets loopback addresses through, and `http` to them; `allowed` are networks of the operator
    /// that are reachable over `https` though they are not public.
    pub fn new(insecure_loopback: bool, allowed: Vec<Network>) -> Self {
        Self { insecure_loopback, allowed }
    }

    /// Whether `http` to loopback is allowed.
    pub fn insecure_loopback(&self) -> bool {
        self.insecure_loopback
    }

    /// Checks what can be known of a URL before its host is resolved.
    ///
    /// # Errors
    /// [`Refusal`] names the reason.
    pub fn check_url(&self, url: &Url) -> Result<(), Refusal> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        let host = url.host().ok_or(Refusal::NoHost)?;
        let literal = match &host {
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
            Host::Domain(_) => None,
        };
        match url.scheme() {
            "https" => {}
            "http" if self.insecure_loopback && is_loopback_host(&host) => {}
            scheme => return Err(Refusal::Scheme { scheme: scheme.to_owned() }),
        }
        literal.map_or(Ok(()), |address| self.check_address(address))
    }

    /// Checks an address that a name resolved to, or that a URL names literally.
    ///
    /// # Errors
    /// [`Refusal::Address`].
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refusal> {
        let plain = unwrap_mapped(address);
        let allowed = is_public(plain)
            || (self.insecure_loopback && plain.is_loopback())
            || self.allowed.iter().any(|network| network.contains(plain));
        if allowed { Ok(()) } else { Err(Refusal::Address { address }) }
    }
}

impl Network {
    /// Whether the address lies in this network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix);
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix);
                own.to_bits().checked_shr(shift) == other.to_bits().checked_shr(shift)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let bad = || ParseNetworkError { text: text.to_owned() };
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let host_bits_are_zero = match address {
            IpAddr::V4(a) => prefix <= 32 && a.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0) == 0,
            IpAddr::V6(a) => prefix <= 128 && a.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0) == 0,
        };
        if host_bits_are_zero { Ok(Self { address, prefix }) } else { Err(bad()) }
    }
}

/// `localhost` and names under it (RFC 6761 section 6.3), and loopback literals. What a name really resolves to is
/// checked again later.
fn is_loopback_host(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// An IPv4 address written as IPv6 (RFC 4291 section 2.5.5.2) is that IPv4 address.
fn unwrap_mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Whether the address is globally reachable (IANA special-purpose registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0 // "this network"
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || address.is_broadcast()
        || 240 <= a // reserved
        || (a == 100 && (64..128).contains(&b)) // shared address space, RFC 6598
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // 6to4 relay, RFC 7526
        || (a == 198 && (18..20).contains(&b)); // benchmarking, RFC 2544
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let v4_of = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match s {
        // 6to4 (RFC 3056) and NAT64 (RFC 6052) carry an IPv4 address, which decides.
        [0x2002, high, low, ..] => is_public_v4(v4_of(high, low)),
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4_of(high, low)),
        // Teredo, ORCHID, benchmarking and other protocol assignments (2001::/23), and documentation.
        [0x2001, second, ..] if second < 0x0200 || second == 0x0db8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Of the rest only 2000::/3 is global unicast: this leaves out loopback, unspecified, ULA, link-local,
        // site-local, multicast, discard-only, local NAT64 and IPv4-compatible addresses.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allows(guard: &AddressGuard, address: &str) -> bool {
        guard.check_address(address.parse().unwrap()).is_ok()
    }

    const NOT_PUBLIC: [&str; 45] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2001:10::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "2002:c0a8:101::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ];

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        let guard = AddressGuard::new(false, vec![]);
        for address in NOT_PUBLIC {
            assert!(!allows(&guard, address), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
            "64:ff9b::808:808",
            "2001:4860::1",
        ] {
            assert!(allows(&guard, address), "{address}");
        }
    }

    #[test]
    fn insecure_loopback_lets_only_loopback_through() {
        let guard = AddressGuard::new(true, vec![]);
        let through: Vec<&str> = NOT_PUBLIC.into_iter().filter(|address| allows(&guard, address)).collect();
        assert_eq!(through, ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]);
    }

    #[test]
    fn networks_of_the_operator_are_let_through() {
        let guard = AddressGuard::new(false, vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (address, expected) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("10.2.0.1", false), ("fd12::1", true), ("fc00::1", false)]
        {
            assert_eq!(allows(&guard, address), expected, "{address}");
        }
        let everything: Network = "0.0.0.0/0".parse().unwrap();
        assert!(everything.contains("10.0.0.1".parse().unwrap()) && !everything.contains("::1".parse().unwrap()));
        for bad in ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "::/129", "x/8", "::1/64", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_are_checked_before_anything_is_resolved() {
        let strict = AddressGuard::new(false, vec![]);
        let loose = AddressGuard::new(true, vec!["10.0.0.0/8".parse().unwrap()]);
        for (url, by_strict, by_loose) in [
            ("https://a.example/x", true, true),
            ("http://a.example/x", false, false),
            ("http://localhost:1/x", false, true),
            ("http://n.localhost:1/x", false, true),
            ("http://127.0.0.1:1/x", false, true),
            ("http://[::1]:1/x", false, true),
            ("https://127.0.0.1:1/x", false, true),
            ("https://10.0.0.1/x", false, true),
            ("http://10.0.0.1/x", false, false),
            ("https://0x7f.1/x", false, true),
            ("https://2130706433/x", false, true),
            ("https://[::ffff:10.0.0.1]/", false, true),
            ("https://169.254.169.254/latest", false, false),
            ("https://user@a.example/", false, false),
            ("https://user:pw@a.example/", false, false),
            ("ftp://a.example/", false, false),
            ("file:///etc/passwd", false, false),
            ("data:text/plain,x", false, false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!((strict.check_url(&url).is_ok(), loose.check_url(&url).is_ok()), (by_strict, by_loose), "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_what_it_is(bits in any::<u32>()) {
            let guard = AddressGuard::new(false, vec![]);
            let v4 = Ipv4Addr::from_bits(bits);
            let mapped = guard.check_address(IpAddr::V6(v4.to_ipv6_mapped())).is_ok();
            prop_assert_eq!(mapped, guard.check_address(IpAddr::V4(v4)).is_ok());
        }
    }
}
