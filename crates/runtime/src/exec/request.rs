//! What `exec` is asked for, and the process document that comes of it.

use spec::oci::{Capabilities, Process, Spec};

use crate::{Error, Result};

/// The options of `exec` that say what the process is to be. Whatever is not given is as in the
/// container's own process.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Command and arguments.
    pub args: Vec<String>,
    /// `--cwd`.
    pub cwd: Option<String>,
    /// `--env`, each `NAME=value`.
    pub env: Vec<String>,
    /// `--tty`.
    pub terminal: bool,
    /// `--user`.
    pub user: Option<User>,
    /// `--additional-gids`.
    pub additional_gids: Vec<u32>,
    /// `--process-label`.
    pub selinux_label: Option<String>,
    /// `--apparmor`.
    pub apparmor_profile: Option<String>,
    /// `--no-new-privs`.
    pub no_new_privileges: bool,
    /// `--cap`, each with its `CAP_` prefix or without.
    pub capabilities: Vec<String>,
}

/// `--user uid[:gid]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id; the container's own where absent.
    pub gid: Option<u32>,
}

impl User {
    /// Reads `uid[:gid]`. Numbers only: a name would have to be looked up in the image's user
    /// list, which belongs to whoever made the image; anything that is not wholly a number is
    /// refused, so that no half-read word makes a process root (CVE-2026-30892).
    ///
    /// # Errors
    /// Which half is no id.
    pub fn parse(text: &str) -> Result<Self> {
        let (uid, gid) = match text.split_once(':') {
            Some((uid, gid)) => (uid, Some(gid)),
            None => (text, None),
        };
        let gid = gid.map(|gid| parse_id("gid", gid)).transpose()?;
        let uid = parse_id("uid", uid)?;
        Ok(Self { uid, gid })
    }
}

/// A user's or group's number. The largest one of 32 bits is none: to setresuid(2) it means "do
/// not change".
///
/// # Errors
/// [`Error::Invalid`] for all else.
pub fn parse_id(what: &str, text: &str) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text
        .parse::<u32>()
        .ok()
        .filter(|&n| digits && n != u32::MAX);
    number.ok_or_else(|| {
        let text = format!(
            "bad {what}: {text:?} is not a number from 0 to {}",
            u32::MAX - 1
        );
        Error::Invalid(text)
    })
}

impl Wish {
    /// The process wished for, on top of the container's own in `config`.
    ///
    /// # Errors
    /// No command, a variable without a name, or a container without a process of its own.
    pub fn process(self, config: &Spec) -> Result<Process> {
        if self.args.is_empty() {
            return Err(Error::Invalid("process args cannot be empty".to_owned()));
        }
        let own = config.process.clone();
        let mut process = own.ok_or_else(|| {
            let text = "the container has no process that exec could follow; use --process";
            Error::Invalid(text.to_owned())
        })?;
        process.args = self.args;
        process.terminal = self.terminal;
        if let Some(cwd) = self.cwd {
            process.cwd = cwd;
        }
        for variable in self.env {
            if variable
                .split_once('=')
                .is_none_or(|(name, _)| name.is_empty())
            {
                let text = format!("--env {variable:?} is not NAME=value");
                return Err(Error::Invalid(text));
            }
            process.env.push(variable);
        }
        if let Some(user) = self.user {
            process.user.uid = user.uid;
            process.user.gid = user.gid.unwrap_or(process.user.gid);
        }
        process.user.additional_gids.extend(self.additional_gids);
        process.selinux_label = self.selinux_label.unwrap_or(process.selinux_label);
        process.apparmor_profile = self.apparmor_profile.unwrap_or(process.apparmor_profile);
        process.no_new_privileges |= self.no_new_privileges;
        if !self.capabilities.is_empty() {
            let sets = process.capabilities.get_or_insert_default();
            add_capabilities(sets, &self.capabilities);
        }
        Ok(process)
    }
}

