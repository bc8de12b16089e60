//! What is told about pods, containers and this runtime: lists, statuses, the verbose part.

use std::collections::BTreeMap;

use cri_api::v1;
use pods::oci::cgroup::Driver;
use serde_json::json;

use super::events::newest_first;
use super::{RuntimeApi, filter};

/// Our name in `Version`.
const NAME: &str = "hull";

impl RuntimeApi {
    pub(super) fn about_version(&self) -> v1::VersionResponse {
        v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: NAME.to_owned(),
            runtime_version: self.version.clone(),
            runtime_api_version: "v1".to_owned(),
        }
    }

    pub(super) fn list_pods(&self, asked: Option<&v1::PodSandboxFilter>) -> Vec<v1::PodSandbox> {
        let all = self.engine.pods().into_iter().map(|p| p.summary());
        all.filter(|p| filter::pod(asked, p)).collect()
    }

    pub(super) fn list_containers(
        &self,
        asked: Option<&v1::ContainerFilter>,
    ) -> Vec<v1::Container> {
        let all = self.engine.containers().into_iter().map(|c| c.summary());
        all.filter(|c| filter::container(asked, c)).collect()
    }

    pub(super) fn pod_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> pods::Result<v1::PodSandboxStatusResponse> {
        // Before anything is read: what changes meanwhile comes as an event with a later time.
        let timestamp = now();
        let pod = self.engine.pod(id)?;
        let record = pod.record();
        let mut info = BTreeMap::new();
        if verbose {
            let bundle = pod.dir.join("sandbox");
            let text = json!({
                "pid": record.pid,
                "cgroupParent": record.cgroup_parent,
                "runtimeHandler": record.handler,
                "bootID": record.boot,
                "ips": record.ips,
                "directory": pod.dir,
                "runtimeSpec": specification(&bundle),
            });
            info.insert("info".to_owned(), text.to_string());
        }
        let containers = self.engine.containers_of(&pod.id);
        Ok(v1::PodSandboxStatusResponse {
            status: Some(pod.status()),
            info,
            containers_statuses: newest_first(&containers),
            timestamp,
        })
    }

    pub(super) fn container_status(
        &self,
        id: &str,
        verbose: bool,
    ) -> pods::Result<v1::ContainerStatusResponse> {
        let container = self.engine.container(id)?;
        let record = container.record();
        let mut info = BTreeMap::new();
        if verbose {
            let bundle = container.pod.dir.join(&container.id);
            let text = json!({
                "sandboxID": record.pod,
                "pid": record.pid,
                "imageID": record.image_id,
                "cgroupsPath": record.cgroups_path,
                "bundle": bundle,
                "runtimeSpec": specification(&bundle),
            });
            info.insert("info".to_owned(), text.to_string());
        }
        Ok(v1::ContainerStatusResponse {
            status: Some(container.status()),
            info,
        })
    }

    pub(super) async fn about_status(&self, verbose: bool) -> v1::StatusResponse {
        let network = self.engine.network_status().await;
        let condition = |kind: &str, reason: Option<(&str, String)>| v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status: reason.is_none(),
            reason: reason.as_ref().map(|r| r.0.to_owned()).unwrap_or_default(),
            message: reason.map(|r| r.1).unwrap_or_default(),
        };
        let why = network.filter(|n| !n.ready).map(|n| (n.reason, n.message));
        let features = v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: true,
        };
        let settings = self.engine.settings();
        let names = ["", pods::BUILT_IN]
            .into_iter()
            .chain(settings.handlers.keys().map(String::as_str));
        let mut info = BTreeMap::new();
        if verbose {
            info.insert("config".to_owned(), (self.describe)());
            info.insert(
                "operations".to_owned(),
                self.running_operations().to_string(),
            );
            info.insert("podCIDR".to_owned(), self.engine.pod_subnets());
        }
        v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", None),
                    condition("NetworkReady", why),
                ],
            }),
            info,
            runtime_handlers: names
                .map(|name| v1::RuntimeHandler {
                    name: name.to_owned(),
                    features: Some(features),
                })
                .collect(),
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: true,
            }),
        }
    }

    fn running_operations(&self) -> serde_json::Value {
        let all = self.engine.operations().running();
        all.iter()
            .map(|o| {
                json!({
                    "operation": o.kind,
                    "subject": o.subject,
                    "seconds": o.age.as_secs_f64(),
                    "stage": o.stage,
                    "stageSeconds": o.stage_age.as_secs_f64(),
                    "bytes": o.bytes.0,
                    "bytesExpected": o.bytes.1,
                })
            })
            .collect()
    }

    pub(super) fn runtime_config(&self) -> v1::RuntimeConfigResponse {
        let driver = match self.engine.settings().policy.driver {
            Driver::Cgroupfs => v1::CgroupDriver::Cgroupfs,
            Driver::Systemd => v1::CgroupDriver::Systemd,
        };
        v1::RuntimeConfigResponse {
            linux: Some(v1::LinuxRuntimeConfiguration {
                cgroup_driver: driver.into(),
            }),
        }
    }
}

/// What a bundle's runtime was told.
fn specification(bundle: &std::path::Path) -> serde_json::Value {
    let text = std::fs::read(bundle.join("config.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
