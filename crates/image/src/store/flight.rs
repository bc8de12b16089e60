//! Layers that are being made: two pulls that need the same one make it once.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::lower::Content;
use super::place::Temporary;
use super::record::LayerRecord;
use crate::Digest;

/// A layer that is complete and not committed yet.
#[derive(Debug)]
pub(crate) struct Made {
    pub record: LayerRecord,
    pub content: Arc<dyn Content>,
    pub tmp: Mutex<Temporary>,
}

/// A layer that a pull can build upon.
#[derive(Clone, Debug)]
pub(crate) enum Layer {
    /// In the database.
    Stored(Box<LayerRecord>),
    /// Complete.
    Made(Arc<Made>),
}

impl Layer {
    pub fn record(&self) -> &LayerRecord {
        match self {
            Self::Stored(record) => record,
            Self::Made(made) => &made.record,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By chain id: `None` while it is being made.
    making: HashMap<Digest, Option<Layer>>,
    /// Chain ids that running pulls count on, and how many do.
    wanted: HashMap<Digest, usize>,
}

/// All pulls of this process.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    state: Mutex<State>,
    changed: Condvar,
}

/// What a pull finds when it comes for a layer.
pub(crate) enum Turn {
    /// Another pull has made it.
    There(Layer),
    /// It is this pull's to make; [`Flights::land`] must follow.
    Yours,
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves maps that are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Protects layers from garbage collection as long as the guard lives.
    pub fn want<'a>(&'a self, chains: &[Digest]) -> Wanted<'a> {
        let mut state = self.lock();
        for chain in chains {
            *state.wanted.entry(chain.clone()).or_default() += 1;
        }
        Wanted {
            flights: self,
            chains: chains.to_vec(),
        }
    }

    /// Runs `f` with all protected layers, while no pull can begin.
    pub fn with_wanted<T>(&self, f: impl FnOnce(&dyn Fn(&Digest) -> bool) -> T) -> T {
        let state = self.lock();
        f(&|chain| state.wanted.contains_key(chain))
    }

    /// Waits until nobody is making `chain`, or takes it up.
    pub fn turn(&self, chain: &Digest) -> Turn {
        let mut state = self.lock();
        loop {
            match state.making.get(chain) {
                Some(Some(layer)) => return Turn::There(layer.clone()),
                Some(None) => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    state.making.insert(chain.clone(), None);
                    return Turn::Yours;
                }
            }
        }
    }

    /// Ends what [`Turn::Yours`] began: with the layer, or without it.
    pub fn land(&self, chain: &Digest, layer: Option<Layer>) {
        let mut state = self.lock();
        match layer {
            Some(layer) => state.making.insert(chain.clone(), Some(layer)),
            None => state.making.remove(chain),
        };
        self.changed.notify_all();
    }
}

/// Protects layers from garbage collection.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    flights: &'a Flights,
    chains: Vec<Digest>,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut state = self.flights.lock();
        for chain in &self.chains {
            if let Some(count) = state.wanted.get_mut(chain) {
                *count -= 1;
                if *count == 0 {
                    state.wanted.remove(chain);
                    // Committed, or given up by all who wanted it.
                    if matches!(state.making.get(chain), Some(Some(_))) {
                        state.making.remove(chain);
                    }
                }
            }
        }
    }
}
