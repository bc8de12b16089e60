//! Login and logout: the file is rewritten in one step, and what it holds besides stays.

use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{AuthFiles, bad, helper, plain_host, read, server_of};
use crate::transport::files::{Pending, at, read_limited};
use crate::{Error, Result};

impl AuthFiles {
    /// Keeps credentials under `key` (`HOST` or `HOST/REPOSITORY`): in the file that a login
    /// writes to, or in the helper that it names.
    ///
    /// # Errors
    /// The file cannot be written or the helper failed.
    pub fn login(&self, key: &str, user: &str, password: &str) -> Result<()> {
        let path = self.target(key)?;
        let host = key.split('/').next().unwrap_or(key);
        if let Some(helper) = helper_of(path, host)? {
            return helper::store(&helper, &server_of(host), user, password);
        }
        let auth = STANDARD.encode(format!("{user}:{password}"));
        update(path, |auths| {
            auths.insert(key.to_owned(), json!({ "auth": auth }));
            true
        })
        .map(drop)
    }

    /// Forgets the credentials under `key`; whether there were any.
    ///
    /// # Errors
    /// The file cannot be written or the helper failed.
    pub fn logout(&self, key: &str) -> Result<bool> {
        let path = self.target(key)?;
        let host = key.split('/').next().unwrap_or(key);
        let mut known = false;
        if let Some(helper) = helper_of(path, host)? {
            known = helper::erase(&helper, &server_of(host))?;
        }
        let removed = update(path, |auths| {
            let before = auths.len();
            auths.retain(|k, _| k != key && plain_host(k) != key);
            auths.len() != before
        })?;
        Ok(known || removed)
    }

    /// Forgets all that the file holds.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn logout_all(&self) -> Result<()> {
        let path = self.target("")?;
        update(path, |auths| {
            auths.clear();
            true
        })
        .map(drop)
    }

    fn target(&self, key: &str) -> Result<&Path> {
        self.writable().ok_or_else(|| Error::Missing {
            what: format!("a file for the credentials of {key}"),
            why: "neither $REGISTRY_AUTH_FILE nor $XDG_RUNTIME_DIR nor $HOME is set".to_owned(),
        })
    }
}

fn helper_of(path: &Path, host: &str) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let file = read(path)?;
    let store = Some(file.creds_store).filter(|s| !s.is_empty());
    Ok(file.cred_helpers.get(host).cloned().or(store))
}

/// Changes `auths`; writes only if `change` says so.
fn update(path: &Path, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool> {
    let mut file = if path.exists() {
        let bytes = read_limited(path, super::LIMIT)?;
        match bytes.as_slice() {
            [] => Map::new(),
            bytes => serde_json::from_slice(bytes).map_err(|e| bad(path, &e.to_string()))?,
        }
    } else {
        Map::new()
    };
    let auths = file.entry("auths").or_insert_with(|| json!({}));
    let Value::Object(auths) = auths else {
        return Err(bad(path, "`auths` is not an object"));
    };
    if !change(auths) {
        return Ok(false);
    }
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    if !dir.exists() {
        std::fs::create_dir_all(dir).map_err(at("create", dir))?;
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(dir, private).map_err(at("protect", dir))?;
    }
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(|e| bad(path, &e.to_string()))?;
    bytes.push(b'\n');
    let mut pending = Pending::create(dir)?;
    let private = std::fs::Permissions::from_mode(0o600);
    // Before anything secret is in it.
    pending
        .file()
        .set_permissions(private)
        .map_err(at("protect", path))?;
    pending
        .file()
        .write_all(&bytes)
        .map_err(at("write", path))?;
    pending.rename(path)?;
    Ok(true)
}
