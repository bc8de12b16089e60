//! Images from a registry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cri_api::v1;
use cri_suite::{Daemon, Options, Registry, container, pod, until};

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
    let _registry = Registry::start(&daemon, &["app", "pinned"]).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_a_pull_is() {
    let daemon = Daemon::start(Options::default()).await;
    let _registry = Registry::start(&daemon, &["app", "pinned"]).await;
    let mut images = daemon.images();
    let image = spec(cri_suite::IMAGE);
    let remove = v1::RemoveImageRequest { image };
    images.remove_image(remove).await.unwrap();
    // The registry is behind a thin line.
    let line = "tc qdisc add dev lo root tbf rate 4mbit burst 128kb latency 500ms";
    let line: Vec<&str> = line.split(' ').collect();
    assert_eq!(daemon.in_network(&line).0, 0);
    let pulling =
        tokio::spawn(async move { images.pull_image(pull("127.0.0.1:5000/app:1")).await });
    let progress = || {
        let page = daemon.page();
        let operation = page["operations"].as_array().unwrap().first().cloned();
        operation.filter(|o| o["stage"] == "layers" && o["bytes"].as_u64() > Some(0))
    };
    until("bytes come", async || progress().is_some()).await;
    let seen = progress().unwrap();
    let all = seen["bytes_expected"].as_u64().unwrap();
    until("more come", async || {
        progress().is_some_and(|o| o["bytes"].as_u64() > seen["bytes"].as_u64())
    })
    .await;
    let wide: Vec<&str> = "tc qdisc del dev lo root".split(' ').collect();
    assert_eq!(daemon.in_network(&wide).0, 0);
    pulling.await.unwrap().unwrap();
    assert_eq!(seen["kind"], "PullImage", "{seen}");
    assert_eq!(seen["subject"], "127.0.0.1:5000/app:1", "{seen}");
    assert!(all > 100_000, "{seen}");
    let page = daemon.page();
    assert_eq!(page["bytes_pulled"], all, "{page:#}");
    // The disk is looked at every other second.
    until("the image is there", async || {
        let image = daemon.page()["disk"]["images"][0].clone();
        image["name"].to_string().contains("127.0.0.1:5000/app:1")
    })
    .await;
}

/// Who does not want to wait longer hears where it is, and that it was his time that ended it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_takes_too_long() {
    let daemon = Daemon::start(Options::default()).await;
    // It takes connections and never answers.
    let silent = daemon.inside(|| std::net::TcpListener::bind("127.0.0.1:5000").unwrap());
    let mut request = tonic::Request::new(pull("127.0.0.1:5000/app:1"));
    request.set_timeout(std::time::Duration::from_millis(300));
    let error = daemon.images().pull_image(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::DeadlineExceeded, "{error}");
    let place = "PullImage 127.0.0.1:5000/app:1: for 0.";
    assert!(error.message().starts_with(place), "{error}");
    assert!(error.message().contains("in stage manifest"), "{error}");
    drop(silent);
}
