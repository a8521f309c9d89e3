//! How data is handed over: formats, addresses and what a consumer needs to read.

use serde::{Deserialize, Serialize};
use shuyu_wire::dsp::DataAddress;

/// Ways in which data is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Arrow Flight SQL: the consumer sends queries.
    FlightSql,
    /// HTTP: the consumer fetches results as files.
    #[serde(rename = "HttpData-PULL")]
    HttpPull,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::FlightSql, Self::HttpPull];

    /// The `format` of a DSP distribution.
    pub fn name(self) -> &'static str {
        match self {
            Self::FlightSql => "FlightSql",
            Self::HttpPull => "HttpData-PULL",
        }
    }

    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// A stored data address; it holds a token, so it is never logged or shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct Address(Vec<(String, String)>);

impl Address {
    /// Keeps the properties of a data address.
    pub fn of(address: &DataAddress) -> Self {
        Self(address.properties.clone())
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
    pub format: &'static str,
    /// Flight SQL address.
    pub flight_endpoint: String,
    /// Address of the transfer's files.
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
