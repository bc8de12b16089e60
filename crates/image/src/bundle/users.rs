//! Who a container runs as: the image's own passwd and group files.

use std::io::Read as _;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::Context as _;

use crate::{Error, Result};

/// Largest passwd or group file that is read: an image's author must not fill our memory
/// (CVE-2025-4437, CVE-2026-47262).
const LIMIT: u64 = 1 << 20;
/// Largest id: the kernel's own calls take more, but some tools read it as a negative number and
/// end at root (CVE-2024-40635).
const MAX_ID: u32 = i32::MAX.cast_unsigned();

/// A user, with all that the container's process needs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Home directory, where the image knows one.
    pub home: Option<String>,
}

#[derive(Clone, Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Clone, Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// The users and groups of an image.
#[derive(Clone, Debug, Default)]
pub struct Users {
    accounts: Vec<Account>,
    groups: Vec<Group>,
}

impl Users {
    /// Reads `/etc/passwd` and `/etc/group` inside `root`. Links in the image lead nowhere
    /// outside of it; what is not a regular file counts as missing (CVE-2024-9676).
    ///
    /// # Errors
    /// Not readable or too large.
    pub fn read(root: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self::parse(
            &file(root, "etc/passwd")?,
            &file(root, "etc/group")?,
        ))
    }

    /// Reads the two files' texts. Lines that make no sense are passed over, as the C library
    /// does.
    #[must_use]
    pub fn parse(passwd: &str, group: &str) -> Self {
        let accounts = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|n| !n.is_empty())?.to_owned();
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            let home = fields.nth(1).unwrap_or("").to_owned();
            Some(Account {
                name,
                uid,
                gid,
                home,
            })
        });
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|n| !n.is_empty())?.to_owned();
            let gid = fields.nth(1)?.parse().ok()?;
            let members = fields.next().unwrap_or("").split(',');
            let members = members
                .filter(|m| !m.is_empty())
                .map(str::to_owned)
                .collect();
            Some(Group { name, gid, members })
        });
        Self {
            accounts: accounts.collect(),
            groups: groups.collect(),
        }
    }

    /// Resolves `USER[:GROUP]`, each a name or a number; empty is root.
    ///
    /// # Errors
    /// A name that the image does not know, or an id out of range.
    pub fn resolve(&self, text: &str) -> Result<User> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let group = group.filter(|g| !g.is_empty());
        let number = number(user)?;
        let account = match number {
            _ if user.is_empty() => self.accounts.iter().find(|a| a.uid == 0),
            Some(uid) => self.accounts.iter().find(|a| a.uid == uid),
            None => self.accounts.iter().find(|a| a.name == user),
        };
        if account.is_none() && number.is_none() && !user.is_empty() {
            return Err(unknown("user", user, "/etc/passwd"));
        }
        let uid = number.or_else(|| account.map(|a| a.uid)).unwrap_or(0);
        let gid = match group {
            Some(group) => self.group(group)?,
            None => account.map_or(0, |a| a.gid),
        };
        let mut additional_gids = Vec::new();
        if let (None, None, Some(account)) = (group, number, account) {
            let member = |g: &&Group| g.members.contains(&account.name) && g.gid != gid;
            additional_gids = self.groups.iter().filter(member).map(|g| g.gid).collect();
            additional_gids.sort_unstable();
            additional_gids.dedup();
        }
        check_id(uid, text)?;
        check_id(gid, text)?;
        Ok(User {
            uid,
            gid,
            additional_gids,
            home: account.map(|a| a.home.clone()).filter(|h| !h.is_empty()),
        })
    }

    fn group(&self, text: &str) -> Result<u32> {
        if let Some(gid) = number(text)? {
            return Ok(gid);
        }
        let found = self.groups.iter().find(|g| g.name == text);
        found
            .map(|g| g.gid)
            .ok_or_else(|| unknown("group", text, "/etc/group"))
    }
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::Missing {
        what: format!("{what} {name:?}"),
        why: format!("the image's {file} has none of that name"),
    }
}

/// A number where the text is one; digits are always a number (CVE-2016-3697).
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text.parse::<u32>().ok().filter(|id| *id <= MAX_ID);
    id.map(Some).ok_or_else(|| out_of_range(text))
}

fn check_id(id: u32, text: &str) -> Result<()> {
    if id > MAX_ID {
        return Err(out_of_range(text));
    }
    Ok(())
}

fn out_of_range(text: &str) -> Error {
    Error::store(
        format!("user {text:?}"),
        format!("an id is at most {MAX_ID}"),
    )
}

fn file(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = match sys::path::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(String::new()),
        Err(e) => {
            return Err(e)
                .context("openat2", || format!("root, {path:?}"))
                .map_err(Into::into);
        }
    };
    let stat = rustix::fs::fstat(&fd).context("fstat", || format!("{path:?}"))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    let mut limited = std::fs::File::from(fd).take(LIMIT + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io(format!("read the image's {path}"), e))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::store(
            format!("the image's {path}"),
            format!("larger than {LIMIT} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/var/www:/bin/false\n4:x:77:77::/h:\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\naudio:x:29:web,other\nadm:x:4:other,web\n";

    fn resolved(text: &str) -> Option<(u32, u32, Vec<u32>)> {
        let user = Users::parse(PASSWD, GROUP).resolve(text).ok()?;
        Some((user.uid, user.gid, user.additional_gids))
    }

    #[test]
    fn names_and_numbers() {
        for (text, wanted) in [
            ("", Some((0, 0, vec![]))),
            ("web", Some((33, 34, vec![4, 29]))),
            ("web:audio", Some((33, 29, vec![]))),
            ("web:", Some((33, 34, vec![4, 29]))),
            ("33", Some((33, 34, vec![]))),
            ("1234", Some((1234, 0, vec![]))),
            ("1234:5678", Some((1234, 5678, vec![]))),
            // A number, though a user has that name.
            ("4", Some((4, 0, vec![]))),
            ("nobody", None),
            ("web:nogroup", None),
            ("2147483648", None),
            ("4294967296", None),
            ("0:99999999999", None),
        ] {
            assert_eq!(resolved(text), wanted, "{text:?}");
        }
        assert_eq!(Users::default().resolve("").unwrap(), User::default());
        let home = Users::parse(PASSWD, GROUP).resolve("web").unwrap().home;
        assert_eq!(home.as_deref(), Some("/var/www"));
    }

    #[test]
    fn files_of_a_hostile_image() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("passwd"), "evil:x:5:5::/:\n").unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let read = || {
            let root = std::fs::File::open(dir.path()).unwrap();
            Users::read(root.as_fd())
        };
        assert!(read().unwrap().resolve("evil").is_err());
        std::os::unix::fs::symlink(outside.path().join("passwd"), etc.join("passwd")).unwrap();
        assert!(read().unwrap().resolve("evil").is_err());
        std::fs::remove_file(etc.join("passwd")).unwrap();
        // Opening a pipe without a writer must not wait for one.
        let fifo = Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, etc.join("passwd"), FileType::Fifo, fifo, 0).unwrap();
        assert!(read().unwrap().resolve("evil").is_err());
        std::fs::write(etc.join("group"), vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(read().is_err());
    }
}
