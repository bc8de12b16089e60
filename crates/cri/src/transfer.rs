//! How far a pull is, told to its operation: the status page and the metrics show it.

use std::sync::{Mutex, PoisonError};

use image::store::Event;
use pods::operation::Operation;

/// One pull.
#[derive(Debug)]
pub(crate) struct Transfer<'a> {
    operation: &'a Operation,
    /// Of each layer.
    sizes: Mutex<Vec<u64>>,
}

impl<'a> Transfer<'a> {
    pub fn new(operation: &'a Operation) -> Self {
        Self {
            operation,
            sizes: Mutex::default(),
        }
    }

    /// Something has happened.
    pub fn tell(&self, event: &Event<'_>) {
        let sizes = || self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Resolved { layers, .. } => {
                let all: Vec<u64> = layers.iter().map(|layer| layer.size).collect();
                self.operation.expect(all.iter().sum());
                *sizes() = all;
                self.operation.stage("layers");
            }
            Event::Present { layer } => {
                // What is there is not transferred.
                self.operation
                    .skip(sizes().get(*layer).copied().unwrap_or(0));
            }
            Event::Bytes { count, .. } => self.operation.advance(*count),
            Event::Complete { .. } => {}
            Event::Committing => self.operation.stage("commit"),
        }
    }
}
