//! criu's requests and responses (criu, images/rpc.proto).

use std::os::fd::{AsRawFd as _, OwnedFd};

use super::protobuf::{Value, Writer, fields};

/// `criu_req_type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

/// `criu_cg_mode`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CgroupsMode {
    /// Leave control groups alone.
    Ignore = 0,
    /// Restore those that are missing.
    #[default]
    Soft = 3,
    /// Restore them all, existing ones too.
    Full = 4,
    /// Fail where one exists.
    Strict = 5,
}

/// `criu_opts`, as far as a container runtime sets them. What is absent is criu's default.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Directory of the image.
    pub(crate) images_dir: Option<OwnedFd>,
    /// Directory for logs and temporary files.
    pub(crate) work_dir: Option<OwnedFd>,
    /// The first process to dump.
    pub(crate) pid: i32,
    /// Name of the log in the working directory.
    pub(crate) log_file: &'static str,
    /// Absolute path of the root file system.
    pub(crate) root: Option<String>,
    /// Path of an earlier image, relative to this one.
    pub(crate) parent_image: Option<String>,
    /// Address and port of a page server.
    pub(crate) page_server: Option<(String, u16)>,
    /// External mounts: key and value.
    pub(crate) external_mounts: Vec<(String, String)>,
    /// External resources in criu's own words (`net[123]:name`).
    pub(crate) external: Vec<String>,
    /// Descriptors that restored files become: key and number in criu.
    pub(crate) inherited: Vec<(String, i32)>,
    /// Namespaces to join on restore: kind and file.
    pub(crate) joined: Vec<(String, String)>,
    /// Control groups that restored ones go below: controller and path.
    pub(crate) cgroup_roots: Vec<(String, String)>,
    /// Control group to freeze during a dump.
    pub(crate) freeze_cgroup: Option<String>,
    /// Namespaces whose contents are not dumped, CLONE_NEW… flags.
    pub(crate) empty_namespaces: u32,
    /// Treatment of control groups.
    pub(crate) cgroups_mode: CgroupsMode,
    /// Path of a configuration file.
    pub(crate) config_file: Option<String>,
    /// `apparmor:profile` or `selinux:label`.
    pub(crate) lsm_profile: Option<String>,
    /// SELinux context of mounts.
    pub(crate) lsm_mount_context: Option<String>,
    /// Descriptor in criu on which it says that it is ready.
    pub(crate) status_fd: Option<i32>,
    /// The switches.
    pub(crate) switches: Switches,
}

/// The switches of [`Options`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of criu"
)]
pub struct Switches {
    /// The processes go on after a dump.
    pub leave_running: bool,
    /// Open TCP connections.
    pub tcp_established: bool,
    /// TCP connections being made are left out.
    pub tcp_skip_in_flight: bool,
    /// Unlinked files are linked again.
    pub link_remap: bool,
    /// External Unix sockets.
    pub ext_unix_sk: bool,
    /// A session with a leader outside.
    pub shell_job: bool,
    /// Memory by userfaultfd.
    pub lazy_pages: bool,
    /// File locks.
    pub file_locks: bool,
    /// Pages that are saved again are dropped from earlier images.
    pub auto_dedup: bool,
    /// Memory tracking, for the next image.
    pub track_memory: bool,
    /// A device node that is not where it was may be found elsewhere.
    pub evasive_devices: bool,
    /// The restored process becomes our child.
    pub restore_sibling: bool,
}

/// Most detailed level of the log that is of use.
const LOG_LEVEL: u64 = 4;

