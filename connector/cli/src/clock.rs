//! The only place in the command that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use shuyu_base::UnixMillis;

/// The present, by the system's clock.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The present in the form evidence uses.
pub fn now_millis() -> UnixMillis {
    let since_epoch = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
