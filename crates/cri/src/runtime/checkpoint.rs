//! CheckpointContainer, and the address range of the pods.

use pods::{Error, Kind};

use super::RuntimeApi;

impl RuntimeApi {
    pub(super) async fn checkpoint(
        &self,
        id: &str,
        location: &str,
        timeout: i64,
    ) -> pods::Result<()> {
        if location.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                "CheckpointContainer: no location given",
            ));
        }
        self.engine.checkpoint(id, location.into(), timeout).await
    }

    /// The kubelet's range of addresses. The built-in network has its own by configuration, and
    /// CNI plugins have theirs; it is told in `Status`.
    pub(super) fn set_pod_cidr(&self, cidr: &str) {
        if cidr.is_empty() {
            return;
        }
        tracing::info!(
            cidr,
            "UpdateRuntimeConfig: pod addresses come from hull.toml or the CNI configuration"
        );
        if let Ok(mut kept) = self.pod_cidr.lock() {
            cidr.clone_into(&mut kept);
        }
    }
}
