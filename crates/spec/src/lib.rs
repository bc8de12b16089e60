//! OCI runtime-spec documents ([`oci`]) and the validated [`Plan`] made from them.
//!
//! [`oci`] mirrors the JSON of runtime-spec 1.3 one to one and accepts what any producer may
//! write. [`Plan`] is what the rest of hull works on: every value in it has been checked, so
//! the code that acts on it has no "missing field" or "unknown word" cases.
//! This crate is pure: it reads no file, makes no system call, and logs nothing.

#![forbid(unsafe_code)]

pub mod oci;
pub mod plan;

pub use plan::Plan;
