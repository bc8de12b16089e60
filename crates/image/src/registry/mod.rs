//! Registries: the client side of the distribution specification, version 1.1.
//!
//! [`Access`] knows the machine's configuration and hands out [`RegistrySource`]s and
//! [`RegistryDestination`]s. Credentials go to the registry that they belong to and to the token
//! server that it names, nowhere else.

mod access;
mod challenge;
mod client;
mod download;
mod http;
#[cfg(feature = "signatures")]
mod lookaside;
mod push;
mod retry;
mod source;
mod tags;
mod token;
mod url;

pub use access::Access;
pub use push::RegistryDestination;
pub use retry::Retry;
pub(crate) use retry::is_transient;
pub use source::RegistrySource;
