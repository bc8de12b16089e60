//! What is written down about pods and containers.
//!
//! Twice, for two accidents. Each record is a small file below the run directory, written before
//! an operation returns: it outlives the daemon at the price of a rename in memory. A thread
//! copies changes to the database below the state directory, many in one transaction: that
//! outlives the machine. After a restart the files are the truth; what only the database has is
//! of an earlier boot, and ended with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cri_api::v1::{ContainerConfig, PodSandboxConfig};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};
use crate::oci::PodNamespaces;
use crate::operation::lock;

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");

/// When to try again what could not be written.
const RETRY: Duration = Duration::from_secs(5);
/// How long changes are gathered: each commit waits for the disk, and has others wait for it.
const GATHER: Duration = Duration::from_secs(1);

/// A pod.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PodRecord {
    /// The boot it was made in.
    pub boot: String,
    /// Its id.
    pub id: String,
    /// Nanoseconds since 1970.
    pub created: i64,
    /// The runtime handler asked for.
    pub handler: String,
    /// How it shares namespaces.
    pub namespaces: PodNamespaces,
    /// Where its control groups go.
    pub cgroup_parent: String,
    /// The parent is ours to remove.
    pub own_parent: bool,
    /// `/pause`; 0 once ended.
    pub pid: i32,
    /// It was made to its end.
    pub made: bool,
    /// It is ready.
    pub ready: bool,
    /// Its addresses.
    pub ips: Vec<String>,
    /// Its network is up.
    pub network: bool,
    /// What was asked for.
    #[serde(with = "message")]
    pub config: PodSandboxConfig,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ended {
    /// Exit code, 128 and the signal's number.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// One sentence, where there is more to say.
    pub message: String,
    /// Nanoseconds since 1970.
    pub at: i64,
}

/// A container.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ContainerRecord {
    /// The boot it was made in.
    pub boot: String,
    /// Its id.
    pub id: String,
    /// Its pod.
    pub pod: String,
    /// Nanoseconds since 1970.
    pub created: i64,
    /// It was made to its end.
    pub made: bool,
    /// Nanoseconds since 1970; 0 if it never was.
    pub started: i64,
    /// How it ended.
    pub ended: Option<Ended>,
    /// Its first process.
    pub pid: i32,
    /// The image's id.
    pub image_id: String,
    /// The image by digest.
    pub image_ref: String,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// As whom it runs.
    pub uid: u32,
    /// As whom it runs.
    pub gid: u32,
    /// As whom it runs.
    pub groups: Vec<u32>,
    /// `linux.cgroupsPath`.
    pub cgroups_path: String,
    /// Images that are mounted as volumes, by the key of their mount.
    pub volumes: Vec<String>,
    /// The log's absolute path; empty for none.
    pub log_path: String,
    /// What was asked for.
    #[serde(with = "message")]
    pub config: ContainerConfig,
}

/// Either of them. There is one at a time, on its way to a file: its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Record {
    /// A pod.
    Pod(PodRecord),
    /// A container.
    Container(ContainerRecord),
}

impl Record {
    fn id(&self) -> &str {
        match self {
            Self::Pod(p) => &p.id,
            Self::Container(c) => &c.id,
        }
    }

    fn boot(&self) -> &str {
        match self {
            Self::Pod(p) => &p.boot,
            Self::Container(c) => &c.boot,
        }
    }
}

/// A message of the CRI in its own encoding, as hexadecimal text.
mod message {
    use prost::Message;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<M: Message, S: Serializer>(m: &M, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::hex(&m.encode_to_vec()))
    }

    pub(super) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(
        d: D,
    ) -> Result<M, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = super::unhex(&text).ok_or_else(|| D::Error::custom("not hexadecimal"))?;
        M::decode(bytes.as_slice()).map_err(D::Error::custom)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    bytes
        .iter()
        .flat_map(|b| [digit(b >> 4), digit(b & 15)])
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    text.as_bytes()
        .chunks(2)
        .map(|pair| Some(nibble(pair[0])? << 4 | nibble(*pair.get(1)?)?))
        .collect()
}

