//! Layers that are mounted for containers that are gone: they keep an image from being removed.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use image::store::{Store, StoreOptions};

use super::leaks::{Kind, Leak};
use super::places::Places;
use super::users;

/// How long another writer of the store is waited for: a daemon has it for as long as it runs.
const WAIT: Duration = Duration::from_secs(2);

/// Everything that is held for nobody.
pub fn find(places: &Places) -> Result<Vec<Leak>> {
    let Some(root) = &places.store else {
        return Ok(Vec::new());
    };
    let store = match Store::open_read_only(root) {
        Ok(store) => store,
        Err(image::Error::Missing { .. }) => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("open {}", root.display())),
    };
    let mut mounts = store.mounts();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let living = places.living()?;
    mounts.retain(|m| {
        !living.contains(&m.id) && now.saturating_sub(m.created) >= places.grace.as_secs()
    });
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let elsewhere = users::foreign_mounts();
    mounts.retain(|m| {
        let part = format!("/{}/", m.id);
        !elsewhere.iter().any(|text| text.contains(&part))
    });
    let leak = |m: image::store::MountRecord| {
        let why = format!("no such container, but it keeps image {}", m.image);
        Leak::new(Kind::Image, &m.id, root.clone(), &why)
    };
    Ok(mounts.into_iter().map(leak).collect())
}

/// Unmounts it, and removes what the container had written.
pub fn remove(root: &Path, id: &str) -> Result<()> {
    let options = StoreOptions {
        wait: WAIT,
        rootless: runtime::is_rootless(),
        ..StoreOptions::default()
    };
    let store = Store::open_with(root, &options)
        .context("while hulld runs, it removes such things by itself at its next start")?;
    Ok(store.remove_rootfs(id)?)
}
