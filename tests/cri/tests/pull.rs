//! Images from a registry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Child, Command, Stdio};

use cri_api::v1;
use cri_suite::{Daemon, Options, container, pod, until};

struct Registry(Child);

impl Registry {
    /// Debian's, in the daemon's network.
    fn start(daemon: &Daemon) -> Self {
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
        Self(child)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Copies the stage's image into the registry, under two names.
fn push(daemon: &Daemon) {
    let layout = format!("oci:{}", daemon.dir.join("layout").display());
    for name in ["app", "pinned"] {
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
}

fn spec(image: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec {
        image: image.to_owned(),
        ..Default::default()
    })
}

fn pull(name: &str) -> v1::PullImageRequest {
    v1::PullImageRequest {
        image: spec(name),
        ..Default::default()
    }
}

/// Pulls one image four times at once; its id.
async fn pulled_by_many(daemon: &Daemon) -> String {
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let mut images = daemon.images();
        let request = pull("127.0.0.1:5000/app:1");
        tasks.push(tokio::spawn(async move {
            images
                .pull_image(request)
                .await
                .unwrap()
                .into_inner()
                .image_ref
        }));
    }
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    ids.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulled_run_and_removed() {
    let options = Options {
        config: "[images]\npinned = [\"127.0.0.1:5000/pin*\"]".to_owned(),
        ..Options::default()
    };
    let daemon = Daemon::start(options).await;
    let _registry = Registry::start(&daemon);
    let ping = [
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1:5000/v2/",
    ];
    until("the registry answers", async || {
        daemon.in_network(&ping).0 == 0
    })
    .await;
    push(&daemon);
    let mut images = daemon.images();
    let remove = v1::RemoveImageRequest {
        image: spec(cri_suite::IMAGE),
    };
    images.remove_image(remove).await.unwrap();
    let image = pulled_by_many(&daemon).await;
    let id = daemon.run_pod(pod("pulled")).await;
    let mut config = container("c", &["/bin/echo", "hello"]);
    config.image = spec(&image);
    let c = daemon.run(&id, config).await;
    assert_eq!(daemon.ended(&c).await.exit_code, 0);
    daemon.remove_pod(&id).await;
    let missing = images
        .pull_image(pull("127.0.0.1:5000/none:1"))
        .await
        .unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound, "{missing}");
    images
        .pull_image(pull("127.0.0.1:5000/pinned:1"))
        .await
        .unwrap();
    let list = images
        .list_images(v1::ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert!(list[0].pinned, "{list:?}");
    assert_eq!(
        list[0].repo_tags,
        ["127.0.0.1:5000/app:1", "127.0.0.1:5000/pinned:1"]
    );
    assert_eq!(list[0].repo_digests.len(), 2);
}
