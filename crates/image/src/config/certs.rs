//! `certs.d/HOST[:PORT]/`: authorities (`*.crt`) and client certificates (`*.cert` with `*.key`)
//! for one registry (containers-certs.d(5)).

use std::path::{Path, PathBuf};

use crate::transport::files::{at, read_limited};
use crate::{Error, Result};

const LIMIT: u64 = 1 << 20;

/// Where certificates are looked for.
#[derive(Clone, Debug, Default)]
pub struct CertDirs {
    exact: Option<PathBuf>,
    roots: Vec<PathBuf>,
}

/// What was found for a host, PEM.
#[derive(Clone, Debug, Default)]
pub struct HostCerts {
    /// Authorities, besides the machine's own.
    pub authorities: Vec<Vec<u8>>,
    /// Certificate chain and key to show to the registry.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl CertDirs {
    /// The user's and the machine's directories.
    #[must_use]
    pub fn system() -> Self {
        let mut roots = Vec::new();
        roots.extend(super::user_config("containers/certs.d"));
        roots.push(PathBuf::from("/etc/containers/certs.d"));
        roots.push(PathBuf::from("/etc/docker/certs.d"));
        Self { exact: None, roots }
    }

    /// One directory for every host (`--cert-dir`).
    #[must_use]
    pub fn exact(dir: PathBuf) -> Self {
        Self {
            exact: Some(dir),
            roots: Vec::new(),
        }
    }

    /// Reads what there is for `host`.
    ///
    /// # Errors
    /// A file is not readable, or a certificate has no key.
    pub fn for_host(&self, host: &str) -> Result<HostCerts> {
        if let Some(dir) = &self.exact {
            return read(dir);
        }
        // A host is no path: checked references have no slash and no dots alone in it.
        let found = self.roots.iter().map(|r| r.join(host)).find(|d| d.is_dir());
        found.map_or_else(|| Ok(HostCerts::default()), |dir| read(&dir))
    }
}

fn read(dir: &Path) -> Result<HostCerts> {
    let entries = std::fs::read_dir(dir).map_err(at("read", dir))?;
    let mut names: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    names.sort();
    let mut certs = HostCerts::default();
    for path in names {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => certs.authorities.push(read_limited(&path, LIMIT)?),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(Error::Missing {
                        what: key.display().to_string(),
                        why: format!("the key of {}", path.display()),
                    });
                }
                certs.client = Some((read_limited(&path, LIMIT)?, read_limited(&key, LIMIT)?));
            }
            _ => {}
        }
    }
    Ok(certs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hosts_files() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("r.io:5000");
        std::fs::create_dir(&host).unwrap();
        for (name, text) in [
            ("ca.crt", "A"),
            ("c.cert", "C"),
            ("c.key", "K"),
            ("README", "no"),
        ] {
            std::fs::write(host.join(name), text).unwrap();
        }
        let dirs = CertDirs {
            exact: None,
            roots: vec![dir.path().to_owned()],
        };
        let found = dirs.for_host("r.io:5000").unwrap();
        assert_eq!(found.authorities, [b"A"]);
        assert_eq!(found.client, Some((b"C".to_vec(), b"K".to_vec())));
        assert!(dirs.for_host("r.io").unwrap().authorities.is_empty());
        std::fs::remove_file(host.join("c.key")).unwrap();
        assert!(CertDirs::exact(host).for_host("other").is_err());
    }
}
