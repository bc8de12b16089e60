//! Compiled profiles kept in a directory.
//!
//! An entry's name is a hash of the profile, the options and the compiler's version. The hash only
//! finds the entry: the entry holds all that was hashed, and is used only if that is the same byte
//! for byte, so two profiles with the same hash cost a recompilation and never swap filters.
//! An entry that cannot be read, is cut off or damaged counts as absent. What cannot be written
//! is a warning of the filter: the container starts without the cache.
//!
//! What it gains: the default profile for three architectures compiles in 42 µs, and comes out of
//! the cache in 13 µs (`examples/timing.rs`, release build, x86_64, directory on ext4).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use spec::oci::{Seccomp, SyscallRule};
use sys::{Context, Errno};

use crate::bpf::{Instruction, MAX_INSTRUCTIONS};
use crate::{Error, Filter, Options, compile_with, syscalls};

/// To be raised when the same profile gives another program than before; a test watches.
const COMPILER: u32 = 1;
const MAGIC: &[u8; 8] = b"hullbpf1";
/// Magic, checksum, flags, notify, and the lengths of key, warnings and program.
const HEADER: usize = 8 + 8 + 5 * 4;
/// A profile is some 10 KB; whatever is larger than this is not one of ours.
const MAX_ENTRY: u64 = 4 << 20;
/// Entries are small and profiles few: when there are this many, all are dropped.
const MAX_ENTRIES: usize = 256;

/// A directory of compiled profiles.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    owner: u32,
}

