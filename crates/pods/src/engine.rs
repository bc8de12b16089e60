//! All pods and containers, and what is done to them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::container::{Container, Phase};
use crate::error::{Doing, Error, Kind, Result};
use crate::journal::{Journal, What};
use crate::oci::Host;
use crate::operation::{Observer, Operations, lock};
use crate::pod::{Pod, PodPhase};
use crate::record::{Record, Records};
use crate::settings::{Places, Settings};

/// What the engine is made of.
pub struct Parts {
    /// Where things lie.
    pub places: Places,
    /// What can be changed later.
    pub settings: Settings,
    /// Images.
    pub images: Arc<image::store::Store>,
    /// The pods' network.
    pub network: Arc<net::Network>,
    /// Who is told about finished operations.
    pub observer: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("places", &self.places)
            .finish_non_exhaustive()
    }
}

/// All pods and containers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    places: Places,
    settings: RwLock<Arc<Settings>>,
    pub(crate) host: Host,
    pub(crate) images: Arc<image::store::Store>,
    pub(crate) network: Arc<net::Network>,
    pub(crate) operations: Arc<Operations>,
    pub(crate) records: Records,
    pub(crate) journal: Journal,
    pub(crate) tables: Mutex<Tables>,
}

/// What exists. Held only to look up and to change, never over a call.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
    pub(crate) containers: BTreeMap<String, Arc<Container>>,
    /// Ids by what the kubelet calls them.
    pub(crate) names: HashMap<String, String>,
}

impl Engine {
    /// Opens the state, and finds what an earlier daemon has left.
    ///
    /// # Errors
    /// The state cannot be read, or the machine has no control groups.
    pub async fn open(parts: Parts) -> Result<Self> {
        let host = Host::look().doing(|| "control groups".to_owned())?;
        let places = parts.places;
        for dir in [&places.state, &places.run, &places.run.join("pods")] {
            crate::files::private_dir(dir)?;
        }
        supervise::pause::install(&places.run.join("pause"))
            .doing(|| "install /pause".to_owned())?;
        let (records, found) = Records::open(&places.run, &places.state, &host.boot_id)?;
        let journal = Journal::open(&places.state)?;
        let engine = Self(Arc::new(Inner {
            settings: RwLock::new(Arc::new(parts.settings)),
            host,
            images: parts.images,
            network: parts.network,
            operations: Arc::new(Operations::new(parts.observer)),
            records,
            journal,
            tables: Mutex::default(),
            places,
        }));
        engine.restore(found).await;
        Ok(engine)
    }

    /// Where things lie.
    pub fn places(&self) -> &Places {
        &self.0.places
    }

    /// What the machine can do.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(
            &self
                .0
                .settings
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// New settings, for what is made from now on.
    pub fn reload(&self, settings: Settings) {
        *self
            .0
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// The operations that run.
    pub fn operations(&self) -> &Arc<Operations> {
        &self.0.operations
    }

    /// What has happened.
    pub fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// Whether pods can have networks, and why not.
    pub async fn network_status(&self) -> Option<net::Status> {
        let network = Arc::clone(&self.0.network);
        crate::supervisor::blocking(move || Ok(network.status()))
            .await
            .ok()
    }

    /// The pods' subnets, with commas between.
    pub fn pod_subnets(&self) -> String {
        let config = self.0.network.config();
        let four = config.subnet4.map(|net| net.to_string());
        let six = config.subnet6.map(|net| net.to_string());
        let all: Vec<String> = four.into_iter().chain(six).collect();
        all.join(",")
    }

    /// Gives the pods other subnets: one, or one of each family with a comma between.
    ///
    /// # Errors
    /// What is no subnet; pods that hold addresses of the old ones.
    pub async fn set_pod_subnets(&self, text: &str) -> Result<()> {
        let what = || format!("pods' subnets {text}");
        let subnets: std::result::Result<Vec<_>, _> =
            text.split(',').map(|net| net.trim().parse()).collect();
        let subnets = subnets.map_err(|e| Error::invalid(format!("{}: {e}", what())))?;
        let network = Arc::clone(&self.0.network);
        let done = crate::supervisor::blocking(move || Ok(network.set_subnets(&subnets))).await?;
        done.map_err(|e| {
            let kind = match e.kind() {
                net::ErrorKind::TryAgain => Kind::State,
                net::ErrorKind::Invalid => Kind::Invalid,
                _ => Kind::Failed,
            };
            Error::new(kind, format!("{}: {e}", what()))
        })
    }

    /// The store of images.
    pub fn images(&self) -> &Arc<image::store::Store> {
        &self.0.images
    }

    /// All pods that are made, oldest first.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let made = |p: &&Arc<Pod>| !matches!(p.phase(), PodPhase::Making | PodPhase::Removed);
        let mut all: Vec<Arc<Pod>> = lock(&self.0.tables)
            .pods
            .values()
            .filter(made)
            .cloned()
            .collect();
        all.sort_by_cached_key(|p| lock(&p.record).created);
        all
    }

