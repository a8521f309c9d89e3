//! How long callers waited, in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in milliseconds; one more takes the rest.
pub const LATENCY_BOUNDS_MS: [u64; 13] = [1, 2, 5, 8, 10, 15, 20, 50, 100, 250, 500, 1000, 5000];

/// Counts of waiting times since the ledger was opened.
#[derive(Debug, Default)]
pub struct Latency {
    counts: [AtomicU64; LATENCY_BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    pub(crate) fn observe(&self, waited: Duration, count: u64) {
        let us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MS.partition_point(|bound| bound * 1000 < us);
        if let Some(bucket) = self.counts.get(bucket) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us.saturating_mul(count), Ordering::Relaxed);
    }

    /// How many waited at most as long as each bound and longer than the bound before; last those who waited longer than
    /// all.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// The sum of all waiting times, in seconds.
    pub fn sum_s(&self) -> f64 {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// The waiting times of each level of acknowledgement, from the call of `append`.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Until the entry was durable.
    pub durable: std::sync::Arc<Latency>,
    /// Until a signed checkpoint covered it. Counted for whole batches by their oldest entry.
    pub included: std::sync::Arc<Latency>,
    /// Until a quorum of witnesses had cosigned such a checkpoint. Counted likewise; nothing where there are no witnesses.
    pub witnessed: std::sync::Arc<Latency>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_below_the_bound_it_does_not_exceed() {
        let latency = Latency::default();
        for (us, count) in [(0, 1), (1000, 1), (1001, 2), (5_000_000, 1), (5_000_001, 3)] {
            latency.observe(Duration::from_micros(us), count);
        }
        let counts = latency.counts();
        assert_eq!((counts[0], counts[1], counts[12], counts[13]), (2, 2, 1, 3));
        assert!((latency.sum_s() - 20.003_005).abs() < 1e-6);
    }
}
