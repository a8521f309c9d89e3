//! The one place that reads the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use shuyu_base::UnixMillis;

/// Now.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    UnixMillis(i64::try_from(since.as_millis()).expect("the clock is before the year 292278994"))
}
