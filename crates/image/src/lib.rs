//! Images: from a registry, a layout or an archive to a root file system.
//!
//! Everything that comes from outside is hostile until it has become one of the checked types
//! here: a [`Digest`], a [`Reference`].

#![forbid(unsafe_code)]

pub mod bundle;
pub mod config;
pub mod copy;
mod digest;
pub mod document;
pub mod erofs;
mod error;
pub mod layer;
mod platform;
pub mod policy;
pub mod progress;
pub mod pull;
mod reference;
pub mod registry;
pub mod store;
pub mod transport;

pub use digest::{Algorithm, Digest, Hasher};
pub use error::{Error, Result};
pub use platform::Platform;
pub use progress::Progress;
pub use reference::{DEFAULT_HOST, DEFAULT_TAG, Reference};
