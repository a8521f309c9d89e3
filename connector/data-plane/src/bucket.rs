//! Object stores that speak the S3 protocol, as places for a holder's tables.

use std::{fmt, sync::Arc};

use object_store::aws::AmazonS3Builder;
use url::Url;

use crate::query::Engine;

/// An S3 bucket. Locations `s3://{name}/…` are read from it.
#[derive(Clone)]
pub struct Bucket {
    /// The bucket's name, as in `s3://{name}/`.
    pub name: String,
    /// Where the protocol is spoken, if not at Amazon.
    pub endpoint: Option<Url>,
    /// The region, if the store has regions.
    pub region: Option<String>,
    /// Access key id and secret. Without them the environment's (`AWS_ACCESS_KEY_ID` and so on) or the machine's role is
    /// used, as by other S3 clients.
    pub keys: Option<(String, String)>,
}

/// Without the secret.
impl fmt::Debug for Bucket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.as_ref().map(Url::as_str);
        out.debug_struct("Bucket").field("name", &self.name).field("endpoint", &endpoint).finish_non_exhaustive()
    }
}

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// The name is no host of a URL.
    #[error("`{name}` cannot be the name of a bucket")]
    Name {
        /// The name.
        name: String,
    },
    /// The settings do not fit together.
    #[error("bucket `{name}` cannot be used")]
    Settings {
        /// The name.
        name: String,
        /// The cause.
        source: object_store::Error,
    },
}

impl Engine {
    /// Makes a bucket available for locations. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`BucketError`].
    pub fn register_bucket(&self, bucket: &Bucket) -> Result<(), BucketError> {
        let name = &bucket.name;
        let url = Url::parse(&format!("s3://{name}/")).ok().filter(|url| url.host_str() == Some(name));
        let url = url.ok_or_else(|| BucketError::Name { name: name.clone() })?;
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(name);
        if let Some(endpoint) = &bucket.endpoint {
            let is_plain = endpoint.scheme() == "http";
            builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/')).with_allow_http(is_plain);
        }
        if let Some(region) = &bucket.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &bucket.keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let store = builder.build().map_err(|source| BucketError::Settings { name: name.clone(), source })?;
        self.register_store(&url, Arc::new(store));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::QueryLimits;

    #[test]
    fn names_are_checked_and_secrets_stay_out_of_sight() {
        let engine = Engine::start(QueryLimits::default()).unwrap();
        let bucket = |name: &str| Bucket {
            name: name.to_owned(),
            endpoint: Some("https://s3.city.example".parse().unwrap()),
            region: None,
            keys: Some(("id".to_owned(), "hush".to_owned())),
        };
        engine.register_bucket(&bucket("city-data")).unwrap();
        for name in ["", "a/b", "a b", "user@host"] {
            assert!(engine.register_bucket(&bucket(name)).is_err(), "{name}");
        }
        assert!(!format!("{:?}", bucket("city-data")).contains("hush"));
    }
}
