//! What is told: lists, statuses, events, statistics, metrics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cri_api::v1;
use cri_suite::{Daemon, IMAGE, Options, container, pod, sleeper, until};
use tokio_stream::StreamExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_their_filters() {
    let daemon = Daemon::start(Options::default()).await;
    let one = daemon.run_pod(pod("one")).await;
    let two = daemon.run_pod(pod("two")).await;
    let c = daemon.create(&one, sleeper("c")).await;
    let mut runtime = daemon.runtime();
    let mut list = async |filter: v1::PodSandboxFilter| {
        let request = v1::ListPodSandboxRequest {
            filter: Some(filter),
        };
        let items = runtime
            .list_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .items;
        items.into_iter().map(|p| p.id).collect::<Vec<_>>()
    };
    assert_eq!(
        list(v1::PodSandboxFilter::default()).await,
        [one.clone(), two.clone()]
    );
    let by_id = v1::PodSandboxFilter {
        id: two[..12].to_owned(),
        ..Default::default()
    };
    assert_eq!(list(by_id).await, std::slice::from_ref(&two));
    let by_label = v1::PodSandboxFilter {
        label_selector: [("pod".to_owned(), "one".to_owned())].into(),
        ..Default::default()
    };
    assert_eq!(list(by_label).await, std::slice::from_ref(&one));
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: two.clone(),
    };
    daemon.runtime().stop_pod_sandbox(stop).await.unwrap();
    let ready = v1::PodSandboxStateValue {
        state: v1::PodSandboxState::SandboxReady.into(),
    };
    let by_state = v1::PodSandboxFilter {
        state: Some(ready),
        ..Default::default()
    };
    assert_eq!(list(by_state).await, std::slice::from_ref(&one));
    let streamed = daemon
        .runtime()
        .stream_containers(v1::StreamContainersRequest::default())
        .await;
    let chunk = streamed
        .unwrap()
        .into_inner()
        .next()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(chunk.containers[0].id, c);
    the_verbose_status(&daemon, &one, &c).await;
    daemon.remove_pod(&one).await;
    daemon.remove_pod(&two).await;
}

