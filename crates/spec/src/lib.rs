//! OCI runtime-spec documents ([`oci`]) and the validated [`Plan`] made from them.
//!
//! [`oci`] mirrors the JSON of runtime-spec 1.3 one to one and accepts what any producer may
//! write. [`Plan`] is what the rest of hull works on: every value in it has been checked, so
//! the code that acts on it has no "missing field" or "unknown word" cases.
//! This crate is pure: it reads no file, makes no system call, and logs nothing.

#![forbid(unsafe_code)]

mod check;
mod default;
mod error;
mod features;
pub mod oci;
mod parse;
pub mod plan;
mod words;

pub use check::{DEFAULT_DEVICE_RULES_ANNOTATION, check_update};
pub use default::default_spec;
pub use error::{Error, ErrorKind, Result};
pub use features::features;
pub use parse::{DOCUMENT_MAX, parse_config, parse_process, parse_resources};
pub use plan::Plan;
