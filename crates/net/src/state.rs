//! What we gave to whom: in files, so that no crash loses an address. A reboot may lose them, all
//! but what CNI plugins gave: the kernel holds nothing of them then.
//!
//! ```text
//! network               the boot, and what the network is configured to be
//! lock                  guards the choice of addresses
//! locks/ID              guards one attachment
//! plugins               guards plugins' attaching against their garbage collection
//! addresses/10.86.0.2   → BOOT/OWNER/ID: a symbolic link is made whole or not at all
//! attachments/ID        the record, in JSON; written before anything is made
//! netns/ID              → BOOT/OWNER/ID, for a network namespace that was made here
//! last4, last6          where to look for the next free address
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::IpNet;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use sys::Context as _;

use crate::attachment::{Attachment, Mac, Setup};
use crate::lock::Lock;
use crate::{Config, Error, Result};

/// What is known of an attachment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Record {
    /// Whose it is.
    pub(crate) owner: String,
    /// The boot in which it was made: what the kernel held then is gone after another.
    pub(crate) boot: String,
    /// What was asked for.
    pub(crate) attachment: Attachment,
    /// Who made it.
    pub(crate) made: Made,
    /// What it got; none while it is being made.
    pub(crate) setup: Option<Setup>,
    /// Device and inode of its network namespace: a path by way of a process may lead to another
    /// one later.
    #[serde(default)]
    pub(crate) namespace: Option<(u64, u64)>,
}

impl Record {
    /// Whether the namespace is still where it was.
    pub(crate) fn has_namespace(&self) -> bool {
        self.namespace.is_some() && self.namespace == identity(&self.attachment.netns)
    }
}

/// Device and inode of what a path leads to.
pub(crate) fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Who made an attachment, and what that takes to undo.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Made {
    /// The bridge.
    Builtin(Place),
    /// Plugins.
    Cni {
        /// The network's configuration as it was then.
        network: serde_json::Value,
        /// What the last plugin answered; none while it is being made.
        result: Option<serde_json::Value>,
    },
}

/// An attachment's place on the bridge.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Place {
    /// The link on the machine.
    pub(crate) host_link: String,
    /// The hardware address in the pod.
    pub(crate) mac: Mac,
    /// Its addresses with the subnets' prefixes.
    pub(crate) ips: Vec<IpNet>,
}

/// Name of the file with the configuration.
const CONFIG: &str = "network";
/// Name of the file with subnets that were given while the network ran, if no other is named.
const SUBNETS: &str = "subnets";

/// The directory of a network's state.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
    /// For records of what plugins made: their addresses survive a reboot.
    lasting: PathBuf,
    /// Subnets that were given while the network ran.
    subnets: PathBuf,
    owner: String,
    boot: String,
}

/// Whose an address is.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Holder {
    boot: String,
    owner: String,
    id: String,
}

impl Holder {
    fn read(path: &Path) -> Option<Self> {
        let target = fs::read_link(path).ok()?.into_os_string();
        let mut parts = target.to_str()?.split('/').map(str::to_owned);
        Some(Self {
            boot: parts.next()?,
            owner: parts.next()?,
            id: parts.next()?,
        })
    }
}

