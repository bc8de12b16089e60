//! What hangs holds up nothing but itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::time::Duration;

use cri_api::v1;
use cri_suite::{Daemon, Options, container, creation, pod, sleeper};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// A file system whose server never answers.
struct Hung {
    server: Option<File>,
    point: std::path::PathBuf,
}

impl Hung {
    fn new(daemon: &Daemon) -> Self {
        let point = daemon.dir.join("hung");
        fs::create_dir_all(&point).unwrap();
        let server = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            server.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        mount(
            "hung",
            &point,
            "fuse",
            MountFlags::NOSUID | MountFlags::NODEV,
            options.as_c_str(),
        )
        .unwrap();
        Self {
            server: Some(server),
            point,
        }
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_mount_holds_up_its_own_container_only() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("hung")).await;
    let mut hung = Hung::new(&daemon);
    let mut config = container("stuck", &["/bin/true"]);
    config.mounts.push(v1::Mount {
        container_path: "/x".to_owned(),
        host_path: hung.point.join("volume").to_string_lossy().into_owned(),
        ..Default::default()
    });
    let request = || creation(&id, config.clone());
    let patience = Duration::from_secs(5);
    let error = daemon.creation_times_out(request(), patience).await;
    assert!(error.message().contains("stage configuration"), "{error}");
    let mut runtime = daemon.runtime();
    let again = request();
    let retry = tokio::spawn(async move { runtime.create_container(again).await });
    let other = daemon.run(&id, sleeper("other")).await;
    assert_eq!(daemon.exec(&other, &["true"]).await.0, 0);
    let list = daemon
        .runtime()
        .list_containers(v1::ListContainersRequest::default())
        .await;
    assert_eq!(list.unwrap().into_inner().containers.len(), 1);
    assert!(!retry.is_finished(), "it joins the one that hangs");
    let verbose = daemon
        .runtime()
        .status(v1::StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    assert!(
        verbose.info["operations"].contains("test/hung/stuck"),
        "{}",
        verbose.info["operations"]
    );
    drop(hung.server.take());
    let error = retry.await.unwrap().unwrap_err();
    assert!(error.message().contains("volume"), "{error}");
    drop(hung);
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_shorter_grace_counts() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("grace")).await;
    let deaf = container(
        "deaf",
        &[
            "/bin/sh",
            "-c",
            "trap '' TERM; while true; do sleep 1; done",
        ],
    );
    let c = daemon.run(&id, deaf).await;
    let stop = |timeout| v1::StopContainerRequest {
        container_id: c.clone(),
        timeout,
    };
    let mut runtime = daemon.runtime();
    let patient = stop(3600);
    let patient = tokio::spawn(async move { runtime.stop_container(patient).await });
    cri_suite::until("the patient one runs", async || {
        let status = daemon
            .runtime()
            .status(v1::StatusRequest { verbose: true })
            .await
            .unwrap()
            .into_inner();
        status.info["operations"].contains("StopContainer")
    })
    .await;
    daemon.runtime().stop_container(stop(0)).await.unwrap();
    patient.await.unwrap().unwrap();
    assert_eq!(daemon.status(&c).await.exit_code, 137);
    daemon.remove_pod(&id).await;
}
