//! Where the attacks take place: a bundle, a state root, and a directory of the machine that no
//! container has any business with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// How long one container may take.
const DEADLINE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(5);
/// Where this program lies in the root file system.
pub const PROBE: &str = "/bin/probe";

/// The place.
#[derive(Debug)]
pub struct Arena {
    runtime: PathBuf,
    dir: tempfile::TempDir,
}

/// What a run of the runtime came to.
#[derive(Debug)]
pub struct Ran {
    /// It said that all was well.
    pub success: bool,
    /// The container's output.
    pub out: String,
    /// Complaints.
    pub err: String,
}

impl Ran {
    /// The first line of the complaints.
    pub fn complaint(&self) -> String {
        let line = self.err.lines().find(|l| !l.trim().is_empty());
        let text: String = line.unwrap_or("no complaint").chars().take(160).collect();
        format!("refused: {text}")
    }
}

impl Arena {
    /// Makes it.
    pub fn new(runtime: &Path) -> Result<Self> {
        let runtime = runtime
            .canonicalize()
            .with_context(|| format!("selftest: --runtime {}", runtime.display()))?;
        let dir = tempfile::Builder::new()
            .prefix("hull-selftest-")
            .tempdir()
            .context("mkdtemp(hull-selftest-)")?;
        let arena = Self { runtime, dir };
        for name in ["victim", "state", "bundles"] {
            fs::create_dir(arena.path(name)).with_context(|| format!("mkdir({name})"))?;
        }
        fs::write(arena.path("mark"), "of the machine").context("write(mark)")?;
        let probe = arena.path("probe");
        fs::copy("/proc/self/exe", &probe).context("copy(/proc/self/exe)")?;
        fs::set_permissions(&probe, fs::Permissions::from_mode(0o755)).context("chmod(probe)")?;
        Ok(arena)
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that no container should see.
    pub fn mark(&self) -> String {
        self.path("mark").display().to_string()
    }

    /// A directory that no container should write to.
    pub fn victim(&self) -> PathBuf {
        self.path("victim")
    }

    /// Whether somebody has written to the victim; it is empty afterwards.
    pub fn victim_was_hit(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.victim())
            .context("open(victim)")?
            .flatten()
        {
            names.push(entry.file_name().to_string_lossy().into_owned());
            let path = entry.path();
            // Whatever it is: the next attack wants an empty one.
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        Ok(names)
    }

    /// A bundle whose program is the probe with these words.
    pub fn bundle(&self, name: &str, words: &[&str]) -> Result<Bundle> {
        let dir = self.path("bundles").join(name);
        let root = dir.join("rootfs");
        for sub in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            let path = root.join(sub);
            fs::create_dir_all(&path).with_context(|| format!("mkdir({})", path.display()))?;
        }
        let probe = root.join("bin/probe");
        fs::hard_link(self.path("probe"), &probe)
            .with_context(|| format!("link({})", probe.display()))?;
        let mut spec = serde_json::to_value(spec::default_spec(false)).context("default spec")?;
        // What also older runtimes read.
        spec["ociVersion"] = json!("1.0.2");
        spec["process"]["terminal"] = json!(false);
        spec["process"]["rlimits"] = json!([]);
        spec["root"] = json!({ "path": "rootfs", "readonly": false });
        let mut args = vec![PROBE, "selftest-probe"];
        args.extend(words);
        spec["process"]["args"] = json!(args);
        Ok(Bundle {
            dir,
            root,
            id: format!("hull-selftest-{}-{name}", std::process::id()),
            spec,
        })
    }

    /// The runtime's own default configuration.
    pub fn own_default(&self) -> Result<Value> {
        let dir = self.path("default");
        fs::create_dir_all(&dir).context("mkdir(default)")?;
        let _ = fs::remove_file(dir.join("config.json"));
        let out = Command::new(&self.runtime)
            .arg("spec")
            .current_dir(&dir)
            .output()
            .context("spec")?;
        let bytes = fs::read(dir.join("config.json")).with_context(|| {
            format!(
                "the runtime has no `spec`: {}",
                String::from_utf8_lossy(&out.stderr)
            )
        })?;
        serde_json::from_slice(&bytes).context("config.json of `spec`")
    }

