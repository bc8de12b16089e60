//! As whom a container runs: ids, names, and the image's own `/etc/passwd` and `/etc/group`,
//! which are foreign input: opened below the image's root, read up to a limit, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;

use cri_api::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use spec::oci::User;

use crate::error::{Error, Result};

/// The most that is read of either file.
const FILE_MAX: u64 = 16 << 20;
/// The longest line that is looked at.
const LINE_MAX: u64 = 1 << 20;
/// Ids from here on are not for users (they wrap in older interfaces).
const ID_MAX: u32 = i32::MAX as u32;

/// One line of a password file.
#[derive(Clone, Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

/// The user of a container's process.
///
/// # Errors
/// A name that the image does not know, an id out of range, a file that is not one.
pub fn resolve(
    root: BorrowedFd<'_>,
    image_user: &str,
    asked: &LinuxContainerSecurityContext,
) -> Result<User> {
    let (user, group) = wanted(image_user, asked)?;
    let account = account(root, &user)?;
    let uid = match (&account, &user) {
        (Some(account), _) => account.uid,
        (None, Name::Id(id)) => *id,
        (None, Name::Word(name)) => {
            return Err(Error::invalid(format!(
                "user {name}: the image's /etc/passwd does not have it"
            )));
        }
    };
    let gid = match group {
        Some(Name::Id(id)) => id,
        Some(Name::Word(name)) => group_id(root, &name)?,
        None => account.as_ref().map_or(0, |a| a.gid),
    };
    let mut additional_gids = vec![gid];
    if asked.supplemental_groups_policy() == SupplementalGroupsPolicy::Merge
        && let Some(account) = &account
    {
        additional_gids.extend(groups_of(root, &account.name)?);
    }
    for &group in &asked.supplemental_groups {
        additional_gids.push(id(group, "supplemental group")?);
    }
    additional_gids.sort_unstable();
    additional_gids.dedup();
    Ok(User {
        uid,
        gid,
        umask: None,
        additional_gids,
    })
}

#[derive(Debug)]
enum Name {
    Id(u32),
    Word(String),
}

/// What the request says, else what the image says; user and group.
fn wanted(image_user: &str, asked: &LinuxContainerSecurityContext) -> Result<(Name, Option<Name>)> {
    let group = asked
        .run_as_group
        .map(|g| id(g.value, "group"))
        .transpose()?
        .map(Name::Id);
    // So says the CRI: a group of the request does not go with a user of the image.
    if group.is_some() && asked.run_as_user.is_none() && asked.run_as_username.is_empty() {
        return Err(Error::invalid(
            "run_as_group: run_as_user or run_as_username must be set, too",
        ));
    }
    if let Some(uid) = asked.run_as_user {
        return Ok((Name::Id(id(uid.value, "user")?), group));
    }
    if !asked.run_as_username.is_empty() {
        return Ok((name(&asked.run_as_username, "user")?, group));
    }
    let (user, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let user = if user.is_empty() {
        Name::Id(0)
    } else {
        name(user, "user")?
    };
    if image_group.is_empty() {
        return Ok((user, None));
    }
    Ok((user, Some(name(image_group, "group")?)))
}

fn id(value: i64, what: &str) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|&id| id <= ID_MAX)
        .ok_or_else(|| Error::invalid(format!("{what} {value}: must be 0 to {ID_MAX}")))
}

fn name(word: &str, what: &str) -> Result<Name> {
    if word.bytes().all(|b| b.is_ascii_digit()) {
        let number = word.parse().unwrap_or(i64::MAX);
        return id(number, what).map(Name::Id);
    }
    Ok(Name::Word(word.to_owned()))
}

/// The first line with that name or id.
fn account(root: BorrowedFd<'_>, user: &Name) -> Result<Option<Account>> {
    find(root, "etc/passwd", |fields| {
        let [name, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        let account = Account {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        };
        let found = match user {
            Name::Id(id) => account.uid == *id,
            Name::Word(word) => account.name == *word,
        };
        (found && account.uid <= ID_MAX && account.gid <= ID_MAX).then_some(account)
    })
}

fn group_id(root: BorrowedFd<'_>, group: &str) -> Result<u32> {
    let found = find(root, "etc/group", |fields| {
        let [name, _, gid, ..] = fields[..] else {
            return None;
        };
        gid.parse()
            .ok()
            .filter(|&gid| name == group && gid <= ID_MAX)
    })?;
    found.ok_or_else(|| {
        Error::invalid(format!(
            "group {group}: the image's /etc/group does not have it"
        ))
    })
}

fn groups_of(root: BorrowedFd<'_>, user: &str) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    find(root, "etc/group", |fields| -> Option<()> {
        if let [_, _, gid, members, ..] = fields[..]
            && members.split(',').any(|m| m == user)
            && let Ok(gid) = gid.parse::<u32>()
            && gid <= ID_MAX
        {
            all.push(gid);
        }
        None
    })?;
    Ok(all)
}

