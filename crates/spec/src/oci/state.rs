//! The state document (runtime.md, State) and the seccomp listener's message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of a container, as hooks and seccomp listeners get it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Version of the specification this document complies with.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running`, `stopped`, or `paused`.
    pub status: String,
    /// Process id, as the reader's pid namespace sees it.
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// The configuration's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is sent with the descriptor to a seccomp listener (config-linux.md,
/// containerprocessstate).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerProcessState {
    /// Version of the specification.
    pub oci_version: String,
    /// Names of the descriptors sent, in order.
    pub fds: Vec<String>,
    /// The process that the filter watches.
    pub pid: i32,
    /// `listenerMetadata`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// The container's state.
    pub state: State,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_zero(n: &i32) -> bool {
    *n == 0
}
