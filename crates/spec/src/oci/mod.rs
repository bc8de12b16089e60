//! The documents of the OCI runtime specification 1.3, as they are in JSON.
//!
//! Unknown properties are ignored, as the specification demands ("Extensibility"); values that
//! are out of place are refused later, when the [`crate::Plan`] is made.

mod config;
mod features;
mod linux;
mod process;
mod resources;
mod seccomp;
mod state;

pub use config::*;
pub use features::*;
pub use linux::*;
pub use process::*;
pub use resources::*;
pub use seccomp::*;
pub use state::*;

/// The newest version of the runtime specification that hull implements.
pub const VERSION: &str = "1.3.0";
/// The oldest version whose documents hull accepts.
pub const VERSION_MIN: &str = "1.0.0";
