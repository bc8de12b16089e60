//! The programs that are measured, and how they are called.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::child::Command;

/// One OCI runtime.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What the table calls it.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Its first version line.
    pub version: String,
    /// Its own state root.
    pub state: PathBuf,
}

impl Peer {
    /// The runtime called `name` at `path`, its state root in `states`.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn new(name: &str, path: &Path, states: &Path) -> Result<Self> {
        let out = std::process::Command::new(path).arg("--version").output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let Some(version) = text.lines().next().filter(|_| out.status.success()) else {
            bail!("{} --version: {}", path.display(), out.status);
        };
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            version: version.to_owned(),
            state: states.join(name),
        })
    }

    /// `RUNTIME --root STATE words...`
    ///
    /// # Errors
    /// A NUL byte in a word.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let state = self.state.display().to_string();
        let global = ["--root", &state];
        Command::new(&self.path, global.into_iter().chain(words.iter().copied()))
    }
}

/// Looks for the runtimes: hull where it was built, the others in the administrator's path, youki
/// also where `cargo install --root target/youki` puts it.
pub fn find(hull: &Path, states: &Path) -> (Vec<Peer>, Vec<String>) {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let in_path = |name: &str| {
        let dirs = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
        let mut paths = dirs.iter().map(|d| Path::new(d).join(name));
        paths.find(|p| p.exists())
    };
    let youki = Path::new("target/youki/bin/youki");
    let candidates = [
        ("hull", Some(hull.to_owned()).filter(|p| p.exists())),
        ("crun", in_path("crun")),
        ("runc", in_path("runc")),
        (
            "youki",
            in_path("youki").or_else(|| youki.canonicalize().ok()),
        ),
    ];
    for (name, path) in candidates {
        let Some(path) = path else {
            missing.push(format!("{name} was not found"));
            continue;
        };
        match Peer::new(name, &path, states) {
            Ok(peer) => found.push(peer),
            Err(e) => missing.push(format!("{name}: {e:#}")),
        }
    }
    (found, missing)
}
