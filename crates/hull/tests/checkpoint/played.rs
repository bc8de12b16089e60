//! A criu that is played: it writes down what it is asked and gives the answers laid out for it,
//! so that all that hull does itself can be seen where no criu works.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Bundle, Output, finish};

/// `criu swrk FD`: a packet is a request, its number over all runs the name of the answer. Before
/// it answers it kills the process that it is told to, as a dump does. Without an answer it ends.
const SCRIPT: &str = r#"#!/bin/busybox sh
dir=${0%/*}
fd=$2
while :; do
	n=$(ls "$dir" | grep -c asked)
	dd bs=65536 count=1 of="$dir/asked.$n" <&$fd 2>/dev/null
	[ -s "$dir/asked.$n" ] || { rm "$dir/asked.$n"; exit 0; }
	[ -f "$dir/answer.$n" ] || exit 1
	[ ! -f "$dir/kill.$n" ] || kill -9 "$(cat "$dir/kill.$n")"
	cat "$dir/answer.$n" >&$fd
done
"#;

/// `criu_req_type` of images/rpc.proto.
pub const DUMP: u64 = 1;
pub const RESTORE: u64 = 2;
pub const PRE_DUMP: u64 = 4;
const NOTIFY: u64 = 6;
const FEATURES: u64 = 9;
const VERSION: u64 = 10;

/// The directory of the one who plays.
pub struct Criu(PathBuf);

impl Criu {
    /// With answers, the first of which is a version.
    pub fn plays(c: &Bundle, answers: &[Message]) -> Self {
        let dir = c.file("criu");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        let program = dir.join("criu");
        std::fs::write(&program, SCRIPT).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        for (n, answer) in answers.iter().enumerate() {
            std::fs::write(dir.join(format!("answer.{n}")), &answer.0).unwrap();
        }
        Self(dir)
    }

    /// It kills `pid` before its answer `n`.
    pub fn kills(self, pid: i32, n: usize) -> Self {
        std::fs::write(self.0.join(format!("kill.{n}")), pid.to_string()).unwrap();
        self
    }

    /// `hull` that finds it.
    pub fn hull(&self, c: &Bundle, args: &[&str]) -> Output {
        finish(self.command(c, args))
    }

    pub fn command(&self, c: &Bundle, args: &[&str]) -> Command {
        let mut command = c.command(args);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.0.display()));
        command
    }

    /// What it was asked the nth time.
    pub fn asked(&self, n: usize) -> Message {
        Message(std::fs::read(self.0.join(format!("asked.{n}"))).unwrap())
    }

    /// How often it was asked.
    pub fn count(&self) -> usize {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten();
        let names = entries.map(|e| e.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("asked.")).count()
    }
}

pub fn version(major: u64, minor: u64) -> Message {
    let version = Message::new().number(1, major).number(2, minor);
    answer(VERSION).message(10, &version)
}

/// Whether it tracks memory and serves pages.
pub fn features(tracks: bool, serves: bool) -> Message {
    let features = Message::new()
        .number(1, tracks.into())
        .number(2, serves.into());
    answer(FEATURES).message(8, &features)
}

pub fn notification(name: &str, pid: i32) -> Message {
    let pid = u64::try_from(pid).unwrap();
    let notify = Message::new().bytes(1, name.as_bytes()).number(2, pid);
    answer(NOTIFY).message(5, &notify)
}

pub fn done(kind: u64) -> Message {
    answer(kind)
}

pub fn restored(pid: i32) -> Message {
    let pid = u64::try_from(pid).unwrap();
    answer(RESTORE).message(4, &Message::new().number(1, pid))
}

pub fn failed(kind: u64, words: &str) -> Message {
    let failed = Message::new().number(1, kind).number(2, 0);
    failed.bytes(9, words.as_bytes())
}

fn answer(kind: u64) -> Message {
    Message::new().number(1, kind).number(2, 1)
}

/// A message of the protocol, encoded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message(Vec<u8>);

impl Message {
    fn new() -> Self {
        Self::default()
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap());
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(u64::try_from(value.len()).unwrap());
        self.0.extend(value);
        self
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// Fields in their order: a number, or the bytes of a string or message.
    fn fields(&self) -> Vec<(u64, Result<u64, Vec<u8>>)> {
        let mut rest = self.0.iter().copied();
        let varint = |bytes: &mut dyn Iterator<Item = u8>| {
            let mut value = 0;
            for (byte, shift) in bytes.zip((0..).step_by(7)) {
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        };
        let mut found = Vec::new();
        while rest.len() > 0 {
            let key = varint(&mut rest);
            let value = varint(&mut rest);
            found.push(match key & 7 {
                0 => (key >> 3, Ok(value)),
                2 => {
                    let length = usize::try_from(value).unwrap();
                    (key >> 3, Err(rest.by_ref().take(length).collect()))
                }
                other => panic!("wire type {other}"),
            });
        }
        found
    }

    /// The number in a field, if there is one.
    pub fn get(&self, field: u64) -> Option<u64> {
        let mut fields = self.fields().into_iter();
        fields.find_map(|(f, value)| (f == field).then(|| value.unwrap()))
    }

    /// The strings in a field.
    pub fn texts(&self, field: u64) -> Vec<String> {
        let messages = self.messages(field).into_iter();
        messages.map(|m| String::from_utf8(m.0).unwrap()).collect()
    }

    /// The messages in a field.
    pub fn messages(&self, field: u64) -> Vec<Self> {
        let fields = self.fields().into_iter();
        let of_it = fields.filter(|(f, _)| *f == field);
        of_it.map(|(_, value)| Self(value.unwrap_err())).collect()
    }

    /// The pairs of strings in a field.
    pub fn pairs(&self, field: u64) -> Vec<(String, String)> {
        let pair = |m: Self| (m.texts(1).remove(0), m.texts(2).remove(0));
        self.messages(field).into_iter().map(pair).collect()
    }
}

/// An image directory as a word of the command line.
pub fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}
