//! Seccomp profiles: templates with conditions ([`profile`]), compiled to BPF.

#![forbid(unsafe_code)]

pub mod profile;
