//! A registry in the daemon's network.

use std::process::{Child, Command, Stdio};

use crate::{Daemon, until};

/// Debian's docker-registry on 127.0.0.1:5000.
#[derive(Debug)]
pub struct Registry(Child);

impl Registry {
    /// Starts it, with the stage's image under these names, each with the tag `1`.
    pub async fn start(daemon: &Daemon, names: &[&str]) -> Self {
        let config = daemon.dir.join("registry.yml");
        let storage = daemon.dir.join("registry");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:5000\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", daemon.token))
            .args(["docker-registry", "serve"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self(child);
        let url = "http://127.0.0.1:5000/v2/";
        until("the registry answers", async || {
            daemon
                .in_network(&["busybox", "wget", "-q", "-O", "-", url])
                .0
                == 0
        })
        .await;
        let layout = format!("oci:{}", daemon.dir.join("layout").display());
        for name in names {
            let to = format!("docker://127.0.0.1:5000/{name}:1");
            let copy = [
                "skopeo",
                "copy",
                "-q",
                "--dest-tls-verify=false",
                &layout,
                &to,
            ];
            let (code, text) = daemon.in_network(&copy);
            assert_eq!(code, 0, "{text}");
        }
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