/// Adds capabilities to what the process can use, never to what it hands on: an inheritable
/// capability would come to life in a program with file capabilities (CVE-2022-29162). They
/// become ambient only for a container that has inheritable ones of its own.
fn add_capabilities(sets: &mut Capabilities, names: &[String]) {
    for name in names {
        let upper = name.to_ascii_uppercase();
        let name = if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        };
        let usable = [&mut sets.bounding, &mut sets.effective, &mut sets.permitted];
        let ambient = sets
            .inheritable
            .contains(&name)
            .then_some(&mut sets.ambient);
        for set in usable.into_iter().chain(ambient) {
            if !set.contains(&name) {
                set.push(name.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_are_numbers_and_nothing_else() {
        let user = |uid, gid| User { uid, gid };
        let good = [
            ("0", user(0, None)),
            ("1000", user(1000, None)),
            ("1000:50", user(1000, Some(50))),
            ("4294967294:0", user(u32::MAX - 1, Some(0))),
        ];
        for (text, want) in good {
            assert_eq!(User::parse(text).unwrap(), want);
        }
        let bad = [
            "",
            ":",
            "1:",
            ":1",
            "root",
            "0x10",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1\n",
            "1:root",
            "1:2:3",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "1e3",
            "1_000",
            "٣",
            "0:-1",
            "1,2",
            "1000abc",
            "1:4294967295",
        ];
        for text in bad {
            let error = User::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("bad uid: ") || error.starts_with("bad gid: "),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_reads_back(text in "\\PC{0,12}") {
            if let Ok(user) = User::parse(&text) {
                let strip = |s: &str| s.trim_start_matches('0').to_owned();
                let mut halves = text.split(':');
                let show = |n: u32| if n == 0 { String::new() } else { n.to_string() };
                prop_assert_eq!(strip(halves.next().unwrap()), show(user.uid));
                prop_assert_eq!(halves.next().map(strip), user.gid.map(show));
            }
        }
    }

    fn config() -> Spec {
        let json = r#"{"process": {"terminal": true, "cwd": "/", "args": ["init"],
            "env": ["PATH=/bin"], "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"],
            "permitted": ["CAP_KILL"], "inheritable": ["CAP_CHOWN"]}}}"#;
        serde_json::from_str(json).unwrap()
    }

    fn wish(word: &str) -> Wish {
        Wish {
            args: vec![word.to_owned()],
            ..Wish::default()
        }
    }

    #[test]
    fn what_is_not_given_is_the_containers() {
        let process = wish("ls").process(&config()).unwrap();
        assert_eq!(process.args, ["ls"]);
        assert!(!process.terminal);
        assert_eq!((process.user.uid, process.user.gid), (5, 6));
        let more = Wish {
            cwd: Some("/tmp".into()),
            env: vec!["A=b=c".into()],
            terminal: true,
            user: Some(User { uid: 9, gid: None }),
            additional_gids: vec![8],
            no_new_privileges: true,
            ..wish("ls")
        };
        let process = more.process(&config()).unwrap();
        assert_eq!((process.cwd.as_str(), process.terminal), ("/tmp", true));
        assert_eq!(process.env, ["PATH=/bin", "A=b=c"]);
        assert_eq!((process.user.uid, process.user.gid), (9, 6));
        assert_eq!(process.user.additional_gids, [7, 8]);
        assert!(process.no_new_privileges);
    }

    #[test]
    fn added_capabilities_are_never_inheritable() {
        let add = Wish {
            capabilities: vec![
                "CAP_SYS_PTRACE".into(),
                "net_raw".into(),
                "CAP_CHOWN".into(),
            ],
            ..wish("ls")
        };
        let sets = add.process(&config()).unwrap().capabilities.unwrap();
        let with = ["CAP_KILL", "CAP_SYS_PTRACE", "CAP_NET_RAW", "CAP_CHOWN"];
        assert_eq!(
            (&sets.bounding[..], &sets.permitted[..]),
            (&with.map(String::from)[..], &with.map(String::from)[..])
        );
        assert_eq!(sets.inheritable, ["CAP_CHOWN"]);
        assert_eq!(sets.ambient, ["CAP_CHOWN"]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Wish::default().process(&config()).is_err());
        assert!(wish("ls").process(&Spec::default()).is_err());
        for variable in ["", "A", "=b"] {
            let w = Wish {
                env: vec![variable.into()],
                ..wish("ls")
            };
            assert!(w.process(&config()).is_err(), "{variable:?}");
        }
    }
}
