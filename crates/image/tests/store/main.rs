//! The store on the real kernel: pulling, mounting, removing. Root only.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod against_umoci;
mod archive;
mod basics;
mod bundles;
mod compare;
mod faults;
mod hostile;
mod kernels;
mod layout;
mod nasty;
