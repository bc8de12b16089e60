//! Layers that are mounted for containers that are gone: they keep an image from being removed.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use image::store::{Store, StoreOptions};

use super::leaks::{Kind, Leak};
use super::places::{GRACE, Places};

/// How long another writer of the store is waited for: a daemon has it for as long as it runs.
const WAIT: Duration = Duration::from_secs(2);

/// Everything that is held for nobody.
pub fn find(places: &Places) -> Result<Vec<Leak>> {
    let store = match Store::open_read_only(&places.store) {
        Ok(store) => store,
        Err(image::Error::Missing { .. }) => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("open {}", places.store.display())),
    };
    let mounts = store.mounts()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let living = places.living()?;
    let left = mounts
        .into_iter()
        .filter(|m| !living.contains(&m.id) && now.saturating_sub(m.created) > GRACE.as_secs());
    let leak = |m: image::store::MountRecord| {
        let why = format!("no such container, but it keeps image {}", m.image);
        Leak::new(Kind::Image, &m.id, places.store.clone(), &why)
    };
    Ok(left.map(leak).collect())
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
