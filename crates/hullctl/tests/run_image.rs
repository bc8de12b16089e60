//! `hullctl run IMAGE` and `hullctl container`: from a layout to a container and back to nothing.
//! Everything happens in a network namespace, a store and a state root of the test's own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// A place of the test's own.
struct Ground {
    dir: tempfile::TempDir,
    netns: String,
}

impl Ground {
    fn new(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let netns = format!("hri{}{name}", std::process::id());
        ip(&["netns", "add", &netns]);
        ip(&["-n", &netns, "link", "set", "lo", "up"]);
        layout(&dir.path().join("layout"));
        Self { dir, netns }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `hullctl WORDS` in the network namespace.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.netns))
            .arg(env!("CARGO_BIN_EXE_hullctl"))
            .args(words)
            .env("HULL_STORE", self.path("store"))
            .env("HULL", hull())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn ok(&self, words: &[&str]) -> String {
        let out = self.run(words);
        assert!(
            out.status.success(),
            "{words:?}: {} {}{}",
            out.status,
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// `run` with the state root and the image.
    fn image(&self, options: &[&str], words: &[&str]) -> Vec<String> {
        let image = format!("oci:{}:box", self.path("layout").display());
        let root = self.path("state").display().to_string();
        let mut all = vec!["run".to_owned(), "--root".to_owned(), root];
        all.extend(options.iter().map(ToString::to_string));
        all.push(image);
        all.extend(words.iter().map(ToString::to_string));
        all
    }

    fn run_image(&self, options: &[&str], words: &[&str]) -> Output {
        let words = self.image(options, words);
        self.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What is left of containers.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for place in ["store/local", "store/containers", "state/pods"] {
            let entries = std::fs::read_dir(self.path(place)).into_iter().flatten();
            left.extend(entries.flatten().map(|e| e.path().display().to_string()));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = self.path("store").join("mnt/containers");
        let own = own.display().to_string();
        left.extend(
            mounts
                .lines()
                .filter(|l| l.contains(&own))
                .map(str::to_owned),
        );
        left
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let out = self.run(&["container", "ps", "-a", "-q"]);
        for id in String::from_utf8_lossy(&out.stdout).lines() {
            let _ = self.run(&["container", "rm", "-f", id]);
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = self.dir.path().display().to_string();
        for line in mounts.lines().rev() {
            if let Some(point) = line.split(' ').nth(4).filter(|p| p.starts_with(&own)) {
                let _ = Command::new("umount").arg(point).status();
            }
        }
        ip(&["netns", "del", &self.netns]);
    }
}

fn ip(words: &[&str]) {
    let out = Command::new("ip").args(words).output().unwrap();
    assert!(out.status.success(), "ip {words:?}: {out:?}");
}

/// The runtime, built beside the program under test.
fn hull() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_hullctl")).with_file_name("hull");
    assert!(path.exists(), "{}: build hull first", path.display());
    path
}

/// An OCI layout with one image: busybox, a user, an environment.
fn layout(dir: &Path) {
    let root = dir.with_extension("root");
    for name in ["bin", "etc", "tmp", "run", "srv"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for name in [
        "sh", "id", "cat", "env", "echo", "sleep", "httpd", "pwd", "touch", "ps", "kill", "grep",
        "ls", "hostname",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nextra:x:50:web\n").unwrap();
    std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let out = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .args(["--numeric-owner", "--owner=0", "--group=0", "-c", "."])
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let layer = blob(dir, &out.stdout);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"User":"web","Env":["PATH=/bin","GREETING=hello"],"Cmd":["sh","-c","echo $GREETING"],"WorkingDir":"/srv","StopSignal":"SIGINT"}},"rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
    );
    let config_digest = blob(dir, config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":{}}}]}}"#,
        config.len(),
        out.stdout.len()
    );
    let digest = blob(dir, manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{},"annotations":{{"org.opencontainers.image.ref.name":"box"}}}}]}}"#,
        manifest.len()
    );
    std::fs::write(dir.join("index.json"), index).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn blob(dir: &Path, bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut hex, b| {
            let _ = write!(hex, "{b:02x}");
            hex
        });
    let place = dir.join("blobs/sha256");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::File::create(place.join(&hex))
        .unwrap()
        .write_all(bytes)
        .unwrap();
    format!("sha256:{hex}")
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn the_image_decides_what_the_command_line_does_not() {
    let ground = Ground::new("a");
    let none = ["--rm", "--network", "none"];
    assert_eq!(text(&ground.run_image(&none, &[])), "hello\n");
    let out = ground.run_image(&none, &["sh", "-c", "id; pwd; echo $HOME; exit 7"]);
    assert_eq!(
        text(&out),
        "uid=33(web) gid=34 groups=50(extra)\n/srv\n/srv\n"
    );
    assert_eq!(out.status.code(), Some(7));
    let options = [
        "--rm",
        "--network=none",
        "-u",
        "0",
        "-w",
        "/tmp",
        "-e",
        "GREETING=bye",
        "-h",
        "box",
        "--entrypoint",
        "/bin/sh",
    ];
    let out = ground.run_image(
        &options,
        &[
            "-c",
            "id -u; pwd; echo $GREETING; hostname; cat /etc/hostname",
        ],
    );
    assert_eq!(text(&out), "0\n/tmp\nbye\nbox\nbox\n");
    assert_eq!(ground.left(), [""; 0]);
}

