//! The steps of a session.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use client_suite::{Arena, Kind, Pty, Run, Runtime};

use crate::pattern::fits;

/// A session under way.
#[derive(Debug)]
pub struct Session {
    arena: Arena,
    image: String,
    terminals: BTreeMap<char, Pty>,
    last: Option<Last>,
}

/// The last command that ran to its end.
#[derive(Debug)]
struct Last {
    run: Run,
    /// Lines of its output that patterns have passed.
    passed: usize,
    /// A failure was expected, and came.
    failure_seen: bool,
}

impl Session {
    /// A session in an arena of its own, where `hull` is the runtime under test, `hullctl` the
    /// workspace's, and `$IMAGE` the directory of the image. A daemon puts
    /// its control groups below `$CGROUPS`.
    ///
    /// # Panics
    /// When the arena cannot be made.
    pub fn new(name: &str, image: Option<&Path>) -> Self {
        let arena = Arena::new(name);
        install(&arena.runtime, &arena.dir().join("bin"));
        Self {
            arena,
            image: image.map_or_else(String::new, |path| path.display().to_string()),
            terminals: BTreeMap::new(),
            last: None,
        }
    }

    /// Runs a whole transcript.
    ///
    /// # Panics
    /// At the first step that does not go as written, with its line.
    pub fn play(mut self, transcript: &str) {
        for (number, line) in transcript.lines().enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                // Shown when the test fails: how far it came.
                println!("{:3} {line}", number + 1);
                self.step(line);
            }
        }
        self.succeeded();
        self.terminals.clear();
        self.arena.finish(&[]);
    }

    fn step(&mut self, line: &str) {
        let (sign, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut signs = sign.chars();
        match (signs.next(), signs.next()) {
            (Some('$'), None) => {
                self.succeeded();
                let run = self.arena.run(&self.shell(rest));
                self.last = Some(Last {
                    run,
                    passed: 0,
                    failure_seen: false,
                });
            }
            (Some('<'), None) => self.line_follows(rest),
            (Some('<'), Some('!')) => self.line_is_absent(rest),
            (Some('!'), None) => self.failed_with(rest),
            (Some(terminal), Some('$')) => {
                self.succeeded();
                self.last = None;
                let command = self.arena.command(&self.shell(rest));
                self.terminals
                    .insert(terminal, Pty::spawn(&command, 24, 120));
            }
            (Some(terminal), Some(sign)) => self.at_terminal(terminal, sign, rest),
            _ => panic!("not a step: {line}"),
        }
    }

    /// A shell that runs `command` in the arena's directory.
    fn shell(&self, command: &str) -> Vec<String> {
        let dir = self.arena.dir().display();
        let system = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
        let (path, image) = (
            format!("PATH={dir}/bin:{system}"),
            format!("IMAGE={}", self.image),
        );
        let groups = format!("CGROUPS={}", self.arena.cgroup_parent());
        let script = format!("cd {dir} && {command}");
        let words = [
            "env",
            "TERM=xterm",
            "CONTAINER_RUNTIME_ENDPOINT=unix:///run/hull/hulld.sock",
            &path,
            &image,
            &groups,
            "sh",
            "-c",
            &script,
        ];
        words.map(str::to_owned).to_vec()
    }

    /// The command before must have succeeded, unless its failure was looked for.
    fn succeeded(&self) {
        if let Some(last) = &self.last {
            assert!(
                last.failure_seen || last.run.status.success(),
                "{:#?}",
                last.run
            );
        }
    }

    fn line_follows(&mut self, pattern: &str) {
        let last = self.last.as_mut().expect("a command comes first");
        let mut lines = last.run.out.lines().skip(last.passed);
        let Some(at) = lines.position(|l| fits(pattern, l)) else {
            panic!("no line (any more) like {pattern:?} in {:#?}", last.run);
        };
        last.passed += at + 1;
    }

    fn line_is_absent(&self, pattern: &str) {
        let run = &self.last.as_ref().expect("a command comes first").run;
        let found = run.out.lines().any(|l| fits(pattern, l));
        assert!(!found, "a line like {pattern:?} in {run:#?}");
    }

    fn failed_with(&mut self, pattern: &str) {
        let last = self.last.as_mut().expect("a command comes first");
        assert!(!last.run.status.success(), "succeeded: {:#?}", last.run);
        let found = last.run.err.lines().any(|l| fits(pattern, l));
        assert!(found, "no line like {pattern:?} in {:#?}", last.run);
        last.failure_seen = true;
    }

    fn at_terminal(&mut self, name: char, sign: char, text: &str) {
        let terminal = self
            .terminals
            .get_mut(&name)
            .expect("the terminal is in use");
        match sign {
            '>' => terminal.send(&format!("{text}\n")),
            '<' => terminal.expect(text),
            '!' => {
                let shown = terminal.drain(Duration::from_millis(500));
                assert!(!shown.contains(text), "the terminal shows {shown:?}");
            }
            '=' => {
                let status = terminal.wait();
                let code = status.code().map(|c| c.to_string());
                assert_eq!(code.as_deref(), Some(text), "{status}");
            }
            _ => panic!("not a sign for a terminal: {sign}"),
        }
    }
}

/// A program of the workspace from where the runtime under test is, if that is a build of ours,
/// else from the build of this test.
fn of_workspace(runtime: &Runtime, program: &str) -> PathBuf {
    let beside = runtime.path.with_file_name(program);
    if runtime.kind == Kind::Hull && beside.exists() {
        return beside;
    }
    client_suite::built(program)
}

/// Puts `hull` into the directory `bin`: the runtime under test, which needs hull's terminal
/// receiver when it is a peer. And `hulld` and `hullctl`, which are always the workspace's; the
/// latter also as `crictl`, unless `WALKTHROUGH_CRICTL` names another one.
fn install(runtime: &Runtime, bin: &Path) {
    fs::create_dir(bin).unwrap();
    let hullctl = of_workspace(runtime, "hullctl");
    let crictl = std::env::var_os("WALKTHROUGH_CRICTL").map_or_else(|| hullctl.clone(), Into::into);
    symlink(hullctl, bin.join("hullctl")).unwrap();
    symlink(crictl, bin.join("crictl")).unwrap();
    symlink(of_workspace(runtime, "hulld"), bin.join("hulld")).unwrap();
    let name = bin.join("hull");
    if runtime.kind == Kind::Hull {
        symlink(&runtime.path, name).unwrap();
        return;
    }
    let own = Runtime::workspace_hull();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = recvtty ]; then exec {} \"$@\"; fi\nexec {} \"$@\"\n",
        own.display(),
        runtime.path.display(),
    );
    fs::write(&name, script).unwrap();
    fs::set_permissions(&name, fs::Permissions::from_mode(0o755)).unwrap();
}