impl Options {
    /// The message. Numbers are those of the protocol.
    pub(super) fn encode(&self) -> Writer {
        let mut m = Writer::default();
        let fd = |dir: &Option<OwnedFd>| dir.as_ref().map_or(-1, |d| d.as_raw_fd());
        m.int32(1, fd(&self.images_dir));
        if self.pid != 0 {
            m.int32(2, self.pid);
        }
        self.encode_switches(&mut m);
        m.number(9, LOG_LEVEL);
        m.bytes(10, self.log_file.as_bytes());
        if let Some((address, port)) = &self.page_server {
            let mut server = Writer::default();
            server
                .bytes(1, address.as_bytes())
                .number(2, u64::from(*port));
            m.message(11, &server);
        }
        // Notifications, and the terminal that nobody but the container holds.
        m.flag(12, true).flag(50, true);
        let strings = [
            (13, &self.root),
            (14, &self.parent_image),
            (44, &self.freeze_cgroup),
            (51, &self.config_file),
            (53, &self.lsm_profile),
            (63, &self.lsm_mount_context),
        ];
        for (field, text) in strings {
            if let Some(text) = text {
                m.bytes(field, text.as_bytes());
            }
        }
        if self.work_dir.is_some() {
            m.int32(17, fd(&self.work_dir));
        }
        let pairs = [
            (23, &self.external_mounts),
            (25, &self.cgroup_roots),
            (39, &self.joined),
        ];
        for (field, list) in pairs {
            for (key, value) in list {
                m.message(
                    field,
                    Writer::default()
                        .bytes(1, key.as_bytes())
                        .bytes(2, value.as_bytes()),
                );
            }
        }
        for (key, number) in &self.inherited {
            m.message(
                27,
                Writer::default().bytes(1, key.as_bytes()).int32(2, *number),
            );
        }
        for text in &self.external {
            m.bytes(37, text.as_bytes());
        }
        // The older switch says that there is a mode.
        m.flag(24, true).number(34, self.cgroups_mode as u64);
        if self.empty_namespaces != 0 {
            m.number(38, u64::from(self.empty_namespaces));
        }
        if let Some(number) = self.status_fd {
            m.int32(49, number);
        }
        m
    }

    fn encode_switches(&self, m: &mut Writer) {
        let s = &self.switches;
        let list = [
            (3, s.leave_running),
            (4, s.ext_unix_sk),
            (5, s.tcp_established),
            (6, s.evasive_devices),
            (7, s.shell_job),
            (8, s.file_locks),
            (15, s.track_memory),
            (16, s.auto_dedup),
            (18, s.link_remap),
            (26, s.restore_sibling),
            (46, s.tcp_skip_in_flight),
            (48, s.lazy_pages),
        ];
        for (field, on) in list {
            m.flag(field, on);
        }
    }
}

/// `criu_req`.
pub(super) fn request(kind: Kind, options: Option<&Options>) -> Writer {
    let mut m = Writer::default();
    m.number(1, kind as u64);
    if let Some(options) = options {
        m.message(2, &options.encode());
    }
    if kind == Kind::FeatureCheck {
        // `criu_features`: mem_track and lazy_pages, the two that are asked for.
        m.message(5, Writer::default().flag(1, true).flag(2, true));
    }
    m
}

/// `criu_req` in answer to a notification.
pub(super) fn acknowledgement(success: bool) -> Writer {
    let mut m = Writer::default();
    // Unlike other flags this one is read where it is false.
    m.number(1, Kind::Notify as u64).number(3, success.into());
    m
}

/// `criu_resp`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Response {
    /// What it answers.
    pub(crate) kind: u64,
    /// Whether it was done.
    pub(crate) success: bool,
    /// The first process restored.
    pub(crate) restored_pid: Option<i32>,
    /// Name of a notification, and the process it is about.
    pub(crate) notification: Option<(String, i32)>,
    /// errno of a failure.
    pub(crate) errno: i32,
    /// Words of a failure.
    pub(crate) message: Option<String>,
    /// Major, minor, sublevel.
    pub(crate) version: Option<[u64; 3]>,
    /// Memory tracking and lazy pages.
    pub(crate) features: [bool; 2],
}