#[test]
fn limits_volumes_and_a_root_that_cannot_be_written() {
    let ground = Ground::new("b");
    std::fs::create_dir(ground.path("data")).unwrap();
    std::fs::write(ground.path("data/file"), "of the machine\n").unwrap();
    let volume = format!("{}:/srv:ro", ground.path("data").display());
    let options = [
        "--rm",
        "--network=none",
        "--read-only",
        "-v",
        &volume,
        "-v",
        "kept:/tmp/kept",
        "-u",
        "root",
        "--pids-limit",
        "20",
        "--cap-drop",
        "all",
        "--cap-add",
        "chown",
        "--security-opt",
        "no-new-privileges",
    ];
    let script = "cat /srv/file; touch /srv/x; touch /x; touch /run/y && echo run; echo 1 > /tmp/kept/z; grep -E 'CapEff|NoNewPrivs' /proc/self/status";
    let out = ground.run_image(&options, &["sh", "-c", script]);
    let said = text(&out);
    assert!(said.starts_with("of the machine\nrun\n"), "{said}");
    assert!(said.contains("CapEff:\t0000000000000001\n"), "{said}");
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    let refused = String::from_utf8_lossy(&out.stderr)
        .matches("Read-only file system")
        .count();
    assert_eq!(refused, 2, "{out:?}");
    assert_eq!(
        std::fs::read_to_string(ground.path("store/volumes/kept/z")).unwrap(),
        "1\n"
    );
}

