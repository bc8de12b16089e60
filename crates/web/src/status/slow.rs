//! What takes a while to find out: the disk and the network. It is asked for in the background, by
//! one at a time, so that a page comes at once also while a disk hangs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pods::Engine;

use super::{ContainerDisk, Disk, ImageDisk, Network};

/// How long a page waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is younger is not asked for again.
const FRESH: Duration = Duration::from_secs(2);

/// What is known.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub disk: Disk,
    pub network: Vec<Network>,
    /// Why something is missing or old.
    pub trouble: String,
}

#[derive(Debug, Default)]
struct Kept {
    known: Known,
    at: Option<Instant>,
    /// Since when somebody is at it.
    asking: Option<Instant>,
}

/// The last answer.
#[derive(Clone, Debug, Default)]
pub struct Slow(Arc<Mutex<Kept>>);

impl Slow {
    fn with<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known, as fresh as it can be had soon.
    pub async fn look(&self, engine: &Engine) -> Known {
        let is_mine = self.with(|kept| {
            let is_fresh = kept.at.is_some_and(|at| at.elapsed() < FRESH);
            let is_mine = kept.asking.is_none() && !is_fresh;
            if is_mine {
                kept.asking = Some(Instant::now());
            }
            is_mine
        });
        if is_mine {
            let (slow, engine) = (self.clone(), engine.clone());
            let work = tokio::task::spawn_blocking(move || {
                let known = ask(&engine);
                slow.with(|kept| {
                    kept.known = known;
                    kept.at = Some(Instant::now());
                    kept.asking = None;
                });
            });
            // Too late for this page is in time for the next.
            let _ = tokio::time::timeout(PATIENCE, work).await;
        }
        self.with(|kept| {
            let mut known = kept.known.clone();
            if let Some(since) = kept.asking
                && since.elapsed() >= PATIENCE
            {
                let seconds = since.elapsed().as_secs();
                known.trouble =
                    format!("disk and network: no answer for {seconds} s, shown as before");
            }
            known
        })
    }
}

fn ask(engine: &Engine) -> Known {
    let mut trouble = Vec::new();
    let disk = disk(engine).unwrap_or_else(|e| {
        trouble.push(format!("disk: {e}"));
        Disk::default()
    });
    let attached = engine.attached().unwrap_or_else(|e| {
        trouble.push(format!("network: {e}"));
        Vec::new()
    });
    let network = attached.into_iter().map(|a| Network {
        pod: if a.name.is_empty() { a.id } else { a.name },
        addresses: a
            .holding
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect(),
        links: a.holding.links,
        ports: a.holding.ports,
        elements: a.holding.elements,
        differs: a.differs,
    });
    Known {
        disk,
        network: network.collect(),
        trouble: trouble.join("; "),
    }
}

fn disk(engine: &Engine) -> Result<Disk, String> {
    let store = engine.images();
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let usage = store.df().map_err(|e| text(&e))?;
    let fs = store.fs_info().map_err(|e| text(&e))?;
    let images = store.images().map_err(|e| text(&e))?;
    let names: HashMap<String, String> = images
        .iter()
        .map(|i| {
            (
                i.id.to_string(),
                i.names.iter().cloned().collect::<Vec<_>>().join(", "),
            )
        })
        .collect();
    let image = |i: &image::store::ImageUsage| {
        let id = i.id.to_string();
        let name = names.get(&id).filter(|n| !n.is_empty());
        ImageDisk {
            name: name.cloned().unwrap_or(id),
            exclusive: i.exclusive,
            shared: i.shared,
            containers: i.containers.len(),
        }
    };
    let container = |(id, bytes, inodes): (String, u64, u64)| ContainerDisk { id, bytes, inodes };
    Ok(Disk {
        path: fs.mountpoint.display().to_string(),
        layers: usage.layers,
        reclaimable: usage.reclaimable,
        free: fs.free_bytes,
        images: usage.images.iter().map(image).collect(),
        containers: usage.containers.into_iter().map(container).collect(),
    })
}