    /// A command of the runtime.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.path("state")).args(words);
        command.stdin(Stdio::null());
        command
    }

    /// Whether an honest container runs.
    pub fn works(&self) -> Result<()> {
        let bundle = self.bundle("honest", &["hello"])?;
        let ran = self.run(&bundle)?;
        if ran.success && ran.out.contains("hello") {
            return Ok(());
        }
        bail!("an honest container does not run: {}", ran.complaint())
    }

    /// Runs a container to its end.
    pub fn run(&self, bundle: &Bundle) -> Result<Ran> {
        let child = self.start(bundle, Stdio::null())?;
        self.finish(child, bundle)
    }

    /// Starts a container; [`Arena::finish`] must follow.
    pub fn start(&self, bundle: &Bundle, stdin: Stdio) -> Result<Child> {
        bundle.write()?;
        let dir = bundle.dir.display().to_string();
        // Files, not pipes: whoever inherits them must not hold us.
        let file = |name: &str| {
            let path = bundle.dir.join(name);
            fs::File::create(&path).with_context(|| format!("open({})", path.display()))
        };
        let mut command = self.command(&["run", "--bundle", &dir, &bundle.id]);
        command.stdin(stdin);
        command.stdout(file("out")?).stderr(file("err")?);
        command.spawn().context("start the runtime")
    }

    /// Waits for a container, and clears it away.
    pub fn finish(&self, mut child: Child, bundle: &Bundle) -> Result<Ran> {
        let end = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = child.try_wait().context("waitpid(runtime)")? {
                break Some(status);
            }
            if Instant::now() > end {
                break None;
            }
            std::thread::sleep(TICK);
        };
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // What an attack left; most leave nothing, and then this fails.
        let _ = self.command(&["delete", "--force", &bundle.id]).output();
        let read = |name: &str| {
            let bytes = fs::read(bundle.dir.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let Some(status) = status else {
            bail!("the runtime did not end within {} s", DEADLINE.as_secs());
        };
        Ok(Ran {
            success: status.success(),
            out: read("out"),
            err: read("err"),
        })
    }

    /// A command inside a container that runs.
    pub fn exec(&self, bundle: &Bundle, words: &[&str]) -> Result<Ran> {
        let mut all = vec!["exec", bundle.id.as_str(), PROBE, "selftest-probe"];
        all.extend(words);
        let out = self.command(&all).output().context("exec")?;
        Ok(Ran {
            success: out.status.success(),
            out: String::from_utf8_lossy(&out.stdout).into_owned(),
            err: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }
}

/// A bundle under way.
#[derive(Debug)]
pub struct Bundle {
    /// Its directory.
    pub dir: PathBuf,
    /// Its root file system.
    pub root: PathBuf,
    /// The container's id.
    pub id: String,
    /// Its configuration.
    pub spec: Value,
}

impl Bundle {
    fn write(&self) -> Result<()> {
        let path = self.dir.join("config.json");
        let bytes = serde_json::to_vec(&self.spec).context("config.json")?;
        fs::write(&path, bytes).with_context(|| format!("write({})", path.display()))
    }

    /// Grants capabilities.
    pub fn grant(&mut self, names: &[&str]) {
        for set in ["bounding", "effective", "permitted"] {
            if let Some(list) = self.spec["process"]["capabilities"][set].as_array_mut() {
                list.extend(names.iter().map(|n| json!(n)));
            }
        }
    }

    /// Takes away the mount at a place, and those below it.
    pub fn unmount(&mut self, place: &str) {
        if let Some(mounts) = self.spec["mounts"].as_array_mut() {
            mounts.retain(|m| {
                let at = m["destination"].as_str().unwrap_or_default();
                at != place && !at.starts_with(&format!("{place}/"))
            });
        }
    }

    /// Adds a mount.
    pub fn mount(&mut self, mount: Value) {
        if let Some(mounts) = self.spec["mounts"].as_array_mut() {
            mounts.push(mount);
        }
    }

    /// Replaces a directory of the image by a symbolic link.
    pub fn link(&self, place: &str, target: &Path) -> Result<()> {
        let path = self.root.join(place);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).with_context(|| format!("rm({})", path.display()))?;
        }
        std::os::unix::fs::symlink(target, &path)
            .with_context(|| format!("symlink({})", path.display()))
    }
}
