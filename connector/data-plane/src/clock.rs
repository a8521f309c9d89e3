//! The one place where this crate reads the time.

use std::time::{SystemTime, UNIX_EPOCH};

use shuyu_base::UnixMillis;

/// The system's time; a clock before 1970 reads as 0.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
