//! Images made on the spot from Debian's static busybox: no registry, no network.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Names the cached image; to be raised when [`build_rootfs`] changes.
const VERSION: u32 = 2;

/// Makes a small root file system at `dir`: busybox with all its names, a few accounts, and the
/// directories that mounts go to.
///
/// # Panics
/// When busybox is missing or a file cannot be made.
pub fn build_rootfs(dir: &Path) {
    for sub in [
        "bin", "proc", "sys", "dev", "run", "tmp", "etc", "root", "var/tmp",
    ] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    let busybox = Path::new("/usr/bin/busybox");
    fs::copy(busybox, dir.join("bin/busybox")).expect("busybox-static is installed");
    let list = Command::new(busybox).arg("--list").output().unwrap();
    for name in String::from_utf8_lossy(&list.stdout).lines() {
        if name != "busybox" {
            symlink("busybox", dir.join("bin").join(name)).unwrap();
        }
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/tmp:/bin/sh\n";
    fs::write(dir.join("etc/passwd"), passwd).unwrap();
    fs::write(dir.join("etc/group"), "root:x:0:\nguest:x:1000:\n").unwrap();
}

/// Packs a root file system into a tar file, owned by root.
///
/// # Panics
/// When tar fails.
pub fn rootfs_tar(rootfs: &Path, tar: &Path) {
    let status = Command::new("tar")
        .args(["--owner=0", "--group=0", "--numeric-owner", "-C"])
        .arg(rootfs)
        .arg("-cf")
        .arg(tar)
        .arg(".")
        .status()
        .unwrap();
    assert!(status.success(), "tar of {}: {status}", rootfs.display());
}

/// The image `localhost/base:1` as an archive in docker's format, which podman, containerd and
/// docker all load. Made once a test process, in the build directory.
///
/// # Panics
/// When a step fails.
pub fn docker_archive() -> PathBuf {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one_maker = LOCK.lock();
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("a test runs from target/");
    let dir = target.join("client-images");
    let archive = dir.join(format!("base-{VERSION}.tar"));
    if archive.exists() {
        return archive;
    }
    // Other test programs may make it at the same moment: build it aside, rename into place.
    let work = dir.join(format!("work-{}", std::process::id()));
    fs::create_dir_all(&work).unwrap();
    build_rootfs(&work.join("rootfs"));
    rootfs_tar(&work.join("rootfs"), &work.join("layer.tar"));
    let layer = sha256(&work.join("layer.tar"));
    let config = serde_json::json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created_by": "client-suite" }],
    });
    fs::write(work.join("config"), config.to_string()).unwrap();
    let name = format!("{}.json", sha256(&work.join("config")));
    fs::rename(work.join("config"), work.join(&name)).unwrap();
    let manifest = serde_json::json!([{
        "Config": name, "RepoTags": ["localhost/base:1"], "Layers": ["layer.tar"],
    }]);
    fs::write(work.join("manifest.json"), manifest.to_string()).unwrap();
    let status = Command::new("tar")
        .current_dir(&work)
        .args(["-cf", "base.tar", "manifest.json", &name, "layer.tar"])
        .status()
        .unwrap();
    assert!(status.success(), "tar of the image: {status}");
    fs::rename(work.join("base.tar"), &archive).unwrap();
    fs::remove_dir_all(&work).unwrap();
    archive
}

/// The machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sha256(file: &Path) -> String {
    let out = Command::new("sha256sum").arg(file).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    text.split_whitespace().next().unwrap().to_owned()
}
