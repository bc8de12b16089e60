//! One container of a case: its bundle, and the commands on it.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::process::Signal;
use serde_json::Value;

use crate::case::Shared;
use crate::config;
use crate::ground::ground;
use crate::process::{self, Cmd, Output, Running, wait_until};
use crate::program::program;
use crate::report::Report;
use crate::rootfs;

/// A container that may or may not exist yet.
pub struct Container {
    shared: Rc<Shared>,
    id: String,
    bundle: PathBuf,
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Container").field(&self.id).finish()
    }
}

impl Container {
    pub(crate) fn new(shared: &Rc<Shared>, name: &str, place: &Path) -> Self {
        let id = format!("{}-{name}", shared.token);
        shared.ids.borrow_mut().push(id.clone());
        Self {
            shared: Rc::clone(shared),
            bundle: shared.dir.join(place),
            id,
        }
    }

    /// Its id, unique on this machine.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its bundle directory.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Its root file system, as the host sees it. Made at first use.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        let root = self.bundle.join("rootfs");
        if !root.exists() {
            rootfs::make(&root);
        }
        root
    }

    /// Tells the attacker inside (`probe watch`, `probe overwrite`) that all has been done that it
    /// could attack.
    ///
    /// # Panics
    /// Where it cannot be told.
    pub fn enough(&self) {
        std::fs::write(self.rootfs().join("enough"), "").expect("make a file");
    }

    /// Where runtimes keep the state of the container with this id, under the private `--root`.
    #[must_use]
    pub fn state_dir(&self, id: &str) -> PathBuf {
        self.shared.dir.join("state").join(id)
    }

    /// The plain configuration with changes, not written.
    #[must_use]
    pub fn config(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut config = config::base(&self.id, &self.shared.token);
        change(&mut config);
        config
    }

    /// Makes the bundle, with these changes to the plain configuration.
    pub fn write(&self, change: impl FnOnce(&mut Value)) {
        self.write_raw(&self.config(change).to_string());
    }

    /// Makes the bundle with this text as its configuration.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write_raw(&self, text: &str) {
        let _ = self.rootfs();
        std::fs::write(self.bundle.join("config.json"), text).expect("write config.json");
    }

    /// The runtime with these arguments, after the global ones that keep its state private.
    #[must_use]
    pub fn runtime(&self, args: &[&str]) -> Cmd {
        let dir = &self.shared.dir;
        Cmd::new(program().command(), &dir.join("io"))
            .env("TMPDIR", dir.join("tmp"))
            .env(config::MARK, &self.shared.token)
            .envs(ground().environment())
            .args(["--root".as_ref(), dir.join("state").as_os_str()])
            .args(ground().arguments())
            .args(args)
    }

    /// `COMMAND --bundle BUNDLE FLAGS ID`.
    #[must_use]
    pub fn with_bundle(&self, command: &str, flags: &[&str]) -> Cmd {
        let bundle = self.bundle.to_str().expect("a path in UTF-8");
        self.runtime(&[command, "--bundle", bundle])
            .args(flags)
            .args([&self.id])
    }

    /// Makes the bundle and runs the container in the foreground.
    #[must_use]
    pub fn run(&self, change: impl FnOnce(&mut Value)) -> Output {
        self.write(change);
        self.with_bundle("run", &[]).run()
    }

    /// Makes the bundle and starts a run in the foreground, without waiting for its end.
    #[must_use]
    pub fn run_aside(&self, change: impl FnOnce(&mut Value)) -> Running {
        self.write(change);
        self.with_bundle("run", &[]).spawn()
    }

    /// Runs a shell script as the container's command; returns its output, and fails the test
    /// unless it succeeds.
    #[must_use]
    pub fn sh(&self, script: &str, change: impl FnOnce(&mut Value)) -> String {
        let out = self.run(|c| {
            config::script(c, script);
            change(c);
        });
        out.ok().text().to_owned()
    }

    /// Runs the probe as the container's command; returns what it saw.
    #[must_use]
    pub fn report(&self, change: impl FnOnce(&mut Value)) -> Report {
        let out = self.run(|c| {
            config::args(c, &["/bin/probe", "report"]);
            change(c);
        });
        Report::new(&out.ok().stdout)
    }

    /// Makes the bundle and creates the container.
    #[must_use]
    pub fn create(&self, change: impl FnOnce(&mut Value)) -> Output {
        self.write(change);
        self.with_bundle("create", &[]).run()
    }

    /// `start ID`.
    #[must_use]
    pub fn start(&self) -> Output {
        self.runtime(&["start", &self.id]).run()
    }

    /// Makes, creates and starts a container that sleeps, unless the changes say otherwise.
    pub fn up(&self, change: impl FnOnce(&mut Value)) {
        let _ = self
            .create(|c| {
                config::args(c, &["/bin/sleep", "1000"]);
                change(c);
            })
            .ok();
        let _ = self.start().ok();
    }

    /// `exec FLAGS ID COMMAND`.
    #[must_use]
    pub fn exec(&self, flags: &[&str], command: &[&str]) -> Output {
        self.exec_cmd(flags, command).run()
    }

    /// `exec FLAGS ID COMMAND`, not run yet.
    #[must_use]
    pub fn exec_cmd(&self, flags: &[&str], command: &[&str]) -> Cmd {
        self.runtime(&["exec"])
            .args(flags)
            .args([&self.id])
            .args(command)
    }

    /// Runs the probe in the running container.
    #[must_use]
    pub fn exec_report(&self, flags: &[&str]) -> Report {
        let out = self.exec(flags, &["/bin/probe", "report"]);
        Report::new(&out.ok().stdout)
    }

    /// Executes a process document: `exec --process FILE ID`.
    ///
    /// # Panics
    /// Where the document cannot be written.
    #[must_use]
    pub fn exec_process(&self, flags: &[&str], process: &Value) -> Output {
        let file = self.bundle.join("process.json");
        std::fs::write(&file, process.to_string()).expect("write process.json");
        self.runtime(&["exec", "--process", file.to_str().expect("UTF-8")])
            .args(flags)
            .args([&self.id])
            .run()
    }

    /// The container's state document.
    #[must_use]
    pub fn state(&self) -> Value {
        self.runtime(&["state", &self.id]).run().ok().json()
    }

    /// Its status word.
    #[must_use]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or("").to_owned()
    }

    /// Whether the runtime knows it.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.runtime(&["state", &self.id]).run().code() == 0
    }

    /// The host's pid of its first process.
    ///
    /// # Panics
    /// Where it has none.
    #[must_use]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().expect("a pid");
        i32::try_from(pid).expect("a pid")
    }

    /// Waits until the status is this.
    pub fn wait_for(&self, status: &str) {
        wait_until(&format!("{} is {status}", self.id), || {
            self.status() == status
        });
    }

    /// `kill ID SIGNAL`.
    #[must_use]
    pub fn kill(&self, signal: &str) -> Output {
        self.runtime(&["kill", &self.id, signal]).run()
    }

    /// Kills it by SIGKILL and waits until it has stopped.
    pub fn stop(&self) {
        let _ = self.kill("KILL").ok();
        self.wait_for("stopped");
    }

    /// `delete ID`.
    #[must_use]
    pub fn delete(&self) -> Output {
        self.runtime(&["delete", &self.id]).run()
    }

    /// `delete --force ID`.
    #[must_use]
    pub fn delete_force(&self) -> Output {
        self.runtime(&["delete", "--force", &self.id]).run()
    }

    /// Kills its first process behind the runtime's back.
    pub fn murder(&self) {
        process::kill(self.pid(), Signal::KILL);
        self.wait_for("stopped");
    }
}
