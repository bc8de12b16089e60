//! Seccomp profiles: templates with conditions ([`profile`]), compiled to BPF ([`compile`]).
//!
//! `sys::seccomp` installs what this crate makes. But for [`Cache`], which keeps compiled profiles
//! in a directory, the crate is pure.
//!
//! How a profile is read (each point is tested against libseccomp 2.5, or is what runc does):
//!
//! - A rule whose action is the default action is passed over.
//! - A rule without conditions beats all others for its call; of two, the first counts.
//! - Of several rules with conditions the first that holds counts. (libseccomp's order is that
//!   of its internal tree, and it refuses some rules that contradict each other.)
//! - Conditions of one rule must all hold, unless two are on the same argument: then each counts
//!   as a rule of its own.
//! - On architectures with 32-bit arguments the high halves of values are cut off.
//! - Names that no architecture has are passed over with a warning, or refused
//!   ([`Options::strict`]).
//! - A call of an architecture that is not listed, x32 on x86_64 included, kills the thread.
//! - A number above the newest call that the profile names fails with ENOSYS unless the default
//!   action lets calls pass ([`Options::enosys`]).

#![forbid(unsafe_code)]

mod arch;
mod bpf;
mod cache;
mod compile;
mod condition;
mod error;
#[rustfmt::skip]
mod generated;
mod lower;
mod multiplex;
pub mod profile;
mod ranges;
pub mod syscalls;
mod words;

pub use arch::{Arch, X32_BIT};
pub use bpf::{Instruction, MAX_INSTRUCTIONS};
pub use cache::Cache;
pub use compile::{compile, compile_with};
pub use error::{Error, ErrorKind};
pub use syscalls::Table;
pub use words::{action, actions, describe_action, flag, flags, operators};

/// How to compile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// The machine's architecture; always part of the filter.
    pub native: Arch,
    /// Refuse names that no architecture has.
    pub strict: bool,
    /// Answer ENOSYS to calls newer than the profile.
    pub enosys: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            native: Arch::native(),
            strict: false,
            enosys: true,
        }
    }
}

/// A compiled profile.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// At most [`MAX_INSTRUCTIONS`].
    pub program: Vec<Instruction>,
    /// [`mod@flag`] bits for seccomp(2).
    pub flags: u32,
    /// A rule asks the listener, so installing gives a descriptor.
    pub notify: bool,
    /// What the user should be told, a line each.
    pub warnings: Vec<String>,
}

impl Filter {
    /// The program as the kernel reads it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.program.iter().flat_map(|i| i.to_bytes()).collect()
    }
}
