//! Which versions a connector speaks: `/.well-known/dspace-version` ("Exposure of Versions").

use serde_json::{Value, json};

use super::envelope::MAX_ID_BYTES;
use super::reader::{At, DecodeError, Problem};

/// Most versions in one answer.
pub const MAX_VERSIONS: usize = 64;

/// One version of the protocol that a connector speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The version, for example `2025-1`.
    pub version: String,
    /// The path below the root where its endpoints are, beginning with `/`.
    pub path: String,
    /// The binding; `HTTPS` is the only one there is.
    pub binding: String,
}

/// Reads the answer of the version endpoint, which has no context and no type.
///
/// # Errors
/// [`DecodeError`] with the path.
pub fn decode_versions(value: &Value) -> Result<Vec<Version>, DecodeError> {
    let list = At::new(value).object()?.need("protocolVersions")?;
    let items = list.items(MAX_VERSIONS)?;
    if items.is_empty() {
        return Err(list.error(Problem::Empty));
    }
    let version = |item: At<'_>| {
        let item = item.object()?;
        let text = |name: &str| item.text(name, MAX_ID_BYTES).map(str::to_owned);
        Ok(Version { version: text("version")?, path: text("path")?, binding: text("binding")? })
    };
    items.into_iter().map(version).collect()
}

/// The answer of the version endpoint.
pub fn encode_versions(versions: &[Version]) -> Value {
    let item =
        |version: &Version| json!({ "version": version.version, "path": version.path, "binding": version.binding });
    json!({ "protocolVersions": versions.iter().map(item).collect::<Vec<_>>() })
}
