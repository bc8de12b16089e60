//! Which OCI runtime is under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What sort of program the runtime is; tests only use it for known limits of the peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Ours.
    Hull,
    /// opencontainers/runc.
    Runc,
    /// containers/crun.
    Crun,
    /// Anything else.
    Other,
}

/// The runtime under test.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// What it calls itself.
    pub kind: Kind,
}

impl Runtime {
    /// `$RUNTIME`, or hull from this workspace.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn under_test() -> Self {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME
            .get_or_init(|| {
                let path =
                    std::env::var_os("RUNTIME").map_or_else(Self::workspace_hull, PathBuf::from);
                Self::at(&path)
            })
            .clone()
    }

    /// The program that this workspace builds, whatever is under test.
    ///
    /// # Panics
    /// When it does not build.
    pub fn workspace_hull() -> PathBuf {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        BUILT.get_or_init(|| built("hull")).clone()
    }

    /// The runtime at `path`, asked for its name.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn at(path: &Path) -> Self {
        let path = path
            .canonicalize()
            .unwrap_or_else(|e| panic!("runtime {}: {e}", path.display()));
        let out = Command::new(&path).arg("--version").output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        let kind = match text.split_whitespace().next() {
            Some("hull") => Kind::Hull,
            Some("runc") => Kind::Runc,
            Some("crun") => Kind::Crun,
            _ => Kind::Other,
        };
        Self { path, kind }
    }

    /// Whether this runtime refuses to work while the cgroup v2 tree of a hybrid machine is
    /// mounted, as crun does.
    pub fn refuses_hybrid(&self) -> bool {
        self.kind == Kind::Crun
    }
}

/// Builds one of the workspace's programs and tells where it is: beside this test program.
///
/// # Panics
/// When it does not build.
pub fn built(program: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let test = std::env::current_exe().unwrap();
    // target/TRIPLE/PROFILE/deps/NAME-HASH
    let profile = test.ancestors().nth(2).expect("a test runs from target/");
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", program]);
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let status = build.status().expect("cargo starts");
    assert!(
        status.success(),
        "cargo build --package {program}: {status}"
    );
    profile.join(program)
}
