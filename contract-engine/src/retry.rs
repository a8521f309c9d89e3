//! When to send again: exponential delay with jitter, and an end.

/// How patiently an unanswered message is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delay after the first attempt, in milliseconds.
    pub first_delay_ms: u32,
    /// Longest delay, in milliseconds.
    pub max_delay_ms: u32,
    /// Attempts before the process is set aside; at least one is always made.
    pub max_attempts: u32,
}

impl RetryPolicy {
    /// 200 ms doubling up to two minutes, 1,000 attempts: about a day, so that a peer that is down over night finds what
    /// waits for it in the morning.
    pub const STANDARD: Self = Self { first_delay_ms: 200, max_delay_ms: 120_000, max_attempts: 1000 };

    /// The delay after attempt number `attempt` (from 1), in milliseconds: between half and all of
    /// `first_delay_ms * 2^(attempt - 1)`, capped at `max_delay_ms`. `random` chooses within that span.
    pub fn delay_ms(&self, attempt: u32, random: u64) -> i64 {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = (u64::from(self.first_delay_ms) << doublings).min(u64::from(self.max_delay_ms));
        let half = full / 2;
        let delay = half + random % (full - half + 1);
        i64::try_from(delay).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_and_is_capped() {
        let policy = RetryPolicy { first_delay_ms: 100, max_delay_ms: 1000, max_attempts: 9 };
        let longest: Vec<i64> =
            (1..=6).map(|n| (0..2000).map(|random| policy.delay_ms(n, random)).max().unwrap()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1000, 1000]);
    }

    proptest! {
        #[test]
        fn jitter_stays_between_half_and_full(attempt in 0..u32::MAX, random: u64, first: u32, max: u32) {
            let policy = RetryPolicy { first_delay_ms: first, max_delay_ms: max, max_attempts: 1 };
            let full = (u64::from(first) << attempt.saturating_sub(1).min(31)).min(u64::from(max));
            let delay = policy.delay_ms(attempt, random);
            prop_assert!(i64::try_from(full / 2).unwrap() <= delay && delay <= i64::try_from(full).unwrap());
        }
    }
}