async fn the_verbose_status(daemon: &Daemon, pod: &str, c: &str) {
    let request = v1::ContainerStatusRequest {
        container_id: c[..10].to_owned(),
        verbose: true,
    };
    let status = daemon
        .runtime()
        .container_status(request)
        .await
        .unwrap()
        .into_inner();
    let info: serde_json::Value = serde_json::from_str(&status.info["info"]).unwrap();
    assert_eq!(info["sandboxID"], pod);
    assert_eq!(info["runtimeSpec"]["process"]["args"][0], "/bin/sh");
    let status = status.status.unwrap();
    assert_eq!(status.image.unwrap().image, IMAGE);
    assert!(status.image_id.starts_with("sha256:"));
    assert!(status.log_path.ends_with("/logs/c.log"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_without_a_gap() {
    let daemon = Daemon::start(Options::default()).await;
    let stream = daemon
        .runtime()
        .get_container_events(v1::GetEventsRequest {})
        .await;
    let mut stream = stream.unwrap().into_inner();
    let id = daemon.run_pod(pod("events")).await;
    let c = daemon.run(&id, container("c", &["/bin/true"])).await;
    daemon.ended(&c).await;
    daemon.remove_pod(&id).await;
    use v1::ContainerEventType as T;
    let expected = [
        (&id, T::ContainerCreatedEvent),
        (&id, T::ContainerStartedEvent),
        (&c, T::ContainerCreatedEvent),
        (&c, T::ContainerStartedEvent),
        (&c, T::ContainerStoppedEvent),
        (&id, T::ContainerStoppedEvent),
        (&c, T::ContainerDeletedEvent),
        (&id, T::ContainerDeletedEvent),
    ];
    for (id, kind) in expected {
        let event = stream.next().await.unwrap().unwrap();
        assert_eq!(
            (&event.container_id, event.container_event_type()),
            (id, kind)
        );
    }
}

async fn metrics(daemon: &Daemon, pod: &str) {
    let mut runtime = daemon.runtime();
    let described = runtime
        .list_metric_descriptors(v1::ListMetricDescriptorsRequest {})
        .await;
    let names: Vec<String> = described
        .unwrap()
        .into_inner()
        .descriptors
        .into_iter()
        .map(|d| d.name)
        .collect();
    let metrics = runtime
        .list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {})
        .await;
    let metrics = metrics.unwrap().into_inner().pod_metrics.remove(0);
    assert_eq!(metrics.pod_sandbox_id, pod);
    let all = metrics
        .metrics
        .iter()
        .chain(&metrics.container_metrics[0].metrics);
    assert!(all.clone().count() > 30);
    for metric in all {
        assert!(names.contains(&metric.name), "{}", metric.name);
    }
    let (_, page) = daemon.in_network(&[
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1:9099/metrics",
    ]);
    assert!(
        page.contains("hull_operations_total{operation=\"RunPodSandbox\"} 1"),
        "{page}"
    );
    assert!(page.contains("hull_pods{state=\"ready\"} 1"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_and_metrics() {
    let options = Options {
        config: "[metrics]\nlisten = \"127.0.0.1:9099\"".to_owned(),
        ..Options::default()
    };
    let daemon = Daemon::start(options).await;
    let id = daemon.run_pod(pod("stats")).await;
    let work = [
        "/bin/sh",
        "-c",
        "dd if=/dev/zero of=/data/f bs=1M count=4; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 3600",
    ];
    let c = daemon.run(&id, container("c", &work)).await;
    let mut runtime = daemon.runtime();
    let request = || v1::ContainerStatsRequest {
        container_id: c.clone(),
    };
    until("processor time is counted", async || {
        let stats = daemon
            .runtime()
            .container_stats(request())
            .await
            .unwrap()
            .into_inner()
            .stats
            .unwrap();
        stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 1_000_000
    })
    .await;
    let stats = runtime
        .container_stats(request())
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert_eq!(stats.attributes.unwrap().id, c);
    assert!(stats.cpu.unwrap().usage_nano_cores.is_some());
    let memory = stats.memory.unwrap();
    assert!(memory.working_set_bytes.unwrap().value > 0);
    assert!(memory.usage_bytes.unwrap().value >= memory.working_set_bytes.unwrap().value);
    let request = v1::PodSandboxStatsRequest {
        pod_sandbox_id: id.clone(),
    };
    let pod = runtime
        .pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap()
        .linux
        .unwrap();
    assert_eq!(pod.containers.len(), 1);
    assert_eq!(pod.network.unwrap().default_interface.unwrap().name, "eth0");
    assert!(pod.process.unwrap().process_count.unwrap().value >= 2);
    metrics(&daemon, &id).await;
    daemon.remove_pod(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn about_the_runtime() {
    let daemon = Daemon::start(Options::default()).await;
    let mut runtime = daemon.runtime();
    let version = runtime
        .version(v1::VersionRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            version.runtime_name.as_str(),
            version.runtime_api_version.as_str()
        ),
        ("hull", "v1")
    );
    let status = runtime
        .status(v1::StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    for condition in status.status.unwrap().conditions {
        assert!(condition.status, "{condition:?}");
    }
    assert!(status.info["config"].contains("cgroup-parent"));
    let config = runtime
        .runtime_config(v1::RuntimeConfigRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        config.linux.unwrap().cgroup_driver(),
        v1::CgroupDriver::Cgroupfs
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn about_images() {
    let daemon = Daemon::start(Options::default()).await;
    let mut images = daemon.images();
    let list = images
        .list_images(v1::ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert_eq!(list[0].repo_tags, [IMAGE]);
    assert_eq!(list[0].uid.unwrap().value, 0);
    let spec = |image: &str| {
        Some(v1::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        })
    };
    let request = v1::ImageStatusRequest {
        image: spec(&list[0].id),
        verbose: true,
    };
    let found = images.image_status(request).await.unwrap().into_inner();
    assert!(found.info["info"].contains("FROM_IMAGE"));
    let request = v1::ImageStatusRequest {
        image: spec("hull.test/none:1"),
        verbose: false,
    };
    assert!(
        images
            .image_status(request)
            .await
            .unwrap()
            .into_inner()
            .image
            .is_none()
    );
    let fs = images
        .image_fs_info(v1::ImageFsInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(fs.image_filesystems[0].used_bytes.unwrap().value > 0);
    for _ in 0..2 {
        images
            .remove_image(v1::RemoveImageRequest { image: spec(IMAGE) })
            .await
            .unwrap();
    }
    let list = images
        .list_images(v1::ListImagesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .images;
    assert!(list.is_empty());
}
