//! What a request says of a container is what the container finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use cri_api::v1;
use cri_suite::{Daemon, Options, container, pod, sleeper};

fn security(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config
        .linux
        .as_mut()
        .unwrap()
        .security_context
        .get_or_insert_default()
}

fn default_seccomp() -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_groups_and_capabilities() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("users")).await;
    let mut web = sleeper("web");
    security(&mut web).run_as_username = "web".to_owned();
    security(&mut web).supplemental_groups = vec![9000];
    let web = daemon.run(&id, web).await;
    let (_, text) = daemon.exec(&web, &["id"]).await;
    assert!(text.contains("uid=101(web) gid=102(web)"), "{text}");
    assert!(text.contains("33(www)") && text.contains("9000"), "{text}");
    let user = daemon.status(&web).await.user.unwrap().linux.unwrap();
    assert_eq!(
        (user.uid, user.gid, user.supplemental_groups),
        (101, 102, vec![33, 102, 9000])
    );
    let mut group = sleeper("group");
    security(&mut group).run_as_group = Some(v1::Int64Value { value: 33 });
    let refused = daemon.try_create(&id, group).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("run_as_group"), "{refused}");
    let mut caps = sleeper("caps");
    security(&mut caps).capabilities = Some(v1::Capability {
        add_capabilities: vec!["NET_ADMIN".to_owned()],
        drop_capabilities: vec!["ALL".to_owned()],
        ..Default::default()
    });
    security(&mut caps).no_new_privs = true;
    security(&mut caps).seccomp = default_seccomp();
    let caps = daemon.run(&id, caps).await;
    let (_, text) = daemon
        .exec(
            &caps,
            &["grep", "-E", "CapBnd|NoNewPrivs|Seccomp:", "/proc/1/status"],
        )
        .await;
    assert!(text.contains("CapBnd:\t0000000000001000"), "{text}");
    assert!(
        text.contains("NoNewPrivs:\t1") && text.contains("Seccomp:\t2"),
        "{text}"
    );
    let mut privileged = sleeper("privileged");
    security(&mut privileged).privileged = true;
    let privileged = daemon.run(&id, privileged).await;
    let (code, text) = daemon.exec(&privileged, &["test", "-e", "/dev/kmsg"]).await;
    assert_eq!(code, 0, "{text}");
    let (_, text) = daemon
        .exec(&privileged, &["grep", "Seccomp:", "/proc/1/status"])
        .await;
    assert!(text.contains("Seccomp:\t0"), "{text}");
    daemon.remove_pod(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_and_read_only_roots() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("mounts")).await;
    let host = daemon.dir.join("volume");
    fs::create_dir_all(&host).unwrap();
    fs::write(host.join("f"), "from the host").unwrap();
    let mount = |path: &str, source: &std::path::Path, readonly: bool| v1::Mount {
        container_path: path.to_owned(),
        host_path: source.to_string_lossy().into_owned(),
        readonly,
        recursive_read_only: readonly,
        ..Default::default()
    };
    let mut config = sleeper("c");
    config.mounts = vec![
        mount("/rw", &host, false),
        mount("/ro", &host, true),
        mount("/made", &daemon.dir.join("was/missing"), false),
    ];
    config.mounts.push(v1::Mount {
        container_path: "/img".to_owned(),
        image: Some(v1::ImageSpec {
            image: cri_suite::IMAGE.to_owned(),
            ..Default::default()
        }),
        image_sub_path: "www".to_owned(),
        readonly: true,
        ..Default::default()
    });
    security(&mut config).readonly_rootfs = true;
    let c = daemon.run(&id, config).await;
    assert_eq!(
        daemon.exec(&c, &["cat", "/ro/f"]).await,
        (0, "from the host".to_owned())
    );
    assert_eq!(daemon.exec(&c, &["touch", "/rw/new"]).await.0, 0);
    assert!(host.join("new").exists());
    assert!(
        daemon
            .exec(&c, &["touch", "/ro/no"])
            .await
            .1
            .contains("Read-only")
    );
    assert!(
        daemon
            .exec(&c, &["touch", "/no"])
            .await
            .1
            .contains("Read-only")
    );
    assert_eq!(
        daemon.exec(&c, &["cat", "/img/index.html"]).await.1,
        "hello from a pod\n"
    );
    assert!(daemon.dir.join("was/missing").is_dir());
    let (_, text) = daemon
        .exec(&c, &["cat", "/etc/hosts", "/etc/hostname"])
        .await;
    assert!(
        text.contains("10.99.") && text.ends_with("mounts\n"),
        "{text}"
    );
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

