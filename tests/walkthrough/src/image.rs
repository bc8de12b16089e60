//! The images of the sessions: Debian packages, put into an OCI layout by umoci.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the sessions call in the container, and what belongs to any system.
const PACKAGES: &str = "base-files,bash,coreutils,debianutils,grep,hostname,libc-bin,procps,sed";
/// What the nginx of a pod needs, and `ip` to look at its address.
const NGINX_PACKAGES: &str = "base-files,base-passwd,dash,coreutils,iproute2,nginx-light";

/// A root file system with an account for root.
const ROOT_ACCOUNT: &str = "echo root:x:0:0:root:/root:/bin/bash > etc/passwd && \
                            echo root:x:0: > etc/group";
/// What the packages' scripts would have done: accounts, the default site, logs to the container's.
const NGINX_SETUP: &str = "cp usr/share/base-passwd/passwd.master etc/passwd && \
     cp usr/share/base-passwd/group.master etc/group && mkdir -p var/lib/nginx var/www/html && \
     cp usr/share/nginx/html/index.html var/www/html/ && \
     ln -sf ../sites-available/default etc/nginx/sites-enabled/default && \
     ln -sf /dev/stdout var/log/nginx/access.log && ln -sf /dev/stderr var/log/nginx/error.log";

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image to be made.
struct Recipe {
    name: &'static str,
    packages: &'static str,
    /// A shell command that is run in the root file system.
    setup: &'static str,
    /// Options of `umoci config`.
    config: String,
}

/// The directory with the OCI layout `debian` (tag `latest`); made once, kept in the build
/// directory.
///
/// # Panics
/// When a step fails; it needs a Debian mirror, as apt is configured.
pub fn debian() -> PathBuf {
    made(&Recipe {
        name: "debian",
        packages: PACKAGES,
        setup: ROOT_ACCOUNT,
        config: format!(
            "--config.cmd /bin/bash --config.env HOME=/root --config.env {PATH} \
             --config.env TERM=xterm --config.label 'org.opencontainers.image.title=A small Debian'"
        ),
    })
}

/// The directory with the OCI layout `nginx` (tag `latest`), made likewise.
///
/// # Panics
/// See [`debian`].
pub fn nginx() -> PathBuf {
    made(&Recipe {
        name: "nginx",
        packages: NGINX_PACKAGES,
        setup: NGINX_SETUP,
        config: format!(
            "--config.cmd nginx --config.cmd -g --config.cmd 'daemon off;' --config.env {PATH} \
             --config.stopsignal SIGQUIT"
        ),
    })
}

fn made(recipe: &Recipe) -> PathBuf {
    let name = recipe.name;
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("a test runs from target/");
    let dir = target.join("walkthrough-image");
    if dir.join(name).join("index.json").exists() {
        return dir;
    }
    let work = target.join(format!("walkthrough-{name}-{}", std::process::id()));
    fs::create_dir_all(&work).unwrap();
    make(&work, recipe);
    fs::create_dir_all(&dir).unwrap();
    fs::rename(work.join(name), dir.join(name)).unwrap();
    fs::remove_dir_all(&work).unwrap();
    dir
}

fn make(work: &Path, recipe: &Recipe) {
    let Recipe {
        name,
        packages,
        setup,
        config,
    } = recipe;
    let suite = "sed -n 's/^VERSION_CODENAME=//p' /etc/os-release";
    step(
        work,
        &format!(
            "mmdebstrap --quiet --variant=extract --include={packages} \
             --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
             --dpkgopt='path-exclude=/usr/share/locale/*' $({suite}) root.tar"
        ),
    );
    step(work, &format!("umoci init --layout {name}"));
    step(work, &format!("umoci new --image {name}:latest"));
    step(work, &format!("umoci unpack --image {name}:latest empty"));
    step(work, "tar -C empty/rootfs -xf root.tar --exclude=./dev/*");
    // Not by a hook of mmdebstrap: there are none without the packages' configuration.
    step(&work.join("empty/rootfs"), setup);
    step(work, &format!("umoci repack --image {name}:latest empty"));
    step(
        work,
        &format!("umoci config --image {name}:latest {config}"),
    );
    step(work, &format!("umoci gc --layout {name}"));
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
