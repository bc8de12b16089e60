//! Seccomp profiles: templates with conditions ([`profile`]), compiled to BPF ([`compile`]).
//!
//! `sys::seccomp` installs what this crate makes. But for [`Cache`], which keeps compiled profiles
//! in a directory, the crate is pure.
//!
//! How a profile is read (the tests compare with libseccomp 2.5.4, and the programs of three
//! profiles were compared with those that runc 1.1.5 had installed):
//!
//! - A rule whose action is the default action is passed over (runc).
//! - A rule without conditions beats all others for its call; of two, the first counts
//!   (libseccomp).
//! - Of several rules with conditions the first that holds counts.
//! - Conditions of one rule must all hold, unless two are on the same argument: then each counts
//!   as a rule of its own (runc).
//! - On architectures with 32-bit arguments the high halves of values are cut off (libseccomp).
//! - Names that no architecture has are passed over with a warning, or refused
//!   ([`Options::strict`]).
//! - A call of an architecture that is not listed, x32 on x86_64 included, kills the thread
//!   (libseccomp).
//! - A number above the newest call that the profile names fails with ENOSYS unless the default
//!   action lets calls pass ([`Options::enosys`]; runc).
//!
//! Where we do otherwise, on purpose:
//!
//! - libseccomp merges the rules of one call into a tree. With several inequalities on one
//!   argument it misses calls that a rule is for, some contradicting rules it refuses, and of
//!   overlapping rules with different actions its tree's order decides.
//! - Below socketcall and ipc only the bits that the kernel looks at are compared.
//! - ARM's private calls (`cacheflush`…) do not count for "newest call"; runc's rule has no effect
//!   on ARM when a profile names one of them.
//! - Architectures that this machine's kernel cannot report are checked and then left out.
//! - On x86_64 without x32, numbers from 0x8000_0000 on, which no ABI has, kill the thread; with
//!   runc some of them fail with ENOSYS.
//! - `errnoRet` beside an action that takes none is an error, as the specification demands.

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
