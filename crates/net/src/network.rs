//! The network of all pods of a machine.

use std::path::{Path, PathBuf};

use crate::attachment::{Attachment, Setup, check_id};
use crate::bridge::Bridge;
use crate::error::Doing as _;
use crate::rtnl::Links;
use crate::state::{Made, Record, State};
use crate::{Config, Error, Result, netns};

/// The network of all pods of a machine. Methods may be called from any thread and any process
/// that shares the state directory; none of them may be one of tokio's workers.
#[derive(Debug)]
pub struct Network {
    pub(crate) state: State,
    pub(crate) bridge: Bridge,
    config: Config,
}

/// Whether pods can be attached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// They can.
    pub ready: bool,
    /// One word for programs, as in CRI's conditions.
    pub reason: &'static str,
    /// One line for people.
    pub message: String,
    /// What does not stop pods from being attached, but may stop their packets.
    pub warnings: Vec<String>,
}

impl Network {
    /// Opens the network; nothing is made yet.
    ///
    /// # Errors
    /// A configuration that cannot work, or a state directory that cannot be made.
    pub fn open(config: Config, state_dir: &Path) -> Result<Self> {
        config.check()?;
        Ok(Self {
            state: State::open(state_dir, &config.owner)
                .doing(|| format!("open the network's state {}", state_dir.display()))?,
            bridge: Bridge::new(config.clone()),
            config,
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A new network namespace with `lo` up, pinned under the configured directory. It is removed
    /// by [`teardown`](Self::teardown), or by [`gc`](Self::gc).
    ///
    /// # Errors
    /// The call that failed; nothing is left then.
    pub fn create_netns(&self, id: &str) -> Result<PathBuf> {
        check_id(id)?;
        self.state.mark_netns(id)?;
        netns::create(&self.config.netns_dir, id)
    }

    /// Attaches a pod. The same request again gets the same answer; after a crash in the middle it
    /// is begun anew. After an error nothing is left.
    ///
    /// # Errors
    /// What failed, and after it what of the undoing failed.
    pub fn setup(&self, attachment: &Attachment) -> Result<Setup> {
        attachment.check()?;
        let id = attachment.id.as_str();
        let _lock = self.state.lock_id(id)?;
        if let Some(record) = self.state.read(id)? {
            if record.attachment == *attachment
                && let Some(setup) = &record.setup
                && self.check_record(&record).is_ok()
            {
                return Ok(setup.clone());
            }
            self.undo(&record)?;
        } else {
            self.state.release_all(id)?;
        }
        self.build(attachment)
            .doing(|| format!("attach pod {id} to the network"))
    }

    fn build(&self, attachment: &Attachment) -> Result<Setup> {
        let ips = self.state.reserve(&self.config, attachment)?;
        let place = self.bridge.place(attachment, ips);
        let mut record = Record {
            owner: self.config.owner.clone(),
            boot: self.state.boot().to_owned(),
            attachment: attachment.clone(),
            made: Made::Builtin(place.clone()),
            setup: None,
        };
        let written = self.state.write(&record);
        let made = written.and_then(|()| self.bridge.attach(&self.state, attachment, &place));
        let finished = made.and_then(|setup| {
            record.setup = Some(setup.clone());
            self.state.write(&record)?;
            Ok(setup)
        });
        finished.or_else(|error| {
            record.setup = None;
            let mut errors = vec![error];
            errors.extend(self.undo(&record).err());
            Err(Error::from_several(errors).unwrap_or_else(|| Error::Several(Vec::new())))
        })
    }

    /// Detaches a pod and removes its network namespace if it was made here. What is gone already
    /// is no error; after an error the rest is undone all the same, and the next call or
    /// [`gc`](Self::gc) tries again what is left.
    ///
    /// # Errors
    /// All that could not be undone.
    pub fn teardown(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let lock = self.state.lock_id(id)?;
        self.teardown_locked(id)
            .doing(|| format!("detach pod {id} from the network"))?;
        lock.remove();
        Ok(())
    }

    fn teardown_locked(&self, id: &str) -> Result<()> {
        let mut errors = Vec::new();
        match self.state.read(id) {
            Ok(Some(record)) => errors.extend(self.undo(&record).err()),
            Ok(None) => errors.extend(self.undo_unrecorded(id).err()),
            Err(error @ Error::Json { .. }) => {
                // A record that cannot be read is of no more use; all else can be found by the id.
                errors.push(error);
                errors.extend(self.undo_unrecorded(id).err());
                errors.extend(self.state.forget(id).err());
            }
            Err(error) => errors.push(error),
        }
        if self.state.has_netns(id) {
            match netns::remove(&self.config.netns_dir, id) {
                Ok(()) => errors.extend(self.state.unmark_netns(id).err()),
                Err(error) => errors.push(error),
            }
        }
        Error::from_several(errors).map_or(Ok(()), Err)
    }

    /// Undoes what a record says, and then the record.
    fn undo(&self, record: &Record) -> Result<()> {
        let mut errors = match &record.made {
            Made::Builtin(place) => self.bridge.detach(&self.state, record, place),
            Made::Cni { .. } => Vec::new(),
        };
        if errors.is_empty() {
            errors.extend(self.state.forget(&record.attachment.id).err());
        }
        if let Made::Builtin(place) = &record.made
            && crate::bridge::needs_localnet(&record.attachment, place)
        {
            errors.extend(self.bridge.close_localnet(&self.state).err());
        }
        Error::from_several(errors).map_or(Ok(()), Err)
    }

    /// A crash before the record was written left addresses; a lost record leaves more.
    fn undo_unrecorded(&self, id: &str) -> Result<()> {
        let mut errors = Vec::new();
        errors.extend(self.bridge.remove_by_id(id).err());
        if errors.is_empty() {
            errors.extend(self.state.release_all(id).err());
        }
        Error::from_several(errors).map_or(Ok(()), Err)
    }

    /// Detaches every pod of our owner that is not live. `live` is asked after the list of
    /// attachments was made: one that is attached meanwhile is not on it. One that is being
    /// worked on is left alone.
    ///
    /// Returns the ids that were collected, and all that could not be undone.
    pub fn gc(&self, live: impl Fn(&str) -> bool) -> (Vec<String>, Vec<Error>) {
        let mut errors = Vec::new();
        let mut collected = Vec::new();
        for id in self.candidates(&mut errors) {
            if live(&id) {
                continue;
            }
            match self.collect(&id) {
                Ok(true) => collected.push(id),
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        (collected, errors)
    }

    /// Ids of our owner that hold anything.
    fn candidates(&self, errors: &mut Vec<Error>) -> std::collections::BTreeSet<String> {
        let mut ids = std::collections::BTreeSet::new();
        let mut take = |result: Result<std::collections::BTreeSet<String>>| match result {
            Ok(list) => ids.extend(list),
            Err(error) => errors.push(error),
        };
        take(self.state.ids().map(|mut list| {
            list.retain(|id| {
                // What cannot be read is no one's but ours to clean up.
                let record = self.state.read(id).ok().flatten();
                record.is_none_or(|record| record.owner == self.config.owner)
            });
            list
        }));
        take(self.state.holders());
        take(self.state.marked_netns());
        take(
            Links::open()
                .and_then(|mut links| links.list())
                .map(|links| {
                    let ours = links.iter().filter_map(|link| self.bridge.id_of(link));
                    ours.filter(|id| check_id(id).is_ok()).collect()
                }),
        );
        ids
    }

    fn collect(&self, id: &str) -> Result<bool> {
        let Some(lock) = self.state.try_lock_id(id)? else {
            return Ok(false);
        };
        self.teardown_locked(id)
            .doing(|| format!("collect pod {id}"))?;
        lock.remove();
        Ok(true)
    }

    /// Whether an attachment is as it was made.
    ///
    /// # Errors
    /// [`Error::Drift`] with all that differs.
    pub fn check(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let record = self.state.read(id)?;
        let record = record.filter(|record| record.setup.is_some());
        let record = record
            .ok_or_else(|| Error::Drift(format!("pod {id} is not attached to the network")))?;
        self.check_record(&record)
            .doing(|| format!("check pod {id}"))
    }

    fn check_record(&self, record: &Record) -> Result<()> {
        if record.boot != self.state.boot() {
            return Err(Error::Drift("it was attached before a reboot".into()));
        }
        match &record.made {
            Made::Builtin(place) => self.bridge.check(&record.attachment, place),
            Made::Cni { .. } => Ok(()),
        }
    }

    /// Whether pods can be attached: makes the bridge and the rules if they are not there.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.bridge.ensure(&self.state) {
            Ok(link) => Status {
                ready: true,
                reason: "NetworkReady",
                message: format!("built-in network on the bridge {}", link.name),
                warnings: self.bridge.warnings(),
            },
            Err(error) => Status {
                ready: false,
                reason: "NetworkNotReady",
                message: error.to_string(),
                warnings: Vec::new(),
            },
        }
    }

    /// How many addresses are held, by anyone who shares the state.
    ///
    /// # Errors
    /// readdir(3)'s.
    pub fn addresses_held(&self) -> Result<usize> {
        self.state.addresses_held()
    }

    /// Removes bridge and rules: for the end of the last pod.
    ///
    /// # Errors
    /// The kernel's.
    pub fn destroy(&self) -> Result<()> {
        let _lock = self.state.lock()?;
        self.bridge.destroy()
    }
}
