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

    /// The kubelet's range of addresses: one subnet, or one of each family with a comma between.
    pub(super) async fn set_pod_cidr(&self, cidr: &str) -> pods::Result<()> {
        if cidr.is_empty() {
            return Ok(());
        }
        self.engine.set_pod_subnets(cidr).await?;
        tracing::info!(cidr, "UpdateRuntimeConfig: the pods' subnets");
        Ok(())
    }
}
