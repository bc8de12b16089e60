//! What is written down about a container: `state.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spec::oci::{Hook, State};

use crate::container::Status;
use crate::rdt::Rdt;
use crate::{Error, ProcessId, Result};

/// Version of the format below.
const FORMAT: u32 = 1;

/// All that later commands need to know of a container. `config.json` lies beside it, as it was
/// at creation.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Version of this format.
    pub format: u32,
    /// The configuration's `ociVersion`.
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root file system.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Who created it.
    pub owner: u32,
    /// The process that creates it. Gone once it is created: a record with a dead creator is
    /// what a killed `create` left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creator: Option<ProcessId>,
    /// The container's first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<ProcessId>,
    /// Its control groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<cgroup::State>,
    /// Its resctrl group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<Rdt>,
    /// Whether its pid namespace is its own, so that the end of `init` ends all.
    pub own_pid_namespace: bool,
    /// Nothing but its program has to be waited for when it is started: no hook, no agent that
    /// takes a listener.
    #[serde(default)]
    pub starts_alone: bool,
    /// Its processes keep the session keyring of whoever starts them.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// The configuration's annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Hooks for `start`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// Hooks for `delete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl Record {
    /// The record of a container that `creator` begins to create.
    #[must_use]
    pub fn new(id: String, plan: &spec::Plan, bundle: PathBuf, creator: ProcessId) -> Self {
        use spec::plan::NamespaceKind;
        let seccomp = plan.seccomp.as_ref();
        let listens = seccomp.is_some_and(|s| !s.listener_path.is_empty());
        Self {
            format: FORMAT,
            oci_version: plan.oci_version.clone(),
            id,
            bundle,
            rootfs: plan.root.path.clone(),
            created: crate::clock::now_rfc3339(),
            owner: rustix::process::getuid().as_raw(),
            creator: Some(creator),
            init: None,
            cgroup: None,
            rdt: None,
            own_pid_namespace: plan.namespaces.is_new(NamespaceKind::Pid),
            starts_alone: plan.hooks.poststart.is_empty() && !listens,
            no_new_keyring: false,
            annotations: plan.annotations.clone(),
            poststart: plan.hooks.poststart.clone(),
            poststop: plan.hooks.poststop.clone(),
        }
    }

    /// The record of a container that another runtime has made from this configuration.
    #[must_use]
    pub fn foreign(id: String, spec: &spec::oci::Spec, bundle: PathBuf) -> Self {
        let linux = spec.linux.as_ref();
        let mut namespaces = linux.into_iter().flat_map(|linux| &linux.namespaces);
        let root = spec.root.as_ref().map(|r| r.path.as_str());
        Self {
            format: FORMAT,
            oci_version: spec.oci_version.clone(),
            id,
            rootfs: bundle.join(root.unwrap_or_default()),
            bundle,
            created: crate::clock::now_rfc3339(),
            owner: rustix::process::getuid().as_raw(),
            creator: None,
            init: None,
            cgroup: None,
            rdt: None,
            own_pid_namespace: namespaces.any(|n| n.kind == "pid" && n.path.is_empty()),
            starts_alone: false,
            no_new_keyring: false,
            annotations: spec.annotations.clone(),
            poststart: Vec::new(),
            poststop: Vec::new(),
        }
    }

    /// The document that hooks and seccomp listeners get; `pid` as they see it.
    #[must_use]
    pub fn oci_state(&self, status: Status, pid: i32) -> State {
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status: status.to_string(),
            pid: if status == Status::Stopped { 0 } else { pid },
            bundle: self.bundle.to_string_lossy().into_owned(),
            annotations: self.annotations.clone(),
        }
    }

    /// The document.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let what = || format!("record of {}", self.id);
        serde_json::to_vec(self).map_err(|source| Error::Json {
            what: what(),
            source,
        })
    }

    /// Reads the document; `path` is for messages.
    ///
    /// # Errors
    /// Not JSON, or another format.
    pub fn from_json(bytes: &[u8], path: &Path) -> Result<Self> {
        let what = || path.display().to_string();
        let record: Self = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            what: what(),
            source,
        })?;
        if record.format == FORMAT {
            Ok(record)
        } else {
            let format = record.format;
            Err(Error::Invalid(format!(
                "{}: format {format}, want {FORMAT}",
                what()
            )))
        }
    }
}
