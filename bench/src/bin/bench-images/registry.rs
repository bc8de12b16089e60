//! Debian's docker-registry on loopback.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Ends with this value.
pub struct Registry {
    child: Child,
    address: String,
    /// A registries.conf that lets tools speak to it without TLS.
    pub trusted: PathBuf,
}

impl Registry {
    /// Starts it, with its data below `work`.
    pub fn start(work: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = serde_json::json!({
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": work.join("registry")}},
            "http": {"addr": address},
        });
        let path = work.join("registry.yml");
        std::fs::write(&path, config.to_string())?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("docker-registry")?;
        let trusted = work.join("registries.conf");
        let text = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
        std::fs::write(&trusted, text)?;
        let registry = Self {
            child,
            address,
            trusted,
        };
        for _ in 0..200 {
            if TcpStream::connect(&registry.address).is_ok() {
                return Ok(registry);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("docker-registry does not answer on {}", registry.address);
    }

    /// An image's name.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}:latest", self.address)
    }

    /// Puts an image there.
    pub fn push(&self, name: &str, layout: &Path) -> Result<()> {
        let from = format!("oci:{}:latest", layout.display());
        let to = format!("docker://{}", self.image(name));
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
        let status = command.args([from, to]).status().context("skopeo")?;
        ensure!(status.success(), "skopeo copy: {status}");
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