impl Response {
    /// Reads one; `None` where the bytes are none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut this = Self::default();
        for (field, value) in fields(bytes)? {
            match (field, value) {
                (1, Value::Number(n)) => this.kind = n,
                (2, Value::Number(n)) => this.success = n != 0,
                (4, Value::Bytes(b)) => this.restored_pid = Some(int32(number(b, 1)?)),
                (5, Value::Bytes(b)) => {
                    let name = text(b, 1).unwrap_or_default();
                    this.notification = Some((name, int32(number(b, 2).unwrap_or(0))));
                }
                (7, Value::Number(n)) => this.errno = int32(n),
                (8, Value::Bytes(b)) => {
                    this.features = [1, 2].map(|f| number(b, f).is_some_and(|n| n != 0));
                }
                (9, Value::Bytes(b)) => {
                    this.message = Some(String::from_utf8_lossy(b).into_owned())
                }
                (10, Value::Bytes(b)) => {
                    this.version = Some([1, 2, 4].map(|f| number(b, f).unwrap_or(0)));
                }
                _ => {}
            }
        }
        Some(this)
    }
}

/// int32 travels as 64 bits of which the lower half counts.
fn int32(n: u64) -> i32 {
    let [a, b, c, d, ..] = n.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn number(bytes: &[u8], wanted: u32) -> Option<u64> {
    fields(bytes)?
        .into_iter()
        .find_map(|(field, value)| match value {
            Value::Number(n) if field == wanted => Some(n),
            _ => None,
        })
}

fn text(bytes: &[u8], wanted: u32) -> Option<String> {
    fields(bytes)?
        .into_iter()
        .find_map(|(field, value)| match value {
            Value::Bytes(b) if field == wanted => Some(String::from_utf8_lossy(b).into_owned()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(bytes: &[u8], wanted: u32) -> Vec<Value<'_>> {
        let all = fields(bytes).unwrap();
        all.into_iter()
            .filter(|(f, _)| *f == wanted)
            .map(|(_, v)| v)
            .collect()
    }

    #[test]
    fn options_have_the_protocol_s_numbers() {
        let options = Options {
            pid: 42,
            log_file: "dump.log",
            root: Some("/r".into()),
            external_mounts: vec![("/a".into(), "/b".into())],
            status_fd: Some(9),
            lsm_mount_context: Some("c".into()),
            page_server: Some(("::1".into(), 27)),
            switches: Switches {
                leave_running: true,
                lazy_pages: true,
                ..Switches::default()
            },
            ..Options::default()
        };
        let message = options.encode();
        let bytes = message.as_bytes();
        assert_eq!(find(bytes, 1), [Value::Number(u64::MAX)]);
        assert_eq!(find(bytes, 2), [Value::Number(42)]);
        assert_eq!(find(bytes, 3), [Value::Number(1)]);
        assert_eq!(find(bytes, 5), []);
        assert_eq!(find(bytes, 10), [Value::Bytes(b"dump.log")]);
        assert_eq!(find(bytes, 23), [Value::Bytes(b"\x0a\x02/a\x12\x02/b")]);
        assert_eq!(find(bytes, 34), [Value::Number(3)]);
        assert_eq!(find(bytes, 48), [Value::Number(1)]);
        assert_eq!(find(bytes, 49), [Value::Number(9)]);
        assert_eq!(find(bytes, 63), [Value::Bytes(b"c")]);
        assert_eq!(find(bytes, 11), [Value::Bytes(b"\x0a\x03::1\x10\x1b")]);
    }

    #[test]
    fn responses_are_read() {
        let mut m = Writer::default();
        m.number(1, 6).number(2, 1);
        m.message(5, Writer::default().bytes(1, b"post-dump").int32(2, 7));
        m.int32(7, -5).bytes(9, b"why");
        m.message(
            10,
            Writer::default().number(1, 3).number(2, 17).number(4, 1),
        );
        m.message(4, Writer::default().number(1, 99));
        let read = Response::decode(m.as_bytes()).unwrap();
        assert_eq!(read.notification, Some(("post-dump".to_owned(), 7)));
        assert_eq!((read.errno, read.message.as_deref()), (-5, Some("why")));
        assert_eq!(
            (read.version, read.restored_pid),
            (Some([3, 17, 1]), Some(99))
        );
        assert_eq!(Response::decode(b"\xff"), None);
    }
}