async fn the_pods_address(daemon: &Daemon, id: &str, alone: &str) {
    let status = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: true,
    };
    let status = daemon
        .runtime()
        .pod_sandbox_status(status)
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    let ip = status.network.unwrap().ip;
    let (_, text) = daemon.exec(alone, &["ip", "addr", "show", "eth0"]).await;
    assert!(text.contains(&ip), "{ip} in {text}");
    daemon
        .run(id, container("web", &["/bin/httpd", "-f", "-h", "/www"]))
        .await;
    cri_suite::until("the page comes", async || {
        daemon
            .in_network(&["busybox", "wget", "-q", "-O", "-", &format!("http://{ip}/")])
            .1
            == "hello from a pod\n"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_are_shared_as_asked() {
    let daemon = Daemon::start(Options::default()).await;
    let mut config = pod("shared");
    let linux = config.linux.as_mut().unwrap();
    linux.sysctls.insert(
        "net.ipv4.ip_local_port_range".to_owned(),
        "1024 2048".to_owned(),
    );
    config.dns_config = Some(v1::DnsConfig {
        servers: vec!["10.0.0.10".to_owned()],
        ..Default::default()
    });
    let id = daemon.run_pod(config).await;
    let mut first = sleeper("first");
    let pids = |mode: v1::NamespaceMode, target: &str| v1::NamespaceOption {
        pid: mode.into(),
        target_id: target.to_owned(),
        ..Default::default()
    };
    security(&mut first).namespace_options = Some(pids(v1::NamespaceMode::Pod, ""));
    let first = daemon.run(&id, first).await;
    let (_, text) = daemon.exec(&first, &["ps"]).await;
    assert!(text.contains("/pause"), "{text}");
    let alone = daemon.run(&id, sleeper("alone")).await;
    let (_, text) = daemon.exec(&alone, &["ps"]).await;
    assert!(!text.contains("/pause"), "{text}");
    let mut beside = sleeper("beside");
    security(&mut beside).namespace_options = Some(pids(v1::NamespaceMode::Target, &alone));
    let beside = daemon.run(&id, beside).await;
    // A shell's child bears its name until it executes its program.
    cri_suite::until("both shells are seen", async || {
        let (_, text) = daemon.exec(&beside, &["ps"]).await;
        text.matches("trap").count() == 2
    })
    .await;
    let (_, text) = daemon
        .exec(
            &alone,
            &[
                "cat",
                "/proc/sys/net/ipv4/ip_local_port_range",
                "/etc/resolv.conf",
            ],
        )
        .await;
    assert_eq!(text, "1024\t2048\nnameserver 10.0.0.10\n");
    daemon.exec(&first, &["touch", "/dev/shm/seen"]).await;
    assert_eq!(daemon.exec(&alone, &["ls", "/dev/shm"]).await.1, "seen\n");
    the_pods_address(&daemon, &id, &alone).await;
    daemon.remove_pod(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machines_namespaces() {
    let daemon = Daemon::start(Options::default()).await;
    let mut config = pod("host");
    let options = v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        pid: v1::NamespaceMode::Node.into(),
        ipc: v1::NamespaceMode::Node.into(),
        ..Default::default()
    };
    let linux = config.linux.as_mut().unwrap();
    linux
        .security_context
        .get_or_insert_default()
        .namespace_options = Some(options.clone());
    let id = daemon.run_pod(config).await;
    let mut c = sleeper("c");
    security(&mut c).namespace_options = Some(options);
    let c = daemon.run(&id, c).await;
    let (_, text) = daemon.exec(&c, &["ip", "addr"]).await;
    assert!(text.contains("192.0.2.2"), "{text}");
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let (_, text) = daemon
        .exec(&c, &["stat", "-L", "-c", "%i", "/proc/self/ns/pid"])
        .await;
    assert!(own.to_string_lossy().contains(text.trim()), "{text}");
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_namespaces_with_mapped_files() {
    let daemon = Daemon::start(Options::default()).await;
    let map = |host_id| v1::IdMapping {
        host_id,
        container_id: 0,
        length: 65_536,
    };
    let user = v1::UserNamespace {
        mode: v1::NamespaceMode::Pod.into(),
        uids: vec![map(200_000)],
        gids: vec![map(300_000)],
    };
    let options = v1::NamespaceOption {
        userns_options: Some(user),
        ..Default::default()
    };
    let mut config = pod("userns");
    let linux = config.linux.as_mut().unwrap();
    linux
        .security_context
        .get_or_insert_default()
        .namespace_options = Some(options.clone());
    let id = daemon.run_pod(config).await;
    let mut c = sleeper("c");
    security(&mut c).namespace_options = Some(v1::NamespaceOption {
        pid: v1::NamespaceMode::Container.into(),
        ..options
    });
    // A kubelet names the mappings for volumes that are images, too.
    c.mounts.push(v1::Mount {
        container_path: "/image".to_owned(),
        image: c.image.clone(),
        uid_mappings: vec![map(200_000)],
        gid_mappings: vec![map(300_000)],
        ..v1::Mount::default()
    });
    let c = daemon.run(&id, c).await;
    let (_, text) = daemon.exec(&c, &["cat", "/proc/self/uid_map"]).await;
    assert_eq!(
        text.split_ascii_whitespace().collect::<Vec<_>>(),
        ["0", "200000", "65536"]
    );
    let owners = "stat -c %u:%g /bin/busybox /dev/shm /image/bin";
    let (_, text) = daemon.exec(&c, &["sh", "-c", owners]).await;
    assert_eq!(text, "0:0\n0:0\n0:0\n");
    let (code, text) = daemon.exec(&c, &["touch", "/data/mine"]).await;
    assert_eq!(code, 0, "{text}");
    let (_, text) = daemon.exec(&c, &["stat", "-c", "%u", "/data/mine"]).await;
    assert_eq!(text, "0\n");
    daemon.remove_pod(&id).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_set_changed_and_told() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("limits")).await;
    let mut config = sleeper("c");
    let mut limits = v1::LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        oom_score_adj: -900,
        ..Default::default()
    };
    limits.hugepage_limits.push(v1::HugepageLimit {
        page_size: "2MB".to_owned(),
        limit: 0,
    });
    config.linux.as_mut().unwrap().resources = Some(limits);
    let c = daemon.run(&id, config).await;
    let limit = async || {
        let request = v1::ContainerStatsRequest {
            container_id: c.clone(),
        };
        let stats = daemon
            .runtime()
            .container_stats(request)
            .await
            .unwrap()
            .into_inner()
            .stats
            .unwrap();
        let memory = stats.memory.unwrap();
        memory.available_bytes.unwrap().value + memory.working_set_bytes.unwrap().value
    };
    assert_eq!(limit().await, 64 << 20);
    let update = v1::UpdateContainerResourcesRequest {
        container_id: c.clone(),
        linux: Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    daemon
        .runtime()
        .update_container_resources(update)
        .await
        .unwrap();
    assert_eq!(limit().await, 96 << 20);
    let told = daemon.status(&c).await.resources.unwrap().linux.unwrap();
    assert_eq!(
        (told.memory_limit_in_bytes, told.cpu_quota),
        (96 << 20, 50_000)
    );
    daemon.remove_pod(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_opened_again() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("logs")).await;
    let c = daemon
        .run(
            &id,
            container(
                "c",
                &[
                    "/bin/sh",
                    "-c",
                    "echo one; while [ ! -e /tmp/go ]; do sleep 0.1; done; printf two",
                ],
            ),
        )
        .await;
    cri_suite::until("the first line", async || {
        daemon.container_log("c").contains("one")
    })
    .await;
    let logs = daemon.dir.join("logs");
    fs::rename(logs.join("c.log"), logs.join("c.log.1")).unwrap();
    let reopen = v1::ReopenContainerLogRequest {
        container_id: c.clone(),
    };
    daemon.runtime().reopen_container_log(reopen).await.unwrap();
    daemon.exec(&c, &["touch", "/tmp/go"]).await;
    daemon.ended(&c).await;
    assert!(
        daemon.container_log("c").contains("two"),
        "{}",
        daemon.container_log("c")
    );
    assert!(!daemon.container_log("c").contains("one"));
    daemon.remove_pod(&id).await;
}