impl State {
    pub(crate) fn open(dir: &Path, config: &Config) -> Result<Self> {
        let lasting = &config.cni.cache_dir;
        let parts = ["", "locks", "addresses", "attachments", "netns"];
        let dirs = parts.map(|part| dir.join(part));
        for path in dirs.into_iter().chain([lasting.to_owned()]) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .context("mkdir", || path.display().to_string())?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            lasting: lasting.to_owned(),
            subnets: match &config.subnets_file {
                Some(path) => path.to_owned(),
                None => dir.join(SUBNETS),
            },
            owner: config.owner.clone(),
            boot: boot_id()?,
        })
    }

    /// Writes down what the network is configured to be, in this boot.
    pub(crate) fn write_config(&self, config: &Config) -> Result<()> {
        let path = self.dir.join(CONFIG);
        let what = || path.display().to_string();
        let text = serde_json::to_vec(&(&self.boot, config)).map_err(|source| Error::Json {
            what: what(),
            source,
        })?;
        let draft = draft_of(&path);
        let _lock = self.lock()?;
        fs::write(&draft, text).context("write", what)?;
        Ok(fs::rename(&draft, &path).context("rename", what)?)
    }

    /// Keeps the subnets that a cluster gave this machine.
    pub(crate) fn write_subnets(&self, subnets: &[IpNet]) -> Result<()> {
        let path = &self.subnets;
        let what = || path.display().to_string();
        let text: String = subnets.iter().map(|net| format!("{net}\n")).collect();
        let draft = draft_of(path);
        fs::write(&draft, text).context("write", what)?;
        Ok(fs::rename(&draft, path).context("rename", what)?)
    }

    /// Those subnets; none if there was no such word.
    pub(crate) fn read_subnets(&self) -> Result<Vec<IpNet>> {
        let path = &self.subnets;
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.context("read", || path.display().to_string())?,
        };
        let subnet = |line: &str| {
            line.parse()
                .map_err(|_| Error::Invalid(format!("{}: {line:?} is no subnet", path.display())))
        };
        text.lines().map(subnet).collect()
    }

    /// What was written down in this boot.
    pub(crate) fn read_config(dir: &Path) -> Result<Option<Config>> {
        let path = dir.join(CONFIG);
        let what = || path.display().to_string();
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.context("read", what)?,
        };
        let found: (String, Config) =
            serde_json::from_slice(&text).map_err(|source| Error::Json {
                what: what(),
                source,
            })?;
        Ok((found.0 == boot_id()?).then_some(found.1))
    }

    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// The lock of the whole network: short work only.
    pub(crate) fn lock(&self) -> Result<Lock> {
        Lock::acquire(&self.dir.join("lock"))
    }

    pub(crate) fn lock_id(&self, id: &str) -> Result<Lock> {
        Lock::acquire(&self.dir.join("locks").join(id))
    }

    pub(crate) fn try_lock_id(&self, id: &str) -> Result<Option<Lock>> {
        Lock::try_acquire(&self.dir.join("locks").join(id))
    }

    /// Removes locks that guard nothing: a crash right after one was taken left it.
    pub(crate) fn sweep_locks(&self) -> Result<()> {
        for id in names(&self.dir.join("locks"))? {
            if self.holds_nothing(&id)
                && let Some(lock) = self.try_lock_id(&id)?
                && self.holds_nothing(&id)
            {
                lock.remove();
            }
        }
        Ok(())
    }

    /// Whether there is neither a record nor a namespace. An address without them is found by
    /// looking at all addresses.
    fn holds_nothing(&self, id: &str) -> bool {
        !self.has_netns(id) && !self.record_paths(id).iter().any(|path| path.exists())
    }

    /// Shared by all who attach by plugins, held alone by who tells plugins what is attached.
    pub(crate) fn share_plugins(&self) -> Result<Lock> {
        Lock::share(&self.dir.join("plugins"))
    }

    pub(crate) fn try_lock_plugins(&self) -> Result<Option<Lock>> {
        Lock::try_acquire(&self.dir.join("plugins"))
    }

    /// Where a record may be.
    fn record_paths(&self, id: &str) -> [PathBuf; 2] {
        [self.dir.join("attachments").join(id), self.lasting.join(id)]
    }

    pub(crate) fn read(&self, id: &str) -> Result<Option<Record>> {
        for path in self.record_paths(id) {
            let text = match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.context("read", || path.display().to_string())?,
            };
            let record = serde_json::from_slice(&text).map_err(|source| Error::Json {
                what: path.display().to_string(),
                source,
            })?;
            return Ok(Some(record));
        }
        Ok(None)
    }

    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let [passing, lasting] = self.record_paths(&record.attachment.id);
        let path = match record.made {
            Made::Builtin(_) => passing,
            Made::Cni { .. } => lasting,
        };
        let text = serde_json::to_vec(record).map_err(|source| Error::Json {
            what: path.display().to_string(),
            source,
        })?;
        let draft = draft_of(&path);
        let name = || draft.display().to_string();
        let mut file = File::create(&draft).context("open", name)?;
        file.write_all(&text).context("write", name)?;
        if matches!(record.made, Made::Cni { .. }) {
            // It must outlive a power cut: the plugins' own files do.
            file.sync_data().context("fdatasync", name)?;
        } else if renameat_with(CWD, &draft, CWD, &path, RenameFlags::EXCHANGE).is_ok() {
            // Ext4 writes a file to disk at once that takes another one's name; one that exchanges
            // names with it has time.
            return remove(&draft);
        }
        fs::rename(&draft, &path).context("rename", || path.display().to_string())?;
        Ok(())
    }

    pub(crate) fn forget(&self, id: &str) -> Result<()> {
        for path in self.record_paths(id) {
            remove(&draft_of(&path))?;
            remove(&path)?;
        }
        Ok(())
    }

    /// All records that can be read, whosever they are. One that cannot (a power cut) stands for
    /// nothing that the kernel holds, and is left to the collector.
    pub(crate) fn records(&self) -> Result<BTreeMap<String, Record>> {
        let mut records = BTreeMap::new();
        for id in self.ids()? {
            match self.read(&id) {
                Ok(Some(record)) => {
                    records.insert(id, record);
                }
                Ok(None) | Err(Error::Json { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// The ids of all records, whosever they are.
    pub(crate) fn ids(&self) -> Result<BTreeSet<String>> {
        let mut ids = names(&self.dir.join("attachments"))?;
        ids.extend(names(&self.lasting)?);
        ids.retain(|name| !name.starts_with('.'));
        Ok(ids)
    }

    /// The ids of those who hold an address, of our owner only.
    pub(crate) fn holders(&self) -> Result<BTreeSet<String>> {
        self.held_in("addresses")
    }

    /// The ids of those for whom a network namespace was made, of our owner only.
    pub(crate) fn marked_netns(&self) -> Result<BTreeSet<String>> {
        self.held_in("netns")
    }

    /// Notes that a network namespace is ours to remove.
    pub(crate) fn mark_netns(&self, id: &str) -> Result<()> {
        let path = self.dir.join("netns").join(id);
        remove(&path)?;
        let target = self.target(id);
        Ok(symlink(target, &path).context("symlink", || path.display().to_string())?)
    }

    pub(crate) fn has_netns(&self, id: &str) -> bool {
        self.dir.join("netns").join(id).is_symlink()
    }

    pub(crate) fn unmark_netns(&self, id: &str) -> Result<()> {
        remove(&self.dir.join("netns").join(id))
    }

    fn target(&self, id: &str) -> String {
        format!("{}/{}/{id}", self.boot, self.owner)
    }

    fn held_in(&self, part: &str) -> Result<BTreeSet<String>> {
        let dir = self.dir.join(part);
        let holders = names(&dir)?
            .into_iter()
            .filter_map(|name| Holder::read(&dir.join(name)));
        let ours = holders.filter(|holder| holder.owner == self.owner);
        Ok(ours.map(|holder| holder.id).collect())
    }

    /// Each address that is held, for whom, and whether by another owner.
    pub(crate) fn addresses(&self) -> Result<Vec<(IpAddr, String, bool)>> {
        let dir = self.dir.join("addresses");
        let held = names(&dir)?.into_iter().filter_map(|name| {
            let holder = Holder::read(&dir.join(&name))?;
            Some((name.parse().ok()?, holder.id, holder.owner != self.owner))
        });
        Ok(held.collect())
    }

    /// When anything of this id was written last.
    pub(crate) fn last_change(&self, id: &str) -> Option<SystemTime> {
        let [passing, lasting] = self.record_paths(id);
        let mut paths = vec![passing, lasting, self.dir.join("netns").join(id)];
        let held = self.addresses().unwrap_or_default().into_iter();
        let held = held.filter(|(_, of, _)| of == id);
        paths.extend(held.map(|(ip, ..)| self.dir.join("addresses").join(ip.to_string())));
        let times = paths
            .iter()
            .filter_map(|path| fs::symlink_metadata(path).ok());
        times.filter_map(|metadata| metadata.modified().ok()).max()
    }

    /// How many addresses are held.
    pub(crate) fn addresses_held(&self) -> Result<usize> {
        Ok(names(&self.dir.join("addresses"))?.len())
    }

    /// Addresses for an attachment, held from now on.
    pub(crate) fn reserve(&self, config: &Config, attachment: &Attachment) -> Result<Vec<IpNet>> {
        let _lock = self.lock()?;
        let mut got = Vec::new();
        let result = self.reserve_locked(config, attachment, &mut got);
        if let Err(error) = result {
            let mut errors = vec![error];
            let undo = got
                .iter()
                .map(|net| self.release_one(net.addr(), &attachment.id));
            errors.extend(undo.filter_map(Result::err));
            return Err(Error::from_several(errors).unwrap_or_else(no_address));
        }
        Ok(got)
    }

    fn reserve_locked(
        &self,
        config: &Config,
        attachment: &Attachment,
        got: &mut Vec<IpNet>,
    ) -> Result<()> {
        let four = config.subnet4.map(IpNet::V4);
        let subnets: Vec<IpNet> = four
            .into_iter()
            .chain(config.subnet6.map(IpNet::V6))
            .collect();
        for ip in &attachment.ips {
            let subnet = subnets.iter().find(|net| net.contains(ip));
            let subnet = subnet
                .copied()
                .filter(|net| places(*net).contains(&number(*ip)));
            let subnet = subnet.ok_or_else(|| {
                Error::Invalid(format!("address {ip} is not a pod's in this network"))
            })?;
            if !self.hold(*ip, &attachment.id)? {
                return Err(Error::Exhausted(format!("address {ip} is taken")));
            }
            got.push(with_prefix(*ip, subnet)?);
        }
        for subnet in subnets {
            let given = |net: &&IpNet| net.addr().is_ipv4() == subnet.addr().is_ipv4();
            if !got.iter().any(|net| given(&net)) {
                got.push(self.next_free(subnet, &attachment.id)?);
            }
        }
        Ok(())
    }

    /// The first free address behind the one that was given last: one that was let go of rests.
    fn next_free(&self, subnet: IpNet, id: &str) -> Result<IpNet> {
        let last_path = self.dir.join(if subnet.addr().is_ipv4() {
            "last4"
        } else {
            "last6"
        });
        let places = places(subnet);
        let (first, end) = (*places.start(), *places.end());
        let last = fs::read_to_string(&last_path).ok();
        let last = last
            .and_then(|text| text.trim().parse::<IpAddr>().ok())
            .map(number);
        let start = last.map_or(first, |last| last.wrapping_add(1));
        let start = if places.contains(&start) {
            start
        } else {
            first
        };
        for place in (start..=end).chain(first..start) {
            let ip = address(place, subnet);
            if self.hold(ip, id)? {
                // All are of one length: ext4 writes a file to disk at once that was truncated.
                let text = format!("{ip:<40}\n");
                let mut options = File::options();
                let file = options.write(true).create(true).truncate(false);
                let file = file.open(&last_path);
                file.and_then(|mut file| file.write_all(text.as_bytes()))
                    .context("write", || last_path.display().to_string())?;
                return with_prefix(ip, subnet);
            }
        }
        Err(Error::Exhausted(format!(
            "no address is left in {subnet}: remove pods, or configure a larger subnet"
        )))
    }

    /// Takes an address; false if someone has it. One of another boot is no one's.
    fn hold(&self, ip: IpAddr, id: &str) -> Result<bool> {
        let path = self.dir.join("addresses").join(ip.to_string());
        let target = self.target(id);
        for _ in 0..2 {
            match symlink(&target, &path) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.context("symlink", || path.display().to_string())?,
            }
            if Holder::read(&path).is_some_and(|holder| holder.boot == self.boot) {
                return Ok(false);
            }
            remove(&path)?;
        }
        Ok(false)
    }

    fn release_one(&self, ip: IpAddr, id: &str) -> Result<()> {
        let path = self.dir.join("addresses").join(ip.to_string());
        match Holder::read(&path) {
            Some(holder) if holder.id == id && holder.owner == self.owner => remove(&path),
            _ => Ok(()),
        }
    }

    /// Lets go of these addresses, where `id` holds them.
    pub(crate) fn release(&self, ips: &[IpNet], id: &str) -> Result<()> {
        let _lock = self.lock()?;
        let mut errors = Vec::new();
        for ip in ips {
            errors.extend(self.release_one(ip.addr(), id).err());
        }
        Error::from_several(errors).map_or(Ok(()), Err)
    }

    /// Lets go of all addresses that `id` holds, by looking at each: for a crash before there
    /// was a record.
    pub(crate) fn release_all(&self, id: &str) -> Result<Vec<IpAddr>> {
        let _lock = self.lock()?;
        let dir = self.dir.join("addresses");
        let mut released = Vec::new();
        for name in names(&dir)? {
            let path = dir.join(&name);
            let holder = Holder::read(&path);
            if holder.is_some_and(|holder| holder.id == id && holder.owner == self.owner) {
                remove(&path)?;
                released.extend(name.parse::<IpAddr>());
            }
        }
        Ok(released)
    }
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let boot = fs::read_to_string(path).context("read", || path)?;
    Ok(boot.trim().to_owned())
}

/// Where a record is written before it gets its name. No id starts with a dot.
fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}"))
}

fn no_address() -> Error {
    Error::Exhausted("no address".into())
}

fn names(dir: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(dir).context("open", || dir.display().to_string())?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.collect())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => Ok(other.context("unlink", || path.display().to_string())?),
    }
}

/// Addresses that a pod may have: not the network's, the gateway's, the broadcast one.
fn places(subnet: IpNet) -> std::ops::RangeInclusive<u128> {
    let first = number(subnet.network()).saturating_add(2);
    let last = number(subnet.broadcast());
    let last = if subnet.addr().is_ipv4() {
        last.saturating_sub(1)
    } else {
        last
    };
    first..=last
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn address(place: u128, subnet: IpNet) -> IpAddr {
    match (subnet, u32::try_from(place)) {
        (IpNet::V4(_), Ok(place)) => Ipv4Addr::from(place).into(),
        _ => Ipv6Addr::from(place).into(),
    }
}

fn with_prefix(ip: IpAddr, subnet: IpNet) -> Result<IpNet> {
    IpNet::new(ip, subnet.prefix_len())
        .map_err(|error| Error::Invalid(format!("{ip} in {subnet}: {error}")))
}
