//! What the network is at present: it can be given other subnets while it runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bridge::Bridge;
use crate::cni::{self, Client, NetworkList};
use crate::{Backend, Config, Error, Result};

/// A configuration, and those who act by it.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) bridge: Bridge,
    pub(crate) cni: Client,
    pub(crate) config: Config,
}

impl Parts {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            bridge: Bridge::new(config.clone()),
            cni: Client::new(config.cni.clone()),
            config,
        }
    }

    /// The configuration of CNI that is in force; none if the built-in network is.
    pub(crate) fn network_list(&self) -> Result<Option<NetworkList>> {
        if self.config.backend == Backend::Builtin {
            return Ok(None);
        }
        let dir = &self.config.cni.conf_dir;
        // Debian's podman leaves its own network there: it is no one's wish for pods.
        let wanted =
            |list: &NetworkList| self.config.backend == Backend::Cni || list.name != "podman";
        match cni::load(dir, wanted) {
            (Some(list), _) => Ok(Some(list)),
            // A configuration that is broken is not one that is absent.
            (None, mut errors) if !errors.is_empty() => Err(errors.remove(0)),
            (None, _) if self.config.backend == Backend::Cni => Err(Error::Invalid(format!(
                "no CNI configuration in {}: put one there, or configure the built-in network",
                dir.display()
            ))),
            (None, _) => Ok(None),
        }
    }
}

/// The parts in force, and how many attachments are being made with them.
#[derive(Debug)]
pub(crate) struct Current(Mutex<(Arc<Parts>, usize)>);

/// An attachment that is being made: the parts stay while it is.
#[derive(Debug)]
pub(crate) struct Attaching<'c>(&'c Current);

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        self.0.lock().1 -= 1;
    }
}

impl Current {
    pub(crate) fn new(config: Config) -> Self {
        Self(Mutex::new((Arc::new(Parts::new(config)), 0)))
    }

    fn lock(&self) -> MutexGuard<'_, (Arc<Parts>, usize)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> Arc<Parts> {
        Arc::clone(&self.lock().0)
    }

    pub(crate) fn attaching(&self) -> Attaching<'_> {
        self.lock().1 += 1;
        Attaching(self)
    }

    /// Puts others in the place of the parts. `make` is given the old ones and the number of
    /// attachments that are being made; none begins meanwhile.
    pub(crate) fn replace(
        &self,
        make: impl FnOnce(&Parts, usize) -> Result<Option<Parts>>,
    ) -> Result<()> {
        let mut current = self.lock();
        if let Some(new) = make(&current.0, current.1)? {
            current.0 = Arc::new(new);
        }
        Ok(())
    }
}
