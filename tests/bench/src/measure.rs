//! Medians, percentiles, and two ways of doing one thing, taken in turns.

use std::time::Instant;

use anyhow::Result;

use crate::machine::cpu_seconds;

/// The value below which a share of the values lies (nearest rank); not a number if there are none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The mean of ratios.
pub fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

/// Two ways of doing one thing.
#[derive(Clone, Copy, Debug)]
pub struct Versus {
    /// Median over the rounds of our wall time by theirs.
    pub wall: f64,
    /// CPU-seconds of all our rounds by those of all theirs. Not a number if theirs are below what can be measured.
    pub cpu: f64,
    /// Median wall time of ours, in seconds.
    pub ours_s: f64,
    /// Median wall time of theirs, in seconds.
    pub theirs_s: f64,
}

/// Does both in turns, the order changing every round, after one round that does not count. Both ends of either way
/// run in this process.
pub async fn versus(
    rounds: usize,
    mut ours: impl AsyncFnMut() -> Result<()>,
    mut theirs: impl AsyncFnMut() -> Result<()>,
) -> Result<Versus> {
    ours().await?;
    theirs().await?;
    let (mut ratios, mut our_walls, mut their_walls) = (Vec::new(), Vec::new(), Vec::new());
    let (mut our_cpu, mut their_cpu) = (0.0, 0.0);
    for round in 0..rounds {
        let (our, their);
        if round % 2 == 0 {
            our = timed(&mut ours).await?;
            their = timed(&mut theirs).await?;
        } else {
            their = timed(&mut theirs).await?;
            our = timed(&mut ours).await?;
        }
        ratios.push(our.wall_s / their.wall_s);
        our_walls.push(our.wall_s);
        their_walls.push(their.wall_s);
        our_cpu += our.cpu_s;
        their_cpu += their.cpu_s;
    }
    let cpu = if their_cpu > 0.0 { our_cpu / their_cpu } else { f64::NAN };
    Ok(Versus { wall: median(&ratios), cpu, ours_s: median(&our_walls), theirs_s: median(&their_walls) })
}

struct Cost {
    wall_s: f64,
    cpu_s: f64,
}

async fn timed(work: &mut impl AsyncFnMut() -> Result<()>) -> Result<Cost> {
    let cpu = cpu_seconds(std::process::id())?;
    let begun = Instant::now();
    work().await?;
    let wall_s = begun.elapsed().as_secs_f64();
    Ok(Cost { wall_s, cpu_s: cpu_seconds(std::process::id())? - cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!((median(&values), quantile(&values, 0.99), quantile(&values, 0.0)), (3.0, 5.0, 1.0));
        assert!(median(&[]).is_nan());
        assert!((geometric_mean(&[1.0, 4.0]) - 2.0).abs() < 1e-9);
    }
}
