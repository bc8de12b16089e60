//! The supervisor of a pod: parent and subreaper of all its processes.
//!
//! `hull supervise DIR` runs one ([`Supervisor`]); hulld starts it with [`Launch`] and speaks to
//! it with [`Client`], over a SOCK_SEQPACKET socket in the pod's directory that only the same
//! user can open. The messages are those of [`protocol`]. Beside the socket lie `<id>.json` for
//! every container ([`protocol::Status`], with its exit once it has ended) and `journal`, the
//! events that nobody has acknowledged.
//!
//! ```no_run
//! use std::{path::Path, process::Stdio, time::Duration};
//! use supervise::{Client, Launch, pause, protocol::{Create, Stdio as Connected}};
//!
//! let dir = Path::new("/run/hull/pods/p1");
//! let child = Launch {
//!     program: Path::new("/usr/bin/hull"),
//!     root: Path::new("/run/hull"),
//!     dir,
//!     resume: false,
//!     stderr: Stdio::inherit(),
//! }.start()?;
//! pause::install(Path::new("/run/hull/pause"))?;
//! let mut client = Client::connect(dir)?;
//! // The bundle's config.json says root.path /run/hull/pause (read-only) and args ["/pause"].
//! let (sandbox, kept) = client.create(Create {
//!     id: "p1".into(),
//!     bundle: dir.join("bundle"),
//!     start: true,
//!     ..Create::default()
//! })?;
//! let (container, kept) = client.create(Create {
//!     id: "c1".into(),
//!     bundle: "/run/hull/pods/p1/c1".into(),
//!     stdio: Connected::Pipes,
//!     ..Create::default()
//! })?;
//! client.start("c1")?;
//! client.subscribe(0)?;
//! while let Some(event) = client.next_event(Duration::from_secs(10))? {
//!     println!("{event:?}");
//! }
//! # Ok::<(), supervise::Error>(())
//! ```
//!
//! Every step that can block or needs memory (create, start, exec, delete) is done by a worker: a
//! fork of the supervisor that lives for that step. What it makes becomes a child of the
//! supervisor, the pod's subreaper, when the worker ends; a hung file system holds up one worker
//! and nothing else, and a supervisor stays as small as it began.
//!
//! Invariant: one thread, epoll, no async runtime; nothing that a peer or a container does makes
//! the supervisor wait, or keep more than a bounded amount.

#![forbid(unsafe_code)]

mod client;
mod error;
mod launch;
mod packet;
pub mod pause;
pub mod protocol;
mod server;

pub use client::{Client, Collected, Parts, Running};
pub use error::{Error, Result};
pub use launch::Launch;
pub use server::{Options, Supervisor};

/// Name of the socket in the pod's directory.
pub const SOCKET: &str = "socket";
