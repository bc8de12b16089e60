//! The network of all pods of a machine.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use crate::attachment::{Attachment, Setup, check_id};
use crate::cni::NetworkList;
use crate::current::{Current, Parts};
use crate::error::Doing as _;
use crate::rtnl::Links;
use crate::state::{Made, Record, State, identity};
use crate::{Config, Error, Result, netns, sysctl};

/// The network of all pods of a machine. Methods may be called from any thread and any process
/// that shares the state directory; none of them may be one of tokio's workers. All calls are to
/// come from one network namespace, the machine's.
#[derive(Debug)]
pub struct Network {
    pub(crate) state: State,
    current: Current,
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
    /// Opens the network; nothing is made yet. What it is configured to be is written down for
    /// those who [join](Self::join) it.
    ///
    /// # Errors
    /// A configuration that cannot work, or a state directory that cannot be made.
    pub fn open(config: Config, state_dir: &Path) -> Result<Self> {
        config.check()?;
        let this = Self::with(config, state_dir)?;
        this.state.write_config(&this.parts().config)?;
        Ok(this)
    }

    /// Opens a network as the last one who opened it configured it, or, where no one did in this
    /// boot, as `config` says. For programs beside the daemon: two configurations of one bridge
    /// would undo each other. Owner and the place of namespaces are those of `config`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn join(config: Config, state_dir: &Path) -> Result<Self> {
        config.check()?;
        let found = State::read_config(state_dir)?;
        let config = match found {
            None => config,
            Some(found) => Config {
                owner: config.owner,
                netns_dir: config.netns_dir,
                ..found
            },
        };
        config.check()?;
        Self::with(config, state_dir)
    }

    /// Opens a network wholly as the last one who opened it configured it, for another look at
    /// what `owner` has in it; none where no one did in this boot.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn resume(owner: &str, state_dir: &Path) -> Result<Option<Self>> {
        let Some(found) = State::read_config(state_dir)? else {
            return Ok(None);
        };
        let config = Config {
            owner: owner.to_owned(),
            ..found
        };
        config.check()?;
        Self::with(config, state_dir).map(Some)
    }

    fn with(mut config: Config, state_dir: &Path) -> Result<Self> {
        let state = State::open(state_dir, &config)
            .doing(|| format!("open the network's state {}", state_dir.display()))?;
        config.take_subnets(&state.read_subnets()?);
        if !has_ipv6()? {
            config.subnet6 = None;
        }
        config.check()?;
        Ok(Self {
            state,
            current: Current::new(config),
        })
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.parts().config.clone()
    }

    pub(crate) fn parts(&self) -> Arc<Parts> {
        self.current.get()
    }

    /// Gives the pods other subnets, as a cluster does that divides its addresses among machines;
    /// families that are not named stay as they are. They are kept for the next one who opens the
    /// network. Plugins of CNI that ask for ranges are given them, too.
    ///
    /// # Errors
    /// [`Error::Busy`] while pods hold addresses of other subnets; what cannot work, and the
    /// kernel's. The subnets stay as they were then.
    pub fn set_subnets(&self, subnets: &[IpNet]) -> Result<()> {
        self.finish_leaving()?;
        self.current.replace(|old, attaching| {
            let mut config = old.config.clone();
            config.take_subnets(subnets);
            if config == old.config {
                return Ok(None);
            }
            config.check()?;
            let held = self.state.addresses_held()?;
            if config.subnets() != old.config.subnets() && (held > 0 || attaching > 0) {
                return Err(Error::Busy(format!(
                    "the pods' addresses cannot move from {} to {}: pods hold {held} of them; \
                     remove the pods first",
                    listed(&old.config.subnets()),
                    listed(&config.subnets()),
                )));
            }
            let new = Parts::new(config);
            if new.network_list()?.is_none() {
                self.rebuild(old, &new)?;
            }
            self.state.write_subnets(subnets)?;
            self.state.write_config(&new.config)?;
            Ok(Some(new))
        })
    }

    /// The bridge anew, with other addresses; the old one comes back if that cannot be.
    fn rebuild(&self, old: &Parts, new: &Parts) -> Result<()> {
        {
            let _lock = self.state.lock()?;
            old.bridge.destroy()?;
        }
        let Err(error) = new.bridge.ensure(&self.state) else {
            return Ok(());
        };
        let mut errors = vec![error];
        errors.extend(old.bridge.ensure(&self.state).err());
        Error::from_several(errors).map_or(Ok(()), Err)
    }

    /// A new network namespace with `lo` up, pinned under the configured directory. It is removed
    /// by [`teardown`](Self::teardown), or by [`gc`](Self::gc).
    ///
    /// # Errors
    /// The call that failed; nothing is left then.
    pub fn create_netns(&self, id: &str) -> Result<PathBuf> {
        check_id(id)?;
        self.state.mark_netns(id)?;
        netns::create(&self.parts().config.netns_dir, id)
    }

    /// Pins a network namespace that is there already, such as `/proc/PID/ns/net` of a sandbox
    /// whose user namespace must own it. It is let go of as one that was made here.
    ///
    /// # Errors
    /// The call that failed; nothing is left then.
    pub fn adopt_netns(&self, id: &str, namespace: &Path) -> Result<PathBuf> {
        check_id(id)?;
        self.state.mark_netns(id)?;
        netns::adopt(&self.parts().config.netns_dir, id, namespace)
    }

    /// Attaches a pod. The same request again gets the same answer; after a crash in the middle it
    /// is begun anew. After an error nothing is left.
    ///
    /// # Errors
    /// What failed, and after it what of the undoing failed.
    pub fn setup(&self, attachment: &Attachment) -> Result<Setup> {
        attachment.check()?;
        let _attaching = self.current.attaching();
        let id = attachment.id.as_str();
        let lock = self.state.lock_id(id)?;
        match self.state.read(id) {
            Ok(Some(record)) => {
                if record.attachment == *attachment
                    && let Some(setup) = &record.setup
                    && self.still_holds(&record)
                {
                    return Ok(setup.clone());
                }
                self.undo(&record)?;
            }
            Ok(None) if lock.is_fresh() => {}
            // A crash before the record was written.
            Ok(None) => drop(self.state.release_all(id)?),
            Err(Error::Json { .. }) => {
                self.undo_unrecorded(id)?;
                self.state.forget(id)?;
            }
            Err(error) => return Err(error),
        }
        self.build(attachment)
            .doing(|| format!("attach pod {id} to the network"))
    }

    /// The configuration of CNI that is in force; none if the built-in network is.
    fn network_list(&self) -> Result<Option<NetworkList>> {
        self.parts().network_list()
    }

    fn build(&self, attachment: &Attachment) -> Result<Setup> {
        let record = |made| Record {
            owner: self.parts().config.owner.clone(),
            boot: self.state.boot().to_owned(),
            attachment: attachment.clone(),
            made,
            setup: None,
            namespace: identity(&attachment.netns),
        };
        let mut record = match self.network_list()? {
            Some(list) => record(Made::Cni {
                network: list.to_value(),
                result: None,
            }),
            None => {
                let ips = self.reserve(attachment)?;
                record(Made::Builtin(self.parts().bridge.place(attachment, ips)))
            }
        };
        let finished = self.make(&mut record);
        finished.map_err(|error| {
            record.setup = None;
            let mut errors = vec![error];
            errors.extend(self.undo(&record).err());
            Error::from_several(errors).unwrap_or_else(|| Error::Several(Vec::new()))
        })
    }

    fn reserve(&self, attachment: &Attachment) -> Result<Vec<IpNet>> {
        match self.state.reserve(&self.parts().config, attachment) {
            Err(Error::Exhausted(_)) => {
                self.finish_leaving()?;
                self.state.reserve(&self.parts().config, attachment)
            }
            other => other,
        }
    }

    /// Makes what a new record says, between two writes of it.
    fn make(&self, record: &mut Record) -> Result<Setup> {
        self.state.write(record)?;
        let setup = match &mut record.made {
            Made::Builtin(place) => {
                self.parts()
                    .bridge
                    .attach(&self.state, &record.attachment, place)?
            }
            Made::Cni { network, result } => {
                let list = stored(network)?;
                let _shared = self.state.share_plugins()?;
                loopback_up(&record.attachment)?;
                let answer = self.parts().cni.add(&list, &record.attachment)?;
                let setup = self
                    .parts()
                    .cni
                    .setup(&answer, &record.attachment.interface);
                *result = Some(answer);
                setup?
            }
        };
        record.setup = Some(setup.clone());
        self.state.write(record)?;
        Ok(setup)
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
            match netns::remove(&self.parts().config.netns_dir, id) {
                Ok(()) => errors.extend(self.state.unmark_netns(id).err()),
                Err(error) => errors.push(error),
            }
        }
        Error::from_several(errors).map_or(Ok(()), Err)
    }

    /// Undoes what a record says, and then the record.
    fn undo(&self, record: &Record) -> Result<()> {
        let mut errors = match &record.made {
            Made::Builtin(place) => self.parts().bridge.detach(&self.state, record, place),
            Made::Cni { network, result } => match stored(network) {
                Ok(list) => {
                    let attachment = &record.attachment;
                    let there = record.boot == self.state.boot() && record.has_namespace();
                    self.parts()
                        .cni
                        .del(&list, attachment, result.as_ref(), there)
                }
                Err(error) => vec![error],
            },
        };
        if errors.is_empty() {
            errors.extend(self.state.forget(&record.attachment.id).err());
        }
        if let Made::Builtin(place) = &record.made
            && crate::bridge::needs_localnet(&record.attachment, place)
        {
            errors.extend(self.parts().bridge.close_localnet(&self.state).err());
        }
        Error::from_several(errors).map_or(Ok(()), Err)
    }

    /// A crash before the record was written left addresses; a lost record leaves more.
    fn undo_unrecorded(&self, id: &str) -> Result<()> {
        let mut errors = Vec::new();
        errors.extend(self.parts().bridge.remove_by_id(id).err());
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
        errors.extend(self.state.sweep_locks().err());
        errors.extend(self.gc_plugins());
        (collected, errors)
    }

    /// Tells CNI's plugins which attachments are left: all that have a record, whosever they are.
    fn gc_plugins(&self) -> Vec<Error> {
        let Ok(Some(list)) = self.network_list() else {
            return Vec::new();
        };
        // While someone attaches, what is valid changes: another time.
        let _alone = match self.state.try_lock_plugins() {
            Ok(Some(lock)) => lock,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![error],
        };
        let mut valid = Vec::new();
        for id in self.state.ids().unwrap_or_default() {
            match self.state.read(&id) {
                Ok(Some(record)) => valid.push((id, record.attachment.interface)),
                Ok(None) => {}
                // What is not known to be gone must not be cleaned up.
                Err(error) => return vec![error],
            }
        }
        self.parts().cni.gc(&list, &valid)
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
                record.is_none_or(|record| record.owner == self.parts().config.owner)
            });
            list
        }));
        take(self.state.holders());
        take(self.state.marked_netns());
        take(
            Links::open()
                .and_then(|mut links| links.list())
                .map(|links| {
                    let ours = links
                        .iter()
                        .filter_map(|link| self.parts().bridge.id_of(link));
                    ours.filter(|id| check_id(id).is_ok()).collect()
                }),
        );
        ids
    }

    pub(crate) fn collect(&self, id: &str) -> Result<bool> {
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

    /// Whether a request that comes again can be answered by what was made. Plugins are not asked:
    /// CHECK is less reliable than what it checks, and making anew costs the pod its address.
    fn still_holds(&self, record: &Record) -> bool {
        match &record.made {
            Made::Builtin(_) => self.check_record(record).is_ok(),
            Made::Cni { .. } => record.boot == self.state.boot() && record.has_namespace(),
        }
    }

    fn check_record(&self, record: &Record) -> Result<()> {
        if record.boot != self.state.boot() {
            return Err(Error::Drift("it was attached before a reboot".into()));
        }
        match &record.made {
            Made::Builtin(place) => self.parts().bridge.check(&record.attachment, place),
            Made::Cni { network, result } => {
                let list = stored(network)?;
                self.parts()
                    .cni
                    .check(&list, &record.attachment, result.as_ref())
            }
        }
    }

    /// Whether pods can be attached: makes the bridge and the rules if they are not there, or asks
    /// CNI's plugins.
    #[must_use]
    pub fn status(&self) -> Status {
        let ready = |message, warnings| Status {
            ready: true,
            reason: "NetworkReady",
            message,
            warnings,
        };
        let answer = self.network_list().and_then(|list| match list {
            Some(list) => {
                self.parts().cni.status(&list)?;
                Ok(ready(format!("CNI network {}", list.name), Vec::new()))
            }
            None => {
                let link = self.parts().bridge.ensure(&self.state)?;
                let message = format!("built-in network on the bridge {}", link.name);
                Ok(ready(message, self.parts().bridge.warnings()))
            }
        });
        answer.unwrap_or_else(|error| Status {
            ready: false,
            reason: "NetworkNotReady",
            message: error.to_string(),
            warnings: Vec::new(),
        })
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
        self.parts().bridge.destroy()
    }
}

/// The list of plugins that an attachment was made with.
fn stored(network: &serde_json::Value) -> Result<NetworkList> {
    let invalid = |reason| Error::Invalid(format!("the CNI network of a record: {reason}"));
    let list = NetworkList::parse(network).map_err(invalid)?;
    list.check().map_err(invalid)?;
    Ok(list)
}

fn listed(subnets: &[IpNet]) -> String {
    let words: Vec<String> = subnets.iter().map(IpNet::to_string).collect();
    words.join(", ")
}

/// What the plugin `loopback` would do.
fn loopback_up(attachment: &Attachment) -> Result<()> {
    let namespace = netns::open(&attachment.netns)?;
    netns::inside(namespace.as_fd(), || Links::open()?.loopback_up())
}

/// Whether the machine has IPv6: built in, and not switched off.
fn has_ipv6() -> Result<bool> {
    Ok(sysctl::get("ipv6/conf/all/disable_ipv6")?.as_deref() == Some("0"))
}
