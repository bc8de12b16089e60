//! Black-box tests of an OCI runtime program.
//!
//! A test describes a bundle as changes to a plain configuration, runs the program under test on
//! it, and looks at the container from inside (the `probe` program, busybox) and from outside
//! (/proc, the cgroup file systems). Nothing is known of the program but its command line, so the
//! same tests run on hull, runc and crun: the variable `RUNTIME` holds the program's name or
//! path. Where a runtime is known to deviate, `deviations.tsv` says so ([`table`]). `HULL_GROUND`
//! tells what kind of machine and user this is ([`ground`]).
//!
//! ```text
//! #[test]
//! fn the_host_name_is_set() {
//!     case(|t| {
//!         let out = t.sh("hostname", |c| c["hostname"] = json!("box"));
//!         assert_eq!(out, "box");
//!     });
//! }
//! ```
//!
//! After its body, each case deletes its containers and proves that nothing is left of them: no
//! process, mount, cgroup, state or temporary file ([`leaks`]).

pub mod case;
pub mod config;
pub mod container;
pub mod ground;
pub mod host;
pub mod leaks;
pub mod mountinfo;
pub mod process;
pub mod program;
pub mod report;
pub mod rootfs;
pub mod socket;
pub mod table;

/// What nearly every test file imports.
pub mod prelude {
    pub use crate::case::{Case, case};
    pub use crate::config::*;
    pub use crate::container::Container;
    pub use crate::ground::{Ground, ground};
    pub use crate::host;
    pub use crate::process::{Output, Running, slowness, wait_until};
    pub use crate::report::Report;
    pub use crate::socket;
    pub use serde_json::{Value, json};
    pub use std::path::{Path, PathBuf};
    pub use std::time::{Duration, Instant};
}
