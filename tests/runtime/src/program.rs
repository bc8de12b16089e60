//! The program under test.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::host;

/// The runtime that the tests run on, found once.
#[derive(Clone, Debug)]
pub struct Program {
    /// Absolute path.
    pub path: PathBuf,
    /// `hull`, `runc`, `crun`, or what its version line says.
    pub kind: String,
    /// Its version.
    pub version: String,
}

/// The program named by `RUNTIME`; by default the workspace's own hull, beside this test program.
///
/// # Panics
/// Where there is none.
pub fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = match std::env::var_os("RUNTIME") {
            Some(name) => search(&name),
            None => own_hull(),
        };
        let out = Command::new(&path)
            .arg("--version")
            .output()
            .unwrap_or_else(|e| panic!("{} --version: {e}", path.display()));
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let mut words = text.lines().next().unwrap_or("").split(' ');
        let kind = words.next().unwrap_or("").to_owned();
        let version = words.nth(1).unwrap_or("").to_owned();
        assert!(
            !kind.is_empty(),
            "{} --version prints no name",
            path.display()
        );
        Program {
            path,
            kind,
            version,
        }
    })
}

impl Program {
    /// `name-version`, what the first column of the table of deviations is matched with.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}-{}", self.kind, self.version)
    }

    /// A command that runs it.
    ///
    /// crun 1.8 refuses a hybrid cgroup hierarchy while the unified tree is mounted, so it runs
    /// in a mount namespace of its own where that is not. Propagation stays as it is, for tests
    /// of it.
    #[must_use]
    pub fn command(&self) -> Command {
        const WITHOUT_UNIFIED: &str = "mount --make-rprivate /sys/fs/cgroup && \
             umount /sys/fs/cgroup/unified && exec \"$0\" \"$@\"";
        if self.kind == "crun" && Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
            let mut cmd = Command::new("unshare");
            cmd.args(["--mount", "--propagation", "unchanged"]);
            cmd.args(["sh", "-c", WITHOUT_UNIFIED]).arg(&self.path);
            cmd
        } else {
            Command::new(&self.path)
        }
    }
}

fn search(name: &OsString) -> PathBuf {
    let path = Path::new(name);
    if path.components().count() > 1 {
        return std::fs::canonicalize(path)
            .unwrap_or_else(|e| panic!("RUNTIME={}: {e}", path.display()));
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs)
        .map(|dir| dir.join(path))
        .find(|p| p.is_file())
        .unwrap_or_else(|| panic!("RUNTIME={}: not in $PATH", path.display()))
}

/// `target/…/debug/deps/behaviour-…` lies beside `target/…/debug/hull`.
fn own_hull() -> PathBuf {
    let hull = host::build_dir().join("hull");
    assert!(
        hull.exists(),
        "{} is missing: cargo build -p hull, or set RUNTIME",
        hull.display()
    );
    hull
}