/// The first answer that `pick` has for a line's fields. A file that is not there has no lines.
fn find<T>(
    root: BorrowedFd<'_>,
    path: &str,
    mut pick: impl FnMut(&[&str]) -> Option<T>,
) -> Result<Option<T>> {
    let Some(file) = open(root, path)? else {
        return Ok(None);
    };
    let mut reader = BufReader::new(file.take(FILE_MAX));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(e) => return Err(Error::failed(format!("read({path} of the image)"), e)),
        }
        let text = String::from_utf8_lossy(&line);
        let fields: Vec<&str> = text.trim_end().split(':').collect();
        if let Some(found) = pick(&fields) {
            return Ok(Some(found));
        }
    }
}

/// Opens a file below the image's root: no symlink leads out, a FIFO does not block.
fn open(root: BorrowedFd<'_>, path: &str) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let what = || format!("open({path} of the image)");
    let file = match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(Error::failed(what(), e)),
    };
    let stat = fstat(&file).map_err(|e| Error::failed(what(), e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::invalid(format!("{}: not a regular file", what())));
    }
    Ok(Some(File::from(file)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    use cri_api::v1::Int64Value;

    use super::*;

    struct Image(PathBuf);

    impl Image {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("hull-user.{name}.{}", std::process::id()));
            std::fs::create_dir_all(dir.join("etc")).unwrap();
            let passwd = "root:x:0:0::/:\nweb:x:101:102::/:\nhuge:x:4294967295:1::/:\n";
            std::fs::write(dir.join("etc/passwd"), passwd).unwrap();
            let group = "root:x:0:\nwww:x:33:web,other\nextra:x:50:web\n";
            std::fs::write(dir.join("etc/group"), group).unwrap();
            Self(dir)
        }

        fn user(&self, image: &str, asked: &LinuxContainerSecurityContext) -> Result<User> {
            let dir = File::open(&self.0).unwrap();
            resolve(dir.as_fd(), image, asked)
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn nobody_asks() -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext::default()
    }

    #[test]
    fn the_image_says_who() {
        let image = Image::new("image");
        let web = image.user("web", &nobody_asks()).unwrap();
        assert_eq!(
            (web.uid, web.gid, web.additional_gids),
            (101, 102, vec![33, 50, 102])
        );
        let numbers = image.user("7:8", &nobody_asks()).unwrap();
        assert_eq!(
            (numbers.uid, numbers.gid, numbers.additional_gids),
            (7, 8, vec![8])
        );
        let named = image.user("web:www", &nobody_asks()).unwrap();
        assert_eq!((named.uid, named.gid), (101, 33));
        assert_eq!(image.user("", &nobody_asks()).unwrap().uid, 0);
        assert!(image.user("ghost", &nobody_asks()).is_err());
        assert!(image.user("huge", &nobody_asks()).is_err());
        assert!(image.user("4294967296", &nobody_asks()).is_err());
    }

    #[test]
    fn the_request_wins_and_strict_leaves_the_image_out() {
        let image = Image::new("request");
        let mut asked = LinuxContainerSecurityContext {
            run_as_user: Some(Int64Value { value: 101 }),
            supplemental_groups: vec![9000],
            ..nobody_asks()
        };
        let merged = image.user("root", &asked).unwrap();
        assert_eq!(
            (merged.uid, merged.additional_gids),
            (101, vec![33, 50, 102, 9000])
        );
        asked.set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
        let strict = image.user("root", &asked).unwrap();
        assert_eq!(strict.additional_gids, [102, 9000]);
        asked.run_as_user = Some(Int64Value { value: -1 });
        assert!(image.user("", &asked).is_err());
    }

    #[test]
    fn hostile_files_are_refused_without_waiting() {
        let image = Image::new("hostile");
        let passwd = image.0.join("etc/passwd");
        std::fs::remove_file(&passwd).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, Mode::RUSR).unwrap();
        assert!(image.user("web", &nobody_asks()).is_err());
        std::fs::remove_file(&passwd).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", &passwd).unwrap();
        assert!(
            image.user("root", &nobody_asks()).is_err(),
            "leads out of the image"
        );
    }
}
