//! Figures 8 and 9: what the evidence ledger takes in, beside Tessera's POSIX log and the crate siglog on the same disk in
//! the same run.
//!
//! Every run is a process of its own on a new directory: ours is the example `ledger_load` of the ledger's crate, Tessera's
//! the Go program in `tests/oracles/go-tessera`, siglog's the program in `tests/oracles/siglog`, which `./x bench` builds if it
//! can. The directories (4 GB) are removed at the end, since a file system is slow to make files where it has just removed
//! some. Callers wait for each entry before they make the next one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Effort;
use crate::figure::{Aim, Report};
use crate::machine;
use crate::measure::median;

/// The rate that figure 8 asks for, in entries a second; acknowledgement times are taken at half of it.
const AIM_PER_S: f64 = 200_000.0;

/// What figure 9 asks for.
const TWIN_AIM_PER_S: f64 = 80_000.0;

/// What a reader must know of the rows of siglog.
const SIGLOG_NOTE: &str = "ledger: siglog 0.1.0 in its load program's process, without HTTP, set up as its own server does \
    it: SQLite (WAL, synchronous FULL: a sync for each batch), batches of up to 256 entries or 1 s, tiles in files, 512 \
    callers; its acknowledgement says durable, as ours. A caller that is answered `database is locked` tries again, and \
    that time counts. Its integration falls behind at that load: what a checkpoint covers is taken when the time is over";

/// What one run did.
struct Run {
    durable_per_s: f64,
    included_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Measures and reports.
pub fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let root = tempfile::tempdir_in(machine::data_dir()?)?;
    let bench = Bench { dir: root.path().to_owned(), load: load_program()?, tessera: build_tessera(root.path())? };
    let siglog_load = siglog_program();
    let rounds = effort.pick(7, 1);
    let (entries, callers) = (effort.pick("250000", "40000"), "8192");
    let half = (AIM_PER_S / 2.0).to_string();
    let (mut ours, mut twin, mut paced, mut tessera, mut siglog, mut syncs) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("ledger: round {} of {rounds}", round + 1);
        syncs.extend(machine::sync_ms(root.path(), 20)?);
        ours.push(bench.ours(&[entries, callers])?);
        tessera.push(bench.tessera(&[effort.pick("40000", "8000"), "4096"])?);
        if let Some(program) = &siglog_load {
            siglog.push(bench.run(program, &[effort.pick("10", "3"), "512"])?);
        }
        paced.push(bench.ours(&[effort.pick("250000", "50000"), "2048", "--rate", &half])?);
        twin.push(bench.ours(&[entries, callers, "--twin"])?);
    }
    let of = |runs: &[Run], what: fn(&Run) -> f64| median(&runs.iter().map(what).collect::<Vec<_>>());
    report.add(8, "durable entries, 300 B", of(&ours, |r| r.durable_per_s), "/s", Aim::AtLeast(AIM_PER_S));
    report.add(8, "until a signed checkpoint covers all", of(&ours, |r| r.included_per_s), "/s", Aim::None);
    report.add(8, "acknowledgement at half the aim, p50", of(&paced, |r| r.p50_ms), "ms", Aim::None);
    report.add(8, "acknowledgement at half the aim, p99", of(&paced, |r| r.p99_ms), "ms", Aim::AtMost(20.0));
    report.add(
        9,
        "durable entries with the SM3 twin",
        of(&twin, |r| r.durable_per_s),
        "/s",
        Aim::AtLeast(TWIN_AIM_PER_S),
    );
    report.add(9, "until both checkpoints cover all", of(&twin, |r| r.included_per_s), "/s", Aim::None);
    report.add(8, "Tessera POSIX: durable, integrated", of(&tessera, |r| r.durable_per_s), "/s", Aim::None);
    report.add(8, "Tessera POSIX: p99 at that load", of(&tessera, |r| r.p99_ms), "ms", Aim::None);
    if siglog.is_empty() {
        report.note("ledger: siglog could not be built, so its rows are missing; `./x bench ledger` says why");
    } else {
        report.add(8, "siglog: durable, not integrated", of(&siglog, |r| r.durable_per_s), "/s", Aim::None);
        report.add(8, "siglog: covered by a checkpoint", of(&siglog, |r| r.included_per_s), "/s", Aim::None);
        report.add(8, "siglog: p99 at that load", of(&siglog, |r| r.p99_ms), "ms", Aim::None);
        report.note(SIGLOG_NOTE);
    }
    report.add(8, "one fdatasync of 300 B", median(&syncs), "ms", Aim::None);
    report.note(
        "ledger: each rate is the median of runs in processes of their own, taken in turns on one disk; callers make their \
         entries and wait for them in that process too. Tessera 1.0.4 with batches of up to 4096 entries every 20 ms and \
         without its antispam; its acknowledgement says integrated, ours durable",
    );
    Ok(())
}

struct Bench {
    dir: PathBuf,
    load: PathBuf,
    tessera: PathBuf,
}

impl Bench {
    fn ours(&self, args: &[&str]) -> Result<Run> {
        self.run(&self.load, args)
    }

    fn tessera(&self, args: &[&str]) -> Result<Run> {
        self.run(&self.tessera, args)
    }

    fn run(&self, program: &Path, args: &[&str]) -> Result<Run> {
        let dir = tempfile::tempdir_in(&self.dir)?.keep();
        let ran = Command::new(program).arg(&dir).args(args).stderr(Stdio::inherit()).output();
        let ran = ran.with_context(|| format!("cannot run `{}`", program.display()))?;
        ensure!(ran.status.success(), "`{}` failed", program.display());
        let said: Value = serde_json::from_slice(&ran.stdout).context("what it printed is no JSON")?;
        let number = |name: &str| said.get(name).and_then(Value::as_f64).with_context(|| format!("no `{name}`"));
        let (entries, durable_s) = (number("entries")?, number("durable_s")?);
        // siglog's program does not wait until all is included, and says how much was when its time was over.
        let included_per_s = match number("covered") {
            Ok(covered) => covered / durable_s,
            Err(_) => entries / number("included_s")?,
        };
        Ok(Run {
            durable_per_s: entries / durable_s,
            included_per_s,
            p50_ms: number("p50_ms")?,
            p99_ms: number("p99_ms")?,
        })
    }
}

/// The example of `shuyu-ledger`, beside this program; `./x bench` builds both.
fn load_program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().context("this program has no directory")?.join("examples/ledger_load");
    ensure!(path.is_file(), "`{}` is missing; `./x bench ledger` builds it", path.display());
    Ok(path)
}

/// The program in `tests/oracles/siglog`, which `./x bench` builds and names; none if it could not be built.
fn siglog_program() -> Option<PathBuf> {
    std::env::var_os("SHUYU_SIGLOG").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn build_tessera(into: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracles/go-tessera");
    let program = into.join("go-tessera");
    let built = Command::new("go").arg("build").arg("-o").arg(&program).arg(".").current_dir(source).output();
    let built = built.context("`go` is not on PATH; `./x setup` installs it")?;
    ensure!(built.status.success(), "go build failed: {}", String::from_utf8_lossy(&built.stderr));
    Ok(program)
}