/// Where the record of one pod or container is written: by one at a time, so that the newest is
/// the last, and by nobody once it was removed, as the news of an end may come after that.
#[derive(Debug, Default)]
pub struct Place {
    is_gone: Mutex<bool>,
}

/// All records.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    boot: String,
    changes: Arc<Changes>,
    writer: Option<JoinHandle<()>>,
}

impl Records {
    /// Opens both places and reads what they have: of this boot, and of earlier ones.
    ///
    /// # Errors
    /// A place cannot be read; another daemon has the database.
    pub fn open(run: &Path, state: &Path, boot: &str) -> Result<(Self, Vec<Record>)> {
        let dir = run.join("records");
        fs::create_dir_all(&dir).doing(|| format!("mkdir({})", dir.display()))?;
        let path = state.join("pods.redb");
        let database = Database::create(&path).doing(|| {
            format!(
                "open({}), which one hulld at a time can have",
                path.display()
            )
        })?;
        let mut all = of_database(&database, boot)?;
        all.extend(of_files(&dir)?);
        let changes = Arc::new(Changes::default());
        let taken = Arc::clone(&changes);
        let writer = std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || write_all(database, &path, &taken))
            .doing(|| "spawn(records)".to_owned())?;
        let records = Self {
            dir,
            boot: boot.to_owned(),
            changes,
            writer: Some(writer),
        };
        Ok((records, all.into_values().collect()))
    }

    /// Writes one down as it is now. It is safe from the daemon's end when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, place: &Place, now: impl FnOnce() -> Record) -> Result<()> {
        let is_gone = lock(&place.is_gone);
        if *is_gone {
            return Ok(());
        }
        self.write(&now())
    }

    fn write(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).doing(|| format!("record {}", record.id()))?;
        if record.boot() == self.boot {
            let path = self.dir.join(record.id());
            let new = self.dir.join(format!(".{}", record.id()));
            let what = || format!("write({})", path.display());
            fs::write(&new, &bytes).doing(what)?;
            fs::rename(&new, &path).doing(what)?;
        }
        self.changes.add(record.id(), Some(bytes));
        Ok(())
    }

    /// Forgets one; what is still to be written of it is not.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, place: &Place, id: &str) -> Result<()> {
        let mut is_gone = lock(&place.is_gone);
        let path = self.dir.join(id);
        self.changes.add(id, None);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::failed(format!("unlink({})", path.display()), e))
            }
            _ => {
                *is_gone = true;
                Ok(())
            }
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.changes.end();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Those of earlier boots; what is of this one and has no file was removed.
fn of_database(database: &Database, boot: &str) -> Result<BTreeMap<String, Record>> {
    let what = || "read(pods.redb)".to_owned();
    let transaction = database.begin_read().doing(what)?;
    let table = match transaction.open_table(RECORDS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        Err(e) => return Err(Error::failed(what(), e)),
    };
    let mut all = BTreeMap::new();
    for entry in table.iter().doing(what)? {
        let (id, bytes) = entry.doing(what)?;
        let record: Record = serde_json::from_slice(bytes.value()).doing(what)?;
        if record.boot() != boot {
            all.insert(id.value().to_owned(), record);
        }
    }
    Ok(all)
}

fn of_files(dir: &Path) -> Result<BTreeMap<String, Record>> {
    let what = || format!("readdir({})", dir.display());
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).doing(what)? {
        let path = entry.doing(what)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') {
            // Of a daemon that was killed when it wrote it.
            fs::remove_file(&path).doing(|| format!("unlink({})", path.display()))?;
            continue;
        }
        let what = || format!("read({})", path.display());
        let record = serde_json::from_slice(&fs::read(&path).doing(what)?).doing(what)?;
        all.insert(name, record);
    }
    Ok(all)
}

/// What is to be written to the database: by id, the record or its absence.
type Batch = BTreeMap<String, Option<Vec<u8>>>;

/// Changes that wait for the writer.
#[derive(Debug, Default)]
struct Changes {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    /// There will be no more.
    end: bool,
}