#[test]
fn memory_processors_and_the_machines_network() {
    let ground = Ground::new("m");
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; \
        cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max; \
        grep -c : /proc/net/dev";
    let limits = ["--rm", "--memory", "32m", "--cpus", "0.5", "-u", "root"];
    let lines = |network: &str| {
        let options = [limits.as_slice(), &["--network", network]].concat();
        let out = ground.run_image(&options, &["sh", "-c", script]);
        text(&out).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // Of its own: the loopback alone, as here; the limits stand in one of the two trees.
    let own = lines("none");
    assert_eq!(own[0], (32 << 20).to_string(), "{own:?}");
    assert!(own[1].starts_with("50000"), "{own:?}");
    assert_eq!(own[2], "1", "{own:?}");
    ip(&[
        "-n",
        &ground.netns,
        "link",
        "add",
        "one",
        "type",
        "veth",
        "peer",
        "two",
    ]);
    assert_eq!(lines("host")[2], "3");
    assert_eq!(lines("none")[2], "1");
    assert_eq!(ground.left(), [""; 0]);
}

#[test]
fn in_the_background_with_a_port_a_log_and_a_command() {
    let ground = Ground::new("c");
    let script = "echo out; echo err >&2; echo page > /tmp/index.html; exec httpd -f -p 80 -h /tmp";
    let out = ground.run_image(
        &["-d", "--name", "web", "-p", "8080:80", "-u", "root"],
        &["sh", "-c", script],
    );
    assert_eq!(text(&out), "web\n", "{out:?}");
    let fetch = || {
        let mut wget = Command::new("nsenter");
        wget.arg(format!("--net=/run/netns/{}", ground.netns));
        let out = wget
            .args([
                "busybox",
                "wget",
                "-qO-",
                "http://127.0.0.1:8080/index.html",
            ])
            .output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    wait_until("the page is served", || fetch() == "page\n");
    let logs = ground.run(&["container", "logs", "web"]);
    assert_eq!(
        (
            text(&logs),
            String::from_utf8_lossy(&logs.stderr).into_owned()
        ),
        ("out\n".into(), "err\n".into())
    );
    let inside = ground.ok(&["container", "exec", "web", "cat", "/etc/hosts"]);
    let list = ground.ok(&["container", "ps", "--format", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["status"], "running");
    assert!(
        inside.contains(list[0]["ip"].as_str().unwrap()),
        "{inside} {list}"
    );
    // A name that is taken is said, and nothing of the other is touched.
    let twice = ground.run_image(&["-d", "--name", "web", "--network=none"], &["sleep", "1"]);
    assert!(
        String::from_utf8_lossy(&twice.stderr).contains("exists already"),
        "{twice:?}"
    );
    assert!(
        !ground.run(&["container", "rm", "web"]).status.success(),
        "it runs"
    );
    // Without the word, too: a container of ours is found by its id.
    assert_eq!(text(&ground.run(&["logs", "web"])), "out\n");
    assert_eq!(ground.ok(&["exec", "web", "echo", "in"]), "in\n");
    ground.ok(&["stop", "-t", "1", "web"]);
    assert!(ground.ok(&["container", "ps", "-a"]).contains("exited"));
    ground.ok(&["container", "rm", "web"]);
    assert_eq!(ground.left(), [""; 0]);
}

#[test]
fn a_container_that_is_to_go_goes_by_itself() {
    let ground = Ground::new("d");
    let out = ground.run_image(
        &["-d", "--rm", "--name", "brief", "--network=none"],
        &["sleep", "0.3"],
    );
    assert_eq!(text(&out), "brief\n", "{out:?}");
    wait_until("nothing is left", || ground.left().is_empty());
    let out = ground.run_image(
        &["-d", "--name", "code", "--network=none"],
        &["sh", "-c", "exit 9"],
    );
    assert!(out.status.success(), "{out:?}");
    assert_eq!(ground.ok(&["container", "wait", "code"]), "9\n");
    ground.ok(&["container", "rm", "code"]);
}

#[test]
fn in_a_user_namespace_the_images_files_are_roots() {
    let ground = Ground::new("g");
    let options = ["--rm", "--userns=auto", "--network=none", "-u", "root"];
    let script = "id -u; cat /proc/self/uid_map; touch /srv/new && ls -ln /srv/new /bin/busybox";
    let out = ground.run_image(&options, &["sh", "-c", script]);
    let said = text(&out);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[..4], ["0", "0", "524288", "65536"], "{out:?}");
    assert_eq!(
        said.matches(" 0        0 ").count() + said.matches(" 0 0 ").count(),
        2,
        "{said}"
    );
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    let ground = Ground::new("e");
    let script = "sh -c 'sleep 0.1 & exit 0'; sleep 0.3; cat /proc/[0-9]*/stat | grep -c ' Z '; cat /proc/1/cmdline | grep -q init && echo init; kill -TERM $$";
    let out = ground.run_image(
        &["--rm", "--init", "--network=none", "-u", "root"],
        &["sh", "-c", script],
    );
    assert_eq!(text(&out), "0\ninit\n", "{out:?}");
    assert_eq!(out.status.code(), Some(143));
}

#[test]
fn what_cannot_be_run_leaves_nothing() {
    let ground = Ground::new("f");
    for (options, words, says) in [
        (
            &["--rm"][..],
            &["no-such-program"][..],
            "executable file not found",
        ),
        (&["--rm", "-u", "nobody-here"], &["id"], "nobody-here"),
        (
            &["--rm", "-v", "/no/such/place:/x"],
            &["id"],
            "/no/such/place",
        ),
    ] {
        let out = ground.run_image(options, words);
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            !out.status.success() && error.contains(says),
            "{words:?}: {error}"
        );
        assert_eq!(ground.left(), [""; 0], "{words:?}");
    }
    let unknown = ground.run(&["run", "--pull=never", "no-such-image"]);
    assert!(
        String::from_utf8_lossy(&unknown.stderr).contains("no-such-image"),
        "{unknown:?}"
    );
    for command in ["logs", "stop", "rm", "inspect"] {
        let out = ground.run(&["container", command, "nobody"]);
        assert!(
            String::from_utf8_lossy(&out.stderr).contains("does not exist"),
            "{out:?}"
        );
    }
}

#[test]
fn an_image_that_a_container_keeps_that_is_gone() {
    let ground = Ground::new("left");
    let options = ["--name", "left", "--network", "none"];
    let words = ground.image(&options, &["sh", "-c", "echo up; sleep 1000"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut child = ground
        .command(&words)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    let store = ground.path("store").display().to_string();
    let state = ground.path("state").display().to_string();
    let doctor = |words: &[&str]| {
        let places = [
            "doctor", "--grace", "0", "--root", &state, "--store", &store,
        ];
        ground.run(&[&places, words].concat())
    };
    let text = |out: &Output| String::from_utf8_lossy(&out.stdout).into_owned();
    let living = doctor(&[]);
    child.kill().unwrap();
    child.wait().unwrap();
    let removed = Command::new(hull())
        .args(["--root", &state, "delete", "--force", "left"])
        .output()
        .unwrap();
    assert!(removed.status.success(), "{removed:?}");
    // The directory with its record is lost; the database still knows its layers.
    std::fs::remove_dir_all(ground.path("store/local/left")).unwrap();
    let found = doctor(&[]);
    let fixed = doctor(&["--fix"]);
    let after = doctor(&[]);
    assert_eq!(living.status.code(), Some(0), "{}", text(&living));
    assert_eq!(found.status.code(), Some(1), "{}", text(&found));
    assert!(
        text(&found).contains("of left: no such container, but it keeps image sha256:"),
        "{}",
        text(&found)
    );
    assert_eq!(fixed.status.code(), Some(0), "{}", text(&fixed));
    assert_eq!(after.status.code(), Some(0), "{}", text(&after));
    assert_eq!(ground.left(), Vec::<String>::new());
}
