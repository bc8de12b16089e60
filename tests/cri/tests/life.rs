//! The life cycle over the socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cri_api::v1;
use cri_suite::{Daemon, Options, container, pod, sleeper, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_and_a_container_from_birth_to_death() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("first")).await;
    let c = daemon.run(&id, sleeper("main")).await;
    let status = daemon.status(&c).await;
    assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
    assert!(status.created_at > 0 && status.started_at >= status.created_at);
    let (code, text) = daemon.exec(&c, &["hostname"]).await;
    assert_eq!((code, text.trim()), (0, "first"));
    let (_, text) = daemon.exec(&c, &["env"]).await;
    assert!(
        text.contains("FROM_IMAGE=yes") && text.contains("HOSTNAME=first"),
        "{text}"
    );
    let stop = v1::StopContainerRequest {
        container_id: c.clone(),
        timeout: 20,
    };
    daemon.runtime().stop_container(stop).await.unwrap();
    let status = daemon.status(&c).await;
    assert_eq!(
        (status.state(), status.exit_code),
        (v1::ContainerState::ContainerExited, 0)
    );
    assert_eq!(status.reason, "Completed");
    daemon.remove_pod(&id).await;
    let list = daemon
        .runtime()
        .list_containers(v1::ListContainersRequest::default())
        .await;
    assert!(list.unwrap().into_inner().containers.is_empty());
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_have_their_true_reasons() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("ends")).await;
    let good = daemon
        .run(&id, container("good", &["/bin/echo", "hello"]))
        .await;
    let status = daemon.ended(&good).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert!(daemon.container_log("good").ends_with("stdout F hello\n"));
    let bad = daemon
        .run(&id, container("bad", &["/bin/sh", "-c", "exit 7"]))
        .await;
    let status = daemon.ended(&bad).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    let script = daemon
        .create(&id, container("script", &["/bin/badscript"]))
        .await;
    let start = v1::StartContainerRequest {
        container_id: script.clone(),
    };
    let error = daemon.runtime().start_container(start).await.unwrap_err();
    assert!(error.message().contains("/no/such/interpreter"), "{error}");
    let status = daemon.status(&script).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (128, "StartError")
    );
    let mut hog = container("hog", &["/bin/sh", "-c", "tail /dev/zero"]);
    let limit = v1::LinuxContainerResources {
        memory_limit_in_bytes: 32 << 20,
        ..Default::default()
    };
    hog.linux.as_mut().unwrap().resources = Some(limit);
    let hog = daemon.run(&id, hog).await;
    let status = daemon.ended(&hog).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled")
    );
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

/// A program that is told to end before it listens is told again: it ends by its own code.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_heard_by_who_listens_later() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("deaf")).await;
    let program =
        "until test -e /data/go; do sleep 0.05; done; trap 'exit 5' TERM; sleep 3600 & wait";
    let c = daemon
        .run(&id, container("c", &["/bin/sh", "-c", program]))
        .await;
    let request = v1::StopContainerRequest {
        container_id: c.clone(),
        timeout: 120,
    };
    let mut runtime = daemon.runtime();
    let stop = tokio::spawn(async move { runtime.stop_container(request).await });
    until("the stop is under way", async || {
        let status = v1::StatusRequest { verbose: true };
        let status = daemon.runtime().status(status).await.unwrap().into_inner();
        status.info["operations"].contains("StopContainer")
    })
    .await;
    assert_eq!(daemon.exec(&c, &["touch", "/data/go"]).await.0, 0);
    stop.await.unwrap().unwrap();
    assert_eq!(daemon.status(&c).await.exit_code, 5);
    daemon.remove_pod(&id).await;
}

/// Everybody who removes an image at the same time succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_removed_by_many() {
    let daemon = Daemon::start(Options::default()).await;
    let list = v1::ListImagesRequest::default();
    let list = daemon
        .images()
        .list_images(list)
        .await
        .unwrap()
        .into_inner();
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let mut images = daemon.images();
        let request = v1::RemoveImageRequest {
            image: Some(v1::ImageSpec {
                image: list.images[0].id.clone(),
                ..Default::default()
            }),
        };
        tasks.push(tokio::spawn(
            async move { images.remove_image(request).await },
        ));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}
