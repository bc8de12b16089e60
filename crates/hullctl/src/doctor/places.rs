//! Where to look, and who lives there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgMatches, value_parser};
use runtime::root::StateRoot;

use crate::image::store_root;
use crate::proc::containers;

/// What is younger may be in the making, for a container that has no record yet.
pub const GRACE: Duration = Duration::from_secs(60);

/// Where hull keeps things.
#[derive(Debug)]
pub struct Places {
    /// The runtime's state.
    pub root: PathBuf,
    /// Images, and what `hullctl run` has made of them.
    pub store: PathBuf,
    /// hulld's state of this boot.
    pub run: PathBuf,
    /// Networks: their state, and who they belong to.
    pub networks: Vec<(PathBuf, &'static str)>,
}

fn path(m: &ArgMatches, name: &str) -> Option<PathBuf> {
    m.get_one::<PathBuf>(name).cloned()
}

/// The options for it.
pub fn arguments() -> [Arg; 4] {
    [
        ("root", "Where the runtime keeps its state"),
        (
            "store",
            "Where images and hulld's state are (/var/lib/hull)",
        ),
        ("run", "hulld's `daemon.run` (/run/hulld)"),
        (
            "network",
            "Where the network of `hullctl run` keeps its state (/run/hull/network)",
        ),
    ]
    .map(|(name, help)| {
        Arg::new(name)
            .long(name)
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .help(help)
    })
}

impl Places {
    /// As asked for, else where things are by default.
    pub fn new(m: &ArgMatches) -> Self {
        let store = store_root(path(m, "store"));
        let own = path(m, "network").unwrap_or_else(|| crate::run::NETWORK_STATE.into());
        Self {
            root: containers::state_root(path(m, "root").as_deref()),
            run: path(m, "run").unwrap_or_else(|| "/run/hulld".into()),
            networks: vec![(store.join("network"), "hulld"), (own, "hullctl")],
            store,
        }
    }

    /// The ids of all that is there: containers of the runtime, those of `hullctl run` that have
    /// ended and not been removed, and the daemon's pods and containers, by whatever runtime.
    pub fn living(&self) -> Result<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        if let Some(state) = StateRoot::open(&self.root)? {
            ids.extend(state.ids()?.iter().map(ToString::to_string));
        }
        let listed = [
            self.store.join("local"),
            self.run.join("pods"),
            self.run.join("records"),
        ];
        for dir in listed {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let names = entries.filter_map(|e| e.file_name().into_string().ok());
            ids.extend(names);
        }
        Ok(ids)
    }
}
