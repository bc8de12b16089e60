//! RuntimeService: a thin layer; what it does is in `pods`.

mod about;
mod checkpoint;
mod events;
mod filter;
mod objects;
mod service;

pub(crate) use about::now;

use std::fmt;
use std::sync::Arc;

use pods::Engine;
use streaming::server::Server;

use crate::audit::Audit;
use crate::streams::Pods;

/// RuntimeService.
#[derive(Clone)]
pub struct RuntimeApi {
    pub(crate) engine: Engine,
    audit: Arc<Audit>,
    version: String,
    /// The daemon's configuration as text, for `Status`.
    describe: Arc<dyn Fn() -> String + Send + Sync>,
    streams: Server<Pods>,
}

impl fmt::Debug for RuntimeApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeApi")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl RuntimeApi {
    /// The service over an engine.
    pub fn new(
        engine: Engine,
        audit: Arc<Audit>,
        version: &str,
        describe: Arc<dyn Fn() -> String + Send + Sync>,
        streams: Server<Pods>,
    ) -> Self {
        Self {
            engine,
            audit,
            version: version.to_owned(),
            describe,
            streams,
        }
    }
}
