//! The Kubernetes Container Runtime Interface v1: its messages, clients and server traits.
//!
//! Everything in [`v1`] is generated from `proto/runtime_v1.proto` by `cargo run -p xtask -- cri`.
//! Clients are `v1::runtime_service_client::RuntimeServiceClient` and
//! `v1::image_service_client::ImageServiceClient`; [`connect`] opens the channel for both.

use std::fmt;

/// Package `runtime.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications)]
pub mod v1 {
    include!("generated/runtime.v1.rs");
}

/// The interface itself, as text.
pub const PROTO: &str = include_str!("../proto/runtime_v1.proto");

mod connect;
pub use connect::{MESSAGE_LIMIT, connect};

/// What a registry is told never reaches a log.
impl fmt::Debug for v1::AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::v1::AuthConfig;

    #[test]
    fn secrets_are_not_printed() {
        let auth = AuthConfig {
            username: "me".into(),
            password: "hunter2".into(),
            auth: "hunter2".into(),
            identity_token: "hunter2".into(),
            registry_token: "hunter2".into(),
            ..AuthConfig::default()
        };
        let text = format!("{auth:?}");
        assert!(text.contains("me") && !text.contains("hunter2"), "{text}");
    }
}
