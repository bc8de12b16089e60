//! `hull checkpoint` and `hull restore`: with a criu that is played, on every machine; with the
//! one in PATH, where it works on this kernel.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod asked;
mod played;
mod refused;
mod restored;
mod there_and_back;
