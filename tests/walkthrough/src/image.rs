//! The image of the sessions: Debian packages, put into an OCI layout by umoci.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the sessions call in the container, and what belongs to any system.
const PACKAGES: &str = "base-files,bash,coreutils,debianutils,grep,hostname,libc-bin,procps,sed";

/// The directory with the OCI layout `debian` (tag `latest`); made once, kept in the build
/// directory.
///
/// # Panics
/// When a step fails; it needs a Debian mirror, as apt is configured.
pub fn debian() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("a test runs from target/");
    let dir = target.join("walkthrough-image");
    if dir.join("debian/index.json").exists() {
        return dir;
    }
    let work = target.join(format!("walkthrough-image-{}", std::process::id()));
    fs::create_dir_all(&work).unwrap();
    make(&work);
    fs::create_dir_all(&dir).unwrap();
    fs::rename(work.join("debian"), dir.join("debian")).unwrap();
    fs::remove_dir_all(&work).unwrap();
    dir
}

fn make(work: &Path) {
    let account = "echo root:x:0:0:root:/root:/bin/bash > \"$1/etc/passwd\"; \
                   echo root:x:0: > \"$1/etc/group\"";
    let suite = "sed -n 's/^VERSION_CODENAME=//p' /etc/os-release";
    step(
        work,
        &format!(
            "mmdebstrap --quiet --variant=extract --include={PACKAGES} \
             --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
             --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook='{account}' \
             $({suite}) root.tar"
        ),
    );
    step(work, "umoci init --layout debian");
    step(work, "umoci new --image debian:latest");
    step(work, "umoci unpack --image debian:latest empty");
    step(work, "tar -C empty/rootfs -xf root.tar --exclude=./dev/*");
    step(work, "umoci repack --image debian:latest empty");
    step(
        work,
        "umoci config --image debian:latest --config.cmd /bin/bash --config.env HOME=/root \
         --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
         --config.env TERM=xterm --config.label 'org.opencontainers.image.title=A small Debian'",
    );
    step(work, "umoci gc --layout debian");
}

fn step(dir: &Path, command: &str) {
    let out = Command::new("sh")
        .args(["-c", command])
        .current_dir(dir)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "{command}: {}\n{complaint}",
        out.status
    );
}