    /// All containers that are made, oldest first.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        let made = |c: &&Arc<Container>| !matches!(c.phase(), Phase::Making | Phase::Removed);
        let mut all: Vec<Arc<Container>> = lock(&self.0.tables)
            .containers
            .values()
            .filter(made)
            .cloned()
            .collect();
        all.sort_by_cached_key(|c| lock(&c.record).created);
        all
    }

    /// The containers of a pod.
    pub fn containers_of(&self, pod: &str) -> Vec<Arc<Container>> {
        self.containers()
            .into_iter()
            .filter(|c| c.pod.id == pod)
            .collect()
    }

    /// The containers of a pod, with those that are being made and what is left of some that could
    /// not be.
    pub(crate) fn all_of(&self, pod: &str) -> Vec<Arc<Container>> {
        let tables = lock(&self.0.tables);
        let mine = tables.containers.values().filter(|c| c.pod.id == pod);
        mine.cloned().collect()
    }

    /// A pod by its id, or by the beginning of it where there is one such.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        let pod = find(&lock(&self.0.tables).pods, "pod", id)?;
        if matches!(pod.phase(), PodPhase::Making | PodPhase::Removed) {
            return Err(Error::not_found("pod", id));
        }
        Ok(pod)
    }

    /// A container by its id, or by the beginning of it where there is one such.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        let container = find(&lock(&self.0.tables).containers, "container", id)?;
        if matches!(container.phase(), Phase::Making | Phase::Removed) {
            return Err(Error::not_found("container", id));
        }
        Ok(container)
    }

    pub(crate) fn named(&self, key: &str) -> Option<String> {
        lock(&self.0.tables).names.get(key).cloned()
    }

    pub(crate) fn add_pod(&self, key: Option<String>, pod: Arc<Pod>) {
        let mut tables = lock(&self.0.tables);
        tables.names.extend(key.map(|key| (key, pod.id.clone())));
        tables.pods.insert(pod.id.clone(), pod);
    }

    pub(crate) fn add_container(&self, key: Option<String>, container: Arc<Container>) {
        let mut tables = lock(&self.0.tables);
        tables
            .names
            .extend(key.map(|key| (key, container.id.clone())));
        tables.containers.insert(container.id.clone(), container);
    }

    /// Lets another one have its name.
    pub(crate) fn free_name(&self, id: &str) {
        lock(&self.0.tables).names.retain(|_, named| named != id);
    }

    pub(crate) fn forget(&self, id: &str) {
        let mut tables = lock(&self.0.tables);
        tables.names.retain(|_, named| named != id);
        tables.pods.remove(id);
        tables.containers.remove(id);
    }

    /// Writes a pod down as it is now.
    pub(crate) async fn save_pod(&self, pod: &Arc<Pod>) -> Result<()> {
        let (engine, pod) = (self.clone(), Arc::clone(pod));
        crate::supervisor::blocking(move || engine.put_pod(&pod)).await
    }

    /// The same, on a thread that may wait.
    pub(crate) fn put_pod(&self, pod: &Pod) -> Result<()> {
        self.0.records.put(&pod.place, || Record::Pod(pod.record()))
    }

    /// Writes a container down as it is now.
    pub(crate) async fn save_container(&self, container: &Arc<Container>) -> Result<()> {
        let (engine, container) = (self.clone(), Arc::clone(container));
        crate::supervisor::blocking(move || engine.put_container(&container)).await
    }

    /// The same, on a thread that may wait.
    pub(crate) fn put_container(&self, container: &Container) -> Result<()> {
        let now = || Record::Container(container.record());
        self.0.records.put(&container.place, now)
    }

    pub(crate) fn event(&self, what: What, pod: &str, container: &str) {
        self.0.journal.add(what, pod, container);
    }
}

fn find<T>(all: &BTreeMap<String, Arc<T>>, what: &str, id: &str) -> Result<Arc<T>> {
    if id.is_empty() {
        return Err(Error::invalid(format!("no {what} id given")));
    }
    if let Some(exact) = all.get(id) {
        return Ok(Arc::clone(exact));
    }
    let mut begins = all
        .range(id.to_owned()..)
        .take_while(|(key, _)| key.starts_with(id));
    match (begins.next(), begins.next()) {
        (Some((_, one)), None) => Ok(Arc::clone(one)),
        (Some(_), Some(_)) => Err(Error::invalid(format!(
            "{what} {id}: more than one id begins so"
        ))),
        (None, _) => Err(Error::not_found(what, id)),
    }
}
