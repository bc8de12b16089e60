//! The home directory that a program finds in its environment.

use std::io::Read as _;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

/// Most that is read of the container's user list: it belongs to the image and can be anything.
const LIMIT: u64 = 1 << 20;

/// The home directory of `uid` in the container's `/etc/passwd`, or `/`.
///
/// Call it inside the container. The file is read as data only: a FIFO, a device or a huge file
/// cannot hold the start up.
#[must_use]
pub fn home_of(uid: u32) -> String {
    read_passwd()
        .and_then(|text| find(&text, uid))
        .unwrap_or_else(|| "/".to_owned())
}

fn read_passwd() -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = openat(CWD, "/etc/passwd", flags, Mode::empty()).ok()?;
    let stat = fstat(&fd).ok()?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::from(fd);
    file.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// passwd(5): name:password:UID:GID:GECOS:directory:shell.
fn find(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (number, home) = (fields.get(2)?, fields.get(5)?);
        let ours = number.parse() == Ok(uid) && home.starts_with('/') && !home.contains('\0');
        ours.then(|| (*home).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_sound_line() {
        let text = "# comment\nroot:x:0:0:root:/root:/bin/sh\nbad:x:7\na:x:1000:1000::home:/bin/sh\n\
                    b:x:1000:1000::/home/b:/bin/sh\n";
        let cases = [(0, Some("/root")), (1000, Some("/home/b")), (7, None)];
        for (uid, home) in cases {
            assert_eq!(find(text, uid).as_deref(), home);
        }
        assert!(home_of(0).starts_with('/'));
    }
}