impl Changes {
    fn add(&self, id: &str, record: Option<Vec<u8>>) {
        let mut waiting = lock(&self.waiting);
        let is_first = waiting.batch.is_empty();
        waiting.batch.insert(id.to_owned(), record);
        // The writer is woken once a batch, not by every change of it.
        if is_first {
            self.news.notify_one();
        }
    }

    fn end(&self) {
        lock(&self.waiting).end = true;
        self.news.notify_one();
    }

    /// Waits for changes and then so long for more; and whether they are the last.
    fn take(&self, gather: Duration) -> (Batch, bool) {
        let nothing = |w: &mut Waiting| w.batch.is_empty() && !w.end;
        let waiting = self.news.wait_while(lock(&self.waiting), nothing);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.news.wait_timeout_while(waiting, gather, |w| !w.end);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut waiting.batch), waiting.end)
    }

    /// Has them wait again; what has changed meanwhile is newer.
    fn put_back(&self, batch: Batch) {
        let mut waiting = lock(&self.waiting);
        for (id, record) in batch {
            waiting.batch.entry(id).or_insert(record);
        }
    }
}

/// Takes changes until there are no more, all of a while in one transaction: the files in memory
/// hold them as long as the machine runs. What could not be written, because the disk is full for
/// instance, waits for another try.
fn write_all(database: Database, path: &Path, changes: &Changes) {
    let mut database = Some(database);
    let mut gather = GATHER;
    loop {
        let (batch, last) = changes.take(gather);
        gather = GATHER;
        if let Err(error) = write(&mut database, path, &batch) {
            tracing::error!(%error, "pods.redb not written: records will not outlive the machine");
            // After an error of its file it takes no more, until it is opened anew.
            database = None;
            changes.put_back(batch);
            gather = RETRY;
        }
        if last {
            return;
        }
    }
}

fn write(
    database: &mut Option<Database>,
    path: &Path,
    changes: &Batch,
) -> std::result::Result<(), redb::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let database = match database {
        Some(database) => database,
        None => database.insert(Database::create(path)?),
    };
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        for (id, record) in changes {
            match record {
                Some(bytes) => drop(table.insert(id.as_str(), bytes.as_slice())?),
                None => drop(table.remove(id.as_str())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(boot: &str, id: &str) -> Record {
        let config = PodSandboxConfig {
            hostname: "h".to_owned(),
            ..PodSandboxConfig::default()
        };
        Record::Pod(PodRecord {
            boot: boot.to_owned(),
            id: id.to_owned(),
            config,
            ..PodRecord::default()
        })
    }

    #[test]
    fn files_for_this_boot_the_database_for_earlier_ones() {
        let dir = std::env::temp_dir().join(format!("hull-records.{}", std::process::id()));
        let (run, state) = (dir.join("run"), dir.join("state"));
        fs::create_dir_all(&run).unwrap();
        fs::create_dir_all(&state).unwrap();
        let ids = |all: &[Record]| all.iter().map(|r| r.id().to_owned()).collect::<Vec<_>>();
        let (records, none) = Records::open(&run, &state, "one").unwrap();
        assert!(none.is_empty());
        let (a, b) = (Place::default(), Place::default());
        records.put(&a, || pod("one", "a")).unwrap();
        records.put(&b, || pod("one", "b")).unwrap();
        records.remove(&b, "b").unwrap();
        // The news of its end is late.
        records.put(&b, || pod("one", "b")).unwrap();
        drop(records);
        let (records, same_boot) = Records::open(&run, &state, "one").unwrap();
        assert_eq!(ids(&same_boot), ["a"]);
        let Record::Pod(read) = &same_boot[0] else {
            panic!("a pod was written")
        };
        assert_eq!(read.config.hostname, "h");
        drop(records);
        // A reboot empties the run directory.
        fs::remove_dir_all(&run).unwrap();
        let (records, next_boot) = Records::open(&run, &state, "two").unwrap();
        assert_eq!(ids(&next_boot), ["a"]);
        // Without the database the files of this boot still count.
        records.put(&Place::default(), || pod("two", "c")).unwrap();
        drop(records);
        fs::remove_file(state.join("pods.redb")).unwrap();
        let (_, crash) = Records::open(&run, &state, "two").unwrap();
        assert_eq!(ids(&crash), ["c"]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
