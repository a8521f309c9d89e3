//! Killing a node right before a chosen effect: a write, a flush, a rename, or bytes that leave through a socket.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("kill_at.c");

/// When a node that was started with it shall die; see `kill_at.c`.
pub struct KillPlan {
    file: File,
    path: PathBuf,
    library: PathBuf,
}

impl KillPlan {
    /// A plan that kills nothing yet, kept in `dir`; compiles the preloaded library with `cc`.
    pub fn new(dir: &Path) -> Self {
        let (source, library, path) = (dir.join("kill_at.c"), dir.join("kill_at.so"), dir.join("kill.plan"));
        std::fs::write(&source, SOURCE).expect("temporary directory can be written");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
        assert!(built.is_ok_and(|status| status.success()), "cc could not build kill_at.c (install build-essential)");
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("plan can be made");
        let plan = Self { file, path, library };
        plan.kill_at(0);
        plan
    }

    /// Counts from 0 again and kills right before effect `n`; never for 0.
    pub fn kill_at(&self, n: u64) {
        let write = |at, value: u64| self.file.write_all_at(&value.to_ne_bytes(), at).expect("plan can be written");
        write(0, 0);
        write(8, 0);
        write(0, n);
    }

    /// Effects since the last [`KillPlan::kill_at`].
    pub fn effects(&self) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 8).expect("plan can be read");
        u64::from_ne_bytes(bytes)
    }

    /// What the node's environment needs.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("SHUYU_KILL_PLAN", &self.path)]
    }
}
