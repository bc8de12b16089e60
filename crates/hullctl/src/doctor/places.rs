//! Where to look, and who lives there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgMatches, value_parser};
use runtime::root::StateRoot;

use crate::image::store_root;
use crate::proc::containers;

/// Where hull keeps things.
#[derive(Debug)]
pub struct Places {
    /// The runtime's state.
    pub root: PathBuf,
    /// Images, and what `hullctl run` has made of them; none: not looked at.
    pub store: Option<PathBuf>,
    /// hulld's state of this boot.
    pub run: Option<PathBuf>,
    /// Networks: their state, and who they belong to.
    pub networks: Vec<(PathBuf, &'static str)>,
    /// What is younger may be in the making, for a container that has no record yet.
    pub grace: Duration,
}

/// The options for it.
pub fn arguments() -> Vec<Arg> {
    let places = [
        (
            "root",
            "Where the runtime keeps its state [default: /run/hull]",
        ),
        (
            "store",
            "Where images and hulld's state are [default: /var/lib/hull]",
        ),
        ("run", "hulld's daemon.run [default: /run/hulld]"),
        (
            "network",
            "Where the network of `hullctl run` keeps its state [default: /run/hull/network]",
        ),
    ];
    let places = places.map(|(name, help)| {
        Arg::new(name)
            .long(name)
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .help(help)
    });
    let grace = Arg::new("grace")
        .long("grace")
        .value_name("SECONDS")
        .value_parser(value_parser!(u64))
        .default_value("60")
        .help("Leave alone what is younger: its container may be in the making");
    places.into_iter().chain([grace]).collect()
}

impl Places {
    /// All by default. Once one is named, others are only looked at if they are named too: what
    /// lives there is not known.
    pub fn new(m: &ArgMatches) -> Self {
        let named = |name: &str| m.get_one::<PathBuf>(name).cloned();
        let is_default = ["root", "store", "run", "network"]
            .iter()
            .all(|name| named(name).is_none());
        let or =
            |name: &str, default: PathBuf| named(name).or_else(|| is_default.then_some(default));
        let store = or("store", store_root(None));
        let own = or("network", crate::run::NETWORK_STATE.into());
        let run = or("run", "/run/hulld".into());
        let daemons = run.as_ref().map(|run| (run.join("network"), "hulld"));
        let owns = own.map(|state| (state, "hullctl"));
        Self {
            root: containers::state_root(named("root").as_deref()),
            run,
            networks: daemons.into_iter().chain(owns).collect(),
            store,
            grace: Duration::from_secs(m.get_one("grace").copied().unwrap_or(60)),
        }
    }

    /// The ids of all that is there: containers of the runtime, those of `hullctl run` that have
    /// ended and not been removed, and the daemon's pods and containers, by whatever runtime.
    pub fn living(&self) -> Result<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        if let Some(state) = StateRoot::open(&self.root)? {
            ids.extend(state.ids()?.iter().map(ToString::to_string));
        }
        let store = self.store.iter().map(|dir| dir.join("local"));
        let run = self.run.iter();
        let run = run.flat_map(|dir| [dir.join("pods"), dir.join("records")]);
        let listed: Vec<PathBuf> = store.chain(run).collect();
        for dir in listed {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let names = entries.filter_map(|e| e.file_name().into_string().ok());
            ids.extend(names);
        }
        Ok(ids)
    }
}
