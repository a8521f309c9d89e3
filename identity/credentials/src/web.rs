//! Where the document of a did:web is (did:web method, section 2.5.2).

use std::net::Ipv4Addr;

use shuyu_base::Did;
use url::{Host, Url};

/// Longest host name (RFC 1035 section 2.3.4), in bytes.
const MAX_HOST_BYTES: usize = 253;

/// The host, port and path of a did:web document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebLocation {
    // Invariant: `host` is a lower-case domain name or a loopback IPv4 address; no segment of `path` is empty,
    // `.` or `..`, or hides a separator behind percent-encoding.
    host: String,
    port: Option<u16>,
    segments: Vec<String>,
}

/// How to ask for the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The only scheme the method allows.
    Https,
    /// For loopback only, where the operator has said so.
    Http,
}

/// Why a DID has no web location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebLocationError {
    /// Another method.
    #[error("did `{did}` is not a did:web")]
    NotWeb {
        /// The DID.
        did: Did,
    },
    /// Not a domain name, or an IP address that is not loopback; the method allows domain names only.
    #[error("did:web host is not a lower-case domain name")]
    Host,
    /// Not a number from 1 to 65535 without leading zeros.
    #[error("did:web port is not a port number")]
    Port,
    /// A path segment is empty, `.` or `..`, or hides a separator.
    #[error("did:web path segment {position} is not allowed")]
    Path {
        /// Its place, from 1.
        position: usize,
    },
}

impl WebLocation {
    /// Takes the DID apart.
    ///
    /// # Errors
    /// [`WebLocationError`] names the part at fault.
    pub fn from_did(did: &Did) -> Result<Self, WebLocationError> {
        if did.method() != "web" {
            return Err(WebLocationError::NotWeb { did: did.clone() });
        }
        let mut parts = did.id().split(':');
        let authority = parts.next().unwrap_or_default();
        // The port's colon is the only thing a host part may encode.
        let (host, port) = match authority.split_once("%3A").or_else(|| authority.split_once("%3a")) {
            Some((host, port)) => (host, Some(read_port(port)?)),
            None => (authority, None),
        };
        check_host(host)?;
        let mut segments = Vec::new();
        for (at, segment) in parts.enumerate() {
            if !is_plain_segment(segment) {
                return Err(WebLocationError::Path { position: at + 1 });
            }
            segments.push(segment.to_owned());
        }
        Ok(Self { host: host.to_owned(), port, segments })
    }

    /// The host: a domain name, or a loopback address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if the DID names one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path of the document, starting with `/`.
    pub fn path(&self) -> String {
        if self.segments.is_empty() {
            return "/.well-known/did.json".to_owned();
        }
        format!("/{}/did.json", self.segments.join("/"))
    }

    /// Whether the host is `localhost`, a name under it (RFC 6761 section 6.3) or in 127.0.0.0/8.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.ends_with(".localhost") || is_loopback_literal(&self.host)
    }

    /// The URL of the document; `None` for [`Scheme::Http`] to a host that is not loopback.
    pub fn url(&self, scheme: Scheme) -> Option<Url> {
        let scheme = match scheme {
            Scheme::Https => "https",
            Scheme::Http if self.is_loopback() => "http",
            Scheme::Http => return None,
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        Url::parse(&format!("{scheme}://{}{port}{}", self.host, self.path())).ok()
    }
}

fn is_loopback_literal(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn check_host(host: &str) -> Result<(), WebLocationError> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if MAX_HOST_BYTES < host.len() || !host.split('.').all(is_label) {
        return Err(WebLocationError::Host);
    }
    // The URL standard reads `2130706433` and `0x7f.1` as addresses; only a plain loopback address passes.
    match Host::parse(host) {
        Ok(Host::Domain(name)) if name == host => Ok(()),
        Ok(Host::Ipv4(address)) if address.is_loopback() && address.to_string() == host => Ok(()),
        _ => Err(WebLocationError::Host),
    }
}

fn read_port(text: &str) -> Result<u16, WebLocationError> {
    let port: u16 = text.parse().map_err(|_| WebLocationError::Port)?;
    if port == 0 || port.to_string() != text {
        return Err(WebLocationError::Port);
    }
    Ok(port)
}

/// A segment that means the same before and after percent-decoding, as far as paths go.
fn is_plain_segment(segment: &str) -> bool {
    if segment.is_empty() || segment == "." || segment == ".." {
        return false;
    }
    segment.split('%').skip(1).all(|rest| {
        let byte = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|b| !b.is_ascii_control() && !b"/\\.%?#:".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(did: &str, scheme: Scheme) -> Option<String> {
        WebLocation::from_did(&did.parse().unwrap()).ok()?.url(scheme).map(String::from)
    }

    #[test]
    fn follows_the_examples_of_the_method() {
        for (did, expected) in [
            ("did:web:w3c-ccg.github.io", "https://w3c-ccg.github.io/.well-known/did.json"),
            ("did:web:w3c-ccg.github.io:user:alice", "https://w3c-ccg.github.io/user/alice/did.json"),
            ("did:web:example.com%3A3000:user:alice", "https://example.com:3000/user/alice/did.json"),
            ("did:web:localhost%3A7101", "https://localhost:7101/.well-known/did.json"),
            ("did:web:a.example:%E6%95%B0", "https://a.example/%E6%95%B0/did.json"),
        ] {
            assert_eq!(url(did, Scheme::Https).as_deref(), Some(expected));
        }
    }

    #[test]
    fn http_is_for_loopback_only() {
        for (did, loopback) in [
            ("did:web:localhost%3A7101", true),
            ("did:web:node.localhost", true),
            ("did:web:127.0.0.1%3A80", true),
            ("did:web:localhost.example", false),
            ("did:web:example.com", false),
        ] {
            assert_eq!(url(did, Scheme::Http).is_some(), loopback, "{did}");
        }
    }

    #[test]
    fn tricks_with_hosts_ports_and_paths_are_refused() {
        for did in [
            "did:key:z6Mk",
            "did:web:10.0.0.1",
            "did:web:169.254.169.254",
            "did:web:8.8.8.8",
            "did:web:2130706433",
            "did:web:0x7f.1",
            "did:web:127.1",
            "did:web:%5B%3A%3A1%5D",
            "did:web:Example.com",
            "did:web:example.com.",
            "did:web:example..com",
            "did:web:-a.example",
            "did:web:a_b.example",
            "did:web:user%40example.com",
            "did:web:example.com%2Fx",
            "did:web:example.com%3A0",
            "did:web:example.com%3A",
            "did:web:example.com%3A080",
            "did:web:example.com%3A65536",
            "did:web:example.com%3A80%3A80",
            "did:web:example.com::x",
            "did:web:example.com:..:x",
            "did:web:example.com:.",
            "did:web:example.com:%2e%2e",
            "did:web:example.com:a%2Fb",
            "did:web:example.com:a%5Cb",
            "did:web:example.com:a%00",
            "did:web:example.com:a%3Fb",
            "did:web:example.com:a%252F",
        ] {
            assert_eq!(url(did, Scheme::Https), None, "{did}");
        }
    }

    proptest! {
        #[test]
        fn a_location_stays_on_its_host(id in "[A-Za-z0-9._%:-]{1,60}") {
            if let Ok(location) = format!("did:web:{id}").parse::<Did>().map_err(|_| ()).and_then(|did| WebLocation::from_did(&did).map_err(|_| ())) {
                let url = location.url(Scheme::Https).unwrap();
                prop_assert_eq!(url.host_str(), Some(location.host()));
                prop_assert_eq!(url.path(), location.path());
                prop_assert!(url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
            }
        }
    }
}
