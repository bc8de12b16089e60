//! The store on the real kernel: pulling, mounting, removing. Root only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive;
mod basics;
mod layout;
