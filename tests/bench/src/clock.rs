//! The only place where this crate reads the wall clock.

use std::time::SystemTime;

use shuyu_base::UnixMillis;

/// Now.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