impl Cache {
    /// Uses `dir`, makes it where it is absent (not its parents). Nobody but `owner`, the
    /// caller's user id, may have access: whoever can write to it decides what filters do.
    ///
    /// # Errors
    /// The directory cannot be made, or is another's, or is open to others.
    pub fn open(dir: &Path, owner: u32) -> Result<Self, Error> {
        let made = DirBuilder::new().mode(0o700).create(dir);
        if made
            .as_ref()
            .is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists)
        {
            made.context("mkdir", || quoted(dir))?;
        }
        let metadata = fs::symlink_metadata(dir).context("lstat", || quoted(dir))?;
        let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if !metadata.is_dir() {
            return Err(sys::Error::new("mkdir", quoted(dir), Errno::NOTDIR).into());
        }
        if uid != owner || mode & 0o077 != 0 {
            return Err(Error::Untrusted {
                path: dir.to_owned(),
                uid,
                mode,
                owner,
            });
        }
        Ok(Self {
            dir: dir.to_owned(),
            owner,
        })
    }

    /// The kept filter, or a new one, which is kept.
    ///
    /// # Errors
    /// Those of [`compile_with`].
    pub fn compile(&self, profile: &Seccomp, options: &Options) -> Result<Filter, Error> {
        let key = key(profile, options);
        let name = format!("{:016x}", checksum(&key));
        if let Some(filter) = self.load(&name, &key) {
            return Ok(filter);
        }
        let mut filter = compile_with(profile, options)?;
        if let Err(e) = self.store(&name, &encode(&key, &filter)) {
            let warning = format!("seccomp: the compiled profile is not kept: {e}");
            filter.warnings.push(warning);
        }
        Ok(filter)
    }

    fn load(&self, name: &str, key: &[u8]) -> Option<Filter> {
        let mut file = File::open(self.dir.join(name)).ok()?;
        let metadata = file.metadata().ok()?;
        let ours = metadata.is_file() && metadata.uid() == self.owner;
        if !ours || metadata.len() > MAX_ENTRY {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        decode(&bytes, key)
    }

    /// Writes beside the entry and renames: a reader sees all of it or nothing.
    fn store(&self, name: &str, bytes: &[u8]) -> sys::Result<()> {
        self.make_room()?;
        let temporary = self.dir.join(format!("{name}.{}", std::process::id()));
        let result = write_whole(&temporary, bytes).and_then(|()| {
            let done = fs::rename(&temporary, self.dir.join(name));
            done.context("rename", || quoted(&temporary))
        });
        if result.is_err() {
            // What matters is why it could not be written.
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn make_room(&self) -> sys::Result<()> {
        let entries = || fs::read_dir(&self.dir).context("opendir", || quoted(&self.dir));
        if entries()?.count() < MAX_ENTRIES {
            return Ok(());
        }
        for entry in entries()?.flatten() {
            let removed = fs::remove_file(entry.path());
            // Another process may be at it too.
            if removed
                .as_ref()
                .is_err_and(|e| e.kind() != io::ErrorKind::NotFound)
            {
                removed.context("unlink", || quoted(&entry.path()))?;
            }
        }
        Ok(())
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> sys::Result<()> {
    let mut options = OpenOptions::new();
    // One may be left of a process that was killed.
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).context("open", || quoted(path))?;
    file.write_all(bytes).context("write", || quoted(path))
}

fn quoted(path: &Path) -> String {
    format!("{path:?}")
}

/// All that the program depends on.
fn key(profile: &Seccomp, options: &Options) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 << 10);
    let Options {
        native,
        strict,
        enosys,
    } = options;
    let numbers = [COMPILER, syscalls::VERSION, native.audit()];
    key.extend(numbers.iter().flat_map(|n| n.to_ne_bytes()));
    key.extend([u8::from(*strict), u8::from(*enosys)]);
    // The listener is told of the profile's other fields; the program does not depend on them.
    put(&mut key, &profile.default_action);
    put_number(&mut key, profile.default_errno_ret);
    put_list(&mut key, &profile.architectures);
    key.push(u8::from(profile.flags.is_some()));
    put_list(&mut key, profile.flags.as_deref().unwrap_or_default());
    for rule in &profile.syscalls {
        put_rule(&mut key, rule);
    }
    key
}

fn put_rule(key: &mut Vec<u8>, rule: &SyscallRule) {
    put_list(key, &rule.names);
    put(key, &rule.action);
    put_number(key, rule.errno_ret);
    key.extend(rule.args.len().to_ne_bytes());
    for arg in &rule.args {
        key.extend(arg.index.to_ne_bytes());
        key.extend(arg.value.to_ne_bytes());
        key.extend(arg.value_two.to_ne_bytes());
        put(key, &arg.op);
    }
}

/// Lengths go first, so that no two lists of words give the same bytes.
fn put(key: &mut Vec<u8>, word: &str) {
    key.extend(word.len().to_ne_bytes());
    key.extend(word.as_bytes());
}

fn put_list(key: &mut Vec<u8>, words: &[String]) {
    key.extend(words.len().to_ne_bytes());
    words.iter().for_each(|w| put(key, w));
}

fn put_number(key: &mut Vec<u8>, number: Option<u32>) {
    key.push(u8::from(number.is_some()));
    key.extend(number.unwrap_or(0).to_ne_bytes());
}

/// Against damage, not against attack: who can write to the directory is the owner.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn encode(key: &[u8], filter: &Filter) -> Vec<u8> {
    let warnings = filter.warnings.join("\n");
    let program = filter.to_bytes();
    let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_ne_bytes();
    let mut body = Vec::with_capacity(HEADER + key.len() + warnings.len() + program.len());
    body.extend(filter.flags.to_ne_bytes());
    body.extend(u32::from(filter.notify).to_ne_bytes());
    body.extend(length(key.len()));
    body.extend(length(warnings.len()));
    body.extend(length(program.len()));
    body.extend(key);
    body.extend(warnings.as_bytes());
    body.extend(program);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(checksum(&body).to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8], key: &[u8]) -> Option<Filter> {
    let body = bytes.strip_prefix(MAGIC)?;
    let (sum, body) = body.split_first_chunk::<8>()?;
    if u64::from_ne_bytes(*sum) != checksum(body) {
        return None;
    }
    let mut rest = body;
    let mut number = || {
        let (number, behind) = rest.split_first_chunk::<4>()?;
        rest = behind;
        Some(u32::from_ne_bytes(*number))
    };
    let (flags, notify) = (number()?, number()? != 0);
    let lengths = [number()?, number()?, number()?].map(|n| usize::try_from(n).ok());
    let (kept_key, rest) = rest.split_at_checked(lengths[0]?)?;
    let (warnings, program) = rest.split_at_checked(lengths[1]?)?;
    let (instructions, odd) = program.as_chunks::<8>();
    let sound = kept_key == key
        && Some(program.len()) == lengths[2]
        && odd.is_empty()
        && (1..=MAX_INSTRUCTIONS).contains(&instructions.len());
    sound.then(|| Filter {
        program: instructions
            .iter()
            .map(|b| Instruction::from_bytes(*b))
            .collect(),
        flags,
        notify,
        warnings: String::from_utf8_lossy(warnings)
            .lines()
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Template;

    /// A directory of the test's own, removed at its end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let name = format!("hull-seccomp-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn entries(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(&self.0).unwrap();
            entries.map(|e| e.unwrap().path()).collect()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn uid() -> u32 {
        fs::metadata("/proc/self").unwrap().uid()
    }

    fn profile() -> Seccomp {
        Template::default_profile().unwrap().resolve(&[])
    }

    #[test]
    fn an_entry_is_what_was_compiled() {
        let dir = Dir::new("hit");
        let cache = Cache::open(&dir.0, uid()).unwrap();
        let mut profile = profile();
        profile.syscalls[0].names.push("no_such_call".to_owned());
        let options = Options::default();
        let fresh = cache.compile(&profile, &options).unwrap();
        assert_eq!(fresh, compile_with(&profile, &options).unwrap());
        assert_eq!(dir.entries().len(), 1);
        let key = key(&profile, &options);
        let name = format!("{:016x}", checksum(&key));
        assert_eq!(cache.load(&name, &key).unwrap(), fresh);
        assert_eq!(cache.compile(&profile, &options).unwrap(), fresh);
        assert_eq!(dir.entries().len(), 1);
    }

    #[test]
    fn an_entry_of_another_profile_is_not_used() {
        let dir = Dir::new("collision");
        let cache = Cache::open(&dir.0, uid()).unwrap();
        let (options, profile) = (Options::default(), profile());
        let allow = Seccomp {
            default_action: "SCMP_ACT_ALLOW".to_owned(),
            ..Seccomp::default()
        };
        cache.compile(&allow, &options).unwrap();
        let key = key(&profile, &options);
        let name = format!("{:016x}", checksum(&key));
        // As if both had the same hash.
        fs::rename(&dir.entries()[0], dir.0.join(&name)).unwrap();
        assert_eq!(cache.load(&name, &key), None);
        let expected = compile_with(&profile, &options).unwrap();
        assert_eq!(cache.compile(&profile, &options).unwrap(), expected);
    }

    #[test]
    fn a_damaged_entry_is_made_anew() {
        let dir = Dir::new("damage");
        let cache = Cache::open(&dir.0, uid()).unwrap();
        let (options, profile) = (Options::default(), profile());
        let expected = cache.compile(&profile, &options).unwrap();
        let entry = dir.entries().remove(0);
        let whole = fs::read(&entry).unwrap();
        for at in (0..whole.len()).step_by(97) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&entry, &bytes).unwrap();
            assert_eq!(decode(&bytes, &key(&profile, &options)), None, "byte {at}");
            assert_eq!(
                decode(&whole[..at], &key(&profile, &options)),
                None,
                "{at} bytes"
            );
        }
        assert_eq!(cache.compile(&profile, &options).unwrap(), expected);
        assert_eq!(fs::read(&entry).unwrap(), whole);
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let dir = Dir::new("open");
        DirBuilder::new().mode(0o755).create(&dir.0).unwrap();
        let e = Cache::open(&dir.0, uid()).unwrap_err();
        assert!(
            e.to_string().ends_with("mode 0755; must be 0, 0700") || uid() != 0,
            "{e}"
        );
        assert_eq!(e.kind(), crate::ErrorKind::Cache);
        let e = Cache::open(Path::new("/proc/self/no/such"), uid()).unwrap_err();
        assert!(e.to_string().ends_with("no such file or directory"), "{e}");
    }

    #[test]
    fn a_full_directory_is_emptied() {
        let dir = Dir::new("full");
        let cache = Cache::open(&dir.0, uid()).unwrap();
        for i in 0..MAX_ENTRIES {
            fs::write(dir.0.join(i.to_string()), b"old").unwrap();
        }
        cache.compile(&profile(), &Options::default()).unwrap();
        assert_eq!(dir.entries().len(), 1);
    }

    #[test]
    fn what_cannot_be_kept_is_a_warning() {
        let dir = Dir::new("gone");
        let cache = Cache::open(&dir.0, uid()).unwrap();
        fs::remove_dir(&dir.0).unwrap();
        let filter = cache.compile(&profile(), &Options::default()).unwrap();
        assert!(
            filter.warnings[0].contains("no such file or directory"),
            "{:?}",
            filter.warnings
        );
        fs::create_dir(&dir.0).unwrap();
    }

    #[test]
    fn everything_the_program_depends_on_is_in_the_key() {
        let base = profile();
        let mut keys = vec![key(&base, &Options::default())];
        let changes: [fn(&mut Seccomp); 8] = [
            |p| p.default_action = "SCMP_ACT_KILL".to_owned(),
            |p| p.default_errno_ret = None,
            |p| p.architectures.truncate(1),
            |p| p.flags = Some(Vec::new()),
            |p| p.syscalls[0].action = "SCMP_ACT_LOG".to_owned(),
            |p| p.syscalls[0].errno_ret = Some(2),
            |p| p.syscalls[0].names.truncate(1),
            |p| p.syscalls.reverse(),
        ];
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            keys.push(key(&changed, &Options::default()));
        }
        for (strict, enosys) in [(true, true), (false, false)] {
            let options = Options {
                strict,
                enosys,
                ..Options::default()
            };
            keys.push(key(&base, &options));
        }
        let mut unlike = keys.clone();
        unlike.sort();
        unlike.dedup();
        assert_eq!(unlike.len(), keys.len());
    }

    /// Raise [`COMPILER`] when this fails, and write down what it says.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_version_stands_for_the_program() {
        let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86",
            "SCMP_ARCH_X32"], "syscalls": [
            {"names": ["read", "socket", "openat2"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone", "shmat"], "action": "SCMP_ACT_KILL", "args": [
                {"index": 0, "value": 4294967301, "op": "SCMP_CMP_NE"},
                {"index": 1, "value": 7, "valueTwo": 4, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 2, "value": 7, "op": "SCMP_CMP_LE"}]}]}"#;
        let profile = serde_json::from_str(json).unwrap();
        let filter = compile_with(&profile, &Options::default()).unwrap();
        let sum = filter
            .to_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
            });
        assert_eq!((COMPILER, sum), (1, 0xcd7b_7667));
    }
}
