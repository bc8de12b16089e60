//! Credentials: `auth.json`, Docker's `config.json`, and credential helpers
//! (containers-auth.json(5)).

mod helper;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::transport::files;
use crate::{DEFAULT_HOST, Error, Reference, Result};

const LIMIT: u64 = 8 << 20;
/// Docker's key for Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What proves who somebody is. Never shown by `Debug`.
#[derive(Clone, Eq, PartialEq)]
pub enum Credentials {
    /// Name and password.
    Basic {
        /// Name.
        user: String,
        /// Password.
        password: String,
    },
    /// An OAuth2 refresh token.
    Identity(String),
    /// A bearer token to send as it is.
    Bearer(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user})"),
            Self::Identity(_) => f.write_str("Identity"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

impl Credentials {
    /// Reads `USER[:PASSWORD]`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Self::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }

    /// Reads `USER:PASSWORD` in base64, as credential files and the CRI have it.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_base64(text: &str) -> std::result::Result<Self, &'static str> {
        let bytes = STANDARD
            .decode(text.trim())
            .map_err(|_| "`auth` is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "`auth` is not text")?;
        let (user, password) = text.split_once(':').ok_or("`auth` is not USER:PASSWORD")?;
        Ok(Self::Basic {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        })
    }
}

/// The files that are searched for credentials, and the one that a login writes to.
#[derive(Clone, Debug, Default)]
pub struct AuthFiles {
    files: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    identitytoken: String,
}

impl AuthFiles {
    /// The places that podman, skopeo and Docker use: `$REGISTRY_AUTH_FILE`, the runtime and the
    /// configuration directory's `containers/auth.json`, Docker's `config.json`.
    #[must_use]
    pub fn system() -> Self {
        if let Some(file) = std::env::var_os("REGISTRY_AUTH_FILE") {
            return Self::only(PathBuf::from(file));
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.map_or_else(
            || {
                let uid = rustix::process::getuid().as_raw();
                PathBuf::from(format!("/run/containers/{uid}/auth.json"))
            },
            |dir| dir.join("containers/auth.json"),
        );
        let docker = std::env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(super::home()?.join(".docker")));
        let mut files = vec![runtime];
        files.extend(super::user_config("containers/auth.json"));
        files.extend(docker.map(|d| d.join("config.json")));
        Self { files }
    }

    /// One file and no other (`--authfile`).
    #[must_use]
    pub fn only(file: PathBuf) -> Self {
        Self { files: vec![file] }
    }

    /// The file that a login writes to.
    #[must_use]
    pub fn writable(&self) -> Option<&Path> {
        self.files.first().map(PathBuf::as_path)
    }

    /// The credentials for a repository: those of the longest matching key of the first file that
    /// has any.
    ///
    /// # Errors
    /// A file that is not what it should be, or a helper that failed.
    pub fn find(&self, reference: &Reference) -> Result<Option<Credentials>> {
        for path in self.files.iter().filter(|p| p.exists()) {
            let file = read(path)?;
            if let Some(found) = file.find(reference, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whose credentials are there for a host (`login --get-login`).
    ///
    /// # Errors
    /// As [`AuthFiles::find`].
    pub fn login_of(&self, host: &str) -> Result<Option<String>> {
        let reference = Reference::parse(&format!("{host}/x"))?;
        Ok(self.find(&reference)?.map(|c| match c {
            Credentials::Basic { user, .. } => user,
            Credentials::Identity(_) | Credentials::Bearer(_) => "<token>".to_owned(),
        }))
    }
}

fn read(path: &Path) -> Result<File> {
    let bytes = files::read_limited(path, LIMIT)?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(File::default());
    }
    serde_json::from_slice(&bytes).map_err(|e| bad(path, &e.to_string()))
}

fn bad(path: &Path, why: &str) -> Error {
    Error::Document {
        what: "credentials",
        why: format!("{}: {why}", path.display()),
    }
}

impl File {
    fn find(&self, reference: &Reference, path: &Path) -> Result<Option<Credentials>> {
        let host = reference.host();
        if let Some(name) = self.cred_helpers.get(host) {
            return helper::get(name, &server_of(host));
        }
        if let Some(entry) = self.entry(reference)
            && let Some(found) = entry.credentials().map_err(|why| bad(path, why))?
        {
            return Ok(Some(found));
        }
        if self.creds_store.is_empty() {
            return Ok(None);
        }
        helper::get(&self.creds_store, &server_of(host))
    }

    /// The most specific entry: `host/a/b`, `host/a`, `host`, then Docker's old spellings.
    fn entry(&self, reference: &Reference) -> Option<&Entry> {
        let mut key = reference.name();
        loop {
            if let Some(entry) = self.auths.get(&key) {
                return Some(entry);
            }
            match key.rfind('/') {
                Some(at) => key.truncate(at),
                None => break,
            }
        }
        self.auths
            .iter()
            .find(|(key, _)| plain_host(key) == reference.host())
            .map(|(_, entry)| entry)
    }
}

impl Entry {
    fn credentials(&self) -> std::result::Result<Option<Credentials>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        Credentials::from_base64(&self.auth).map(Some)
    }
}

/// `https://index.docker.io/v1/` → `docker.io`.
fn plain_host(key: &str) -> &str {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let Some(rest) = rest else {
        return match key {
            "index.docker.io" | "registry-1.docker.io" => DEFAULT_HOST,
            _ => key,
        };
    };
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_HOST,
        host => host,
    }
}

/// What a helper calls a host.
fn server_of(host: &str) -> String {
    if host == DEFAULT_HOST {
        HUB_KEY.to_owned()
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests;
