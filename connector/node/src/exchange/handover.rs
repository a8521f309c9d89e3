//! How data is handed over: formats, addresses and what a consumer needs to read.

use serde::{Deserialize, Serialize};
use shuyu_wire::dsp::DataAddress;

/// Ways in which data is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Arrow Flight SQL: the consumer sends queries.
    FlightSql,
    /// HTTP: the consumer fetches results as files.
    #[serde(rename = "HttpData-PULL")]
    HttpPull,
    /// A transfer profile of a foreign data plane, named by a URI.
    #[serde(untagged)]
    Profile(String),
}

impl Format {
    /// Names of those that this node serves by itself.
    pub const OWN: [&str; 2] = ["FlightSql", "HttpData-PULL"];
    /// Longest name of a foreign data plane's profile, in bytes.
    const MAX_PROFILE_BYTES: usize = 256;

    /// The `format` of a DSP distribution.
    pub fn name(&self) -> &str {
        match self {
            Self::FlightSql => "FlightSql",
            Self::HttpPull => "HttpData-PULL",
            Self::Profile(name) => name,
        }
    }

    /// The format of a name: one of ours, or the URI of a transfer profile.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "FlightSql" => Some(Self::FlightSql),
            "HttpData-PULL" => Some(Self::HttpPull),
            name => {
                let is_uri = name.len() <= Self::MAX_PROFILE_BYTES
                    && name.bytes().all(|byte| byte.is_ascii_graphic())
                    && name.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
                is_uri.then(|| Self::Profile(name.to_owned()))
            }
        }
    }
}

/// Under which names an address keeps its endpoint and the type of it, beside its properties.
const ENDPOINT: [&str; 2] = ["@endpoint", "@endpointType"];

/// A stored data address; it holds a token, so it is never logged or shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct Address(Vec<(String, String)>);

impl Address {
    /// Keeps a data address.
    pub fn of(address: &DataAddress) -> Self {
        let [endpoint, kind] = ENDPOINT;
        let own = |(name, _): &&(String, String)| !ENDPOINT.contains(&name.as_str());
        let mut kept: Vec<(String, String)> = address.properties.iter().filter(own).cloned().collect();
        kept.push((kind.to_owned(), address.endpoint_type.clone()));
        kept.extend(address.endpoint.clone().map(|value| (endpoint.to_owned(), value)));
        Self(kept)
    }

    /// The address as it came.
    pub fn whole(&self) -> DataAddress {
        let [endpoint, kind] = ENDPOINT;
        let own = |(name, _): &&(String, String)| !ENDPOINT.contains(&name.as_str());
        DataAddress {
            endpoint_type: self.property(kind).unwrap_or_default().to_owned(),
            endpoint: self.property(endpoint).map(str::to_owned),
            properties: self.0.iter().filter(own).cloned().collect(),
        }
    }

    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(..)")
    }
}

/// What a consumer needs to read the data.
#[derive(Clone, Debug, Serialize)]
pub struct Access {
    /// How the data is handed over.
    pub format: String,
    /// Flight SQL address; empty where a foreign data plane serves.
    pub flight_endpoint: String,
    /// Address of the transfer's files, or the endpoint of a foreign data plane.
    pub http_endpoint: String,
    /// The token to present at both.
    pub bearer: String,
    /// When the token ends.
    pub expires_at: String,
    /// The table's name in queries.
    pub table: String,
    /// The agreement.
    pub agreement: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_a_uri_and_formats_are_stored_by_name() {
        for name in ["FlightSql", "HttpData-PULL", "https://w3id.org/dspace-sig/profile/http-pull"] {
            let format = Format::from_name(name).unwrap();
            assert_eq!(format.name(), name);
            assert_eq!(serde_json::to_value(&format).unwrap(), name);
            assert_eq!(serde_json::from_value::<Format>(name.into()).unwrap(), format);
        }
        for name in ["Push", "", ":", "a b:c", &"x:".repeat(200)] {
            assert_eq!(Format::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn an_address_is_kept_whole() {
        let properties = vec![("authorization".to_owned(), "t".to_owned())];
        let address = DataAddress { endpoint_type: "x".to_owned(), endpoint: Some("https://a".to_owned()), properties };
        let kept = Address::of(&address);
        assert_eq!(kept.whole(), address);
        assert_eq!(format!("{kept:?}"), "Address(..)");
    }
}
