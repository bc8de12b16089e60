//! `registries.d` (containers-registries.d(5)): where simple-signing signatures are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::transport::files;
use crate::{Digest, Error, Reference, Result};

const LIMIT: u64 = 1 << 20;

/// Where signatures are looked for.
#[derive(Clone, Debug, Default)]
pub struct Lookaside {
    default: Option<String>,
    scopes: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    #[serde(rename = "default-docker")]
    default_docker: Option<Place>,
    docker: BTreeMap<String, Place>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Place {
    lookaside: Option<String>,
    /// What `lookaside` was called before.
    sigstore: Option<String>,
}

impl Place {
    fn url(self) -> Option<String> {
        self.lookaside.or(self.sigstore)
    }
}

impl Lookaside {
    /// Reads the user's or the machine's files.
    ///
    /// # Errors
    /// A file that is not what it should be.
    pub fn system() -> Result<Self> {
        let own = super::user_config("containers/registries.d").filter(|d| d.is_dir());
        Self::load(&own.unwrap_or_else(|| PathBuf::from("/etc/containers/registries.d")))
    }

    /// Reads the `*.yaml` of a directory; one that is not there says nothing.
    ///
    /// # Errors
    /// A file that is not what it should be, or two that say different things.
    pub fn load(dir: &std::path::Path) -> Result<Self> {
        let mut all = Self::default();
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Ok(all);
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "yaml"));
        paths.sort();
        for path in paths {
            let bytes = files::read_limited(&path, LIMIT)?;
            let text = String::from_utf8_lossy(&bytes);
            all.merge(&text).map_err(|why| Error::Document {
                what: "registries.d",
                why: format!("{}: {why}", path.display()),
            })?;
        }
        Ok(all)
    }

    fn merge(&mut self, text: &str) -> std::result::Result<(), String> {
        // An empty file, or one of comments, is no mapping.
        let file: Option<File> = serde_saphyr::from_str(text).map_err(|e| {
            e.to_string()
                .lines()
                .next()
                .unwrap_or("not YAML")
                .to_owned()
        })?;
        let file = file.unwrap_or_default();
        if let Some(url) = file.default_docker.and_then(Place::url)
            && self.default.replace(url).is_some()
        {
            return Err("default-docker is set in two files".to_owned());
        }
        for (scope, place) in file.docker {
            if let Some(url) = place.url()
                && self.scopes.insert(scope.clone(), url).is_some()
            {
                return Err(format!("{scope} is set in two files"));
            }
        }
        Ok(())
    }

    /// The URL of signature number `n` (from 1) of a manifest; `None` where nothing is
    /// configured.
    #[must_use]
    pub fn url(&self, reference: &Reference, digest: &Digest, n: usize) -> Option<String> {
        let base = self.base(reference)?.trim_end_matches('/');
        let (algorithm, hex) = (digest.algorithm().name(), digest.hex());
        Some(format!(
            "{base}/{}@{algorithm}={hex}/signature-{n}",
            reference.path()
        ))
    }

    /// The most specific scope's.
    fn base(&self, reference: &Reference) -> Option<&str> {
        let keys = super::policy::registry_keys(reference);
        let found = keys.iter().find_map(|key| self.scopes.get(key));
        found.or(self.default.as_ref()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_scope_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("a.yaml", "# nothing\n");
        write(
            "b.yaml",
            "default-docker:\n  sigstore: file:///var/lib/sigs\n",
        );
        write(
            "c.yaml",
            "docker:\n  r.io/team:\n    lookaside: https://sigs.io/x/\n    lookaside-staging: file:///s\n",
        );
        write("README", "no: [");
        let all = Lookaside::load(dir.path()).unwrap();
        let digest = Digest::of(b"");
        let url = |name: &str| {
            all.url(&Reference::parse(name).unwrap(), &digest, 2)
                .unwrap()
        };
        let hex = digest.hex();
        assert_eq!(
            url("r.io/team/app:1"),
            format!("https://sigs.io/x/team/app@sha256={hex}/signature-2")
        );
        assert_eq!(
            url("busybox"),
            format!("file:///var/lib/sigs/library/busybox@sha256={hex}/signature-2")
        );
        write("d.yaml", "default-docker:\n  lookaside: file:///other\n");
        assert!(Lookaside::load(dir.path()).is_err());
        let nowhere = Lookaside::load(&dir.path().join("x")).unwrap();
        assert_eq!(
            nowhere.url(&Reference::parse("a").unwrap(), &digest, 1),
            None
        );
    }
}
