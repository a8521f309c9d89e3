//! What Linux says of the load, of processors used and of memory held; and where benchmarks keep their data.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

/// Ticks of `/proc/PID/stat` in a second: USER_HZ, 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The load average of the last 1, 5 and 15 minutes.
pub fn load_average() -> Result<String> {
    let text = read("/proc/loadavg")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// Processors this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// CPU-seconds that a process and its ended threads used, to 10 ms.
pub fn cpu_seconds(process: u32) -> Result<f64> {
    let text = read(&format!("/proc/{process}/stat"))?;
    // The command's name may hold spaces and parentheses; numbers follow its last parenthesis (proc(5)).
    let numbers = text.rsplit_once(')').map(|(_, numbers)| numbers).context("/proc stat has no name")?;
    let ticks: Vec<f64> =
        numbers.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>().context("/proc stat")?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// Memory of a process that is in RAM now, in MB (10^6 bytes).
pub fn resident_mb(process: u32) -> Result<f64> {
    let text = read(&format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("/proc status has no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
    Ok(kib * 1024.0 / 1e6)
}

/// Where generated data is kept between runs: a real disk, unlike some `/tmp`.
pub fn data_dir() -> Result<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = path("SHUYU_CACHE")
        .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("shuyu")))
        .or_else(|| path("HOME").map(|home| home.join(".cache/shuyu")))
        .context("set SHUYU_CACHE or HOME")?;
    let dir = cache.join("bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    Ok(dir)
}

/// Milliseconds of making 300 bytes at the end of a file durable, `rounds` times.
pub fn sync_ms(dir: &Path, rounds: usize) -> Result<Vec<f64>> {
    use std::io::Write;
    let mut file = tempfile::tempfile_in(dir)?;
    let mut found = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        file.write_all(&[7; 300])?;
        file.sync_data()?;
        found.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(found)
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(resident_mb(std::process::id()).unwrap() > 1.0);
        assert_eq!(load_average().unwrap().split(' ').count(), 3);
    }
}
