//! What the kernel really has of the pods' network, beside what it should have.

use net::Holding;

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::operation::lock;
use crate::pod::PodPhase;

/// The network of one pod.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// The pod's id.
    pub id: String,
    /// What it is called; empty where there is no such pod.
    pub name: String,
    /// What is held for it.
    pub holding: Holding,
    /// What is not as it should be; empty where all is.
    pub differs: String,
}

impl Engine {
    /// What the kernel and the address pool hold, pod by pod. It asks the kernel much, and may
    /// block: not for a worker of tokio.
    ///
    /// # Errors
    /// What could not be read.
    pub fn attached(&self) -> Result<Vec<Attached>> {
        let network = &self.0.network;
        let failed = |e: net::Error| Error::new(Kind::Failed, e.to_string());
        let mut held = network.holdings().map_err(failed)?;
        let mut all = Vec::new();
        for pod in self.pods() {
            let (wanted, ips) = {
                let record = lock(&pod.record);
                (record.network, record.ips.clone())
            };
            let Some(holding) = held.remove(&pod.id) else {
                if wanted && pod.phase() == PodPhase::Ready {
                    all.push(Attached {
                        id: pod.id.clone(),
                        name: pod.name(),
                        differs: format!(
                            "nothing is held for it; it should have {}",
                            ips.join(", ")
                        ),
                        ..Attached::default()
                    });
                }
                continue;
            };
            let differs = if holding.by_plugins {
                // They are programs: a look at a page is not to run them.
                String::new()
            } else {
                let checked = network.check(&pod.id).err();
                checked.map(|e| e.to_string()).unwrap_or_default()
            };
            all.push(Attached {
                id: pod.id.clone(),
                name: pod.name(),
                holding,
                differs,
            });
        }
        all.extend(held.into_iter().map(|(id, holding)| Attached {
            id,
            name: String::new(),
            holding,
            differs: "no such pod: `hullctl doctor` tells more".to_owned(),
        }));
        Ok(all)
    }
}
