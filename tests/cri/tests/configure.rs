//! What an administrator sets: subnets, reloads, certificates, devices of CDI.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use cri_api::v1;
use cri_suite::{Daemon, Options, pod, sleeper, until};

async fn give_subnets(daemon: &Daemon, cidr: &str) -> Result<(), tonic::Status> {
    let request = v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig {
            network_config: Some(v1::NetworkConfig {
                pod_cidr: cidr.to_owned(),
            }),
        }),
    };
    let answer = daemon.runtime().update_runtime_config(request).await;
    answer.map(drop)
}

async fn address(daemon: &Daemon, pod: &str) -> String {
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.to_owned(),
        verbose: false,
    };
    let answer = daemon.runtime().pod_sandbox_status(request).await.unwrap();
    answer.into_inner().status.unwrap().network.unwrap().ip
}

/// Pods of a network speak to each other and to their gateway.
async fn reaches(daemon: &Daemon, container: &str, to: &str) {
    let (code, text) = daemon
        .exec(container, &["ping", "-c", "1", "-w", "10", to])
        .await;
    assert_eq!(code, 0, "{to}: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clusters_subnet_is_the_pods() {
    let mut daemon = Daemon::start(Options::default()).await;
    let before = daemon.run_pod(pod("before")).await;
    assert!(address(&daemon, &before).await.starts_with("10.99."));
    let refused = give_subnets(&daemon, "10.77.5.0/24").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(
        refused.message().contains("remove the pods first"),
        "{refused}"
    );
    // The same subnet again is no change.
    give_subnets(&daemon, "10.99.0.0/16").await.unwrap();
    daemon.remove_pod(&before).await;
    let nonsense = give_subnets(&daemon, "10.77.5.0").await.unwrap_err();
    assert_eq!(nonsense.code(), tonic::Code::InvalidArgument, "{nonsense}");
    give_subnets(&daemon, "10.77.5.0/24").await.unwrap();
    let first = daemon.run_pod(pod("first")).await;
    assert!(address(&daemon, &first).await.starts_with("10.77.5."));
    let c = daemon.run(&first, sleeper("c")).await;
    reaches(&daemon, &c, "10.77.5.1").await;
    // Who comes after knows it, too.
    daemon.kill();
    daemon.launch().await;
    let second = daemon.run_pod(pod("second")).await;
    let other = address(&daemon, &second).await;
    assert!(other.starts_with("10.77.5."), "{other}");
    reaches(&daemon, &c, &other).await;
    let status = v1::StatusRequest { verbose: true };
    let status = daemon.runtime().status(status).await.unwrap().into_inner();
    assert!(status.info["podCIDR"].starts_with("10.77.5.0/24"));
    daemon.remove_pod(&first).await;
    daemon.remove_pod(&second).await;
}

/// Changes the configuration, and waits until the daemon has said something about it.
async fn reload(daemon: &Daemon, text: &str, said: &str) {
    let file = daemon.dir.join("hull.toml.d/10-test.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    let count = || {
        fs::read_to_string(daemon.log())
            .unwrap()
            .matches(said)
            .count()
    };
    let before = count();
    daemon.signal(rustix::process::Signal::HUP);
    until("the daemon has read its configuration", async || {
        count() > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_counts_for_what_comes_after() {
    let daemon = Daemon::start(Options::default()).await;
    let id = daemon.run_pod(pod("reload")).await;
    let limit = ["sh", "-c", "ulimit -n"];
    let set = "[containers]\nulimits = { nofile = [777, 777] }\n[handlers.other]\npath = \"/usr/sbin/runc\"\n";
    reload(&daemon, set, "configuration read again").await;
    let c = daemon.run(&id, sleeper("c")).await;
    assert_eq!(daemon.exec(&c, &limit).await.1, "777\n");
    let status = v1::StatusRequest { verbose: false };
    let status = daemon.runtime().status(status).await.unwrap().into_inner();
    assert!(status.runtime_handlers.iter().any(|h| h.name == "other"));
    // A mistake changes nothing, and is told.
    reload(
        &daemon,
        "[containers]\nulimit = 5\n",
        "configuration not changed",
    )
    .await;
    let d = daemon.run(&id, sleeper("d")).await;
    assert_eq!(daemon.exec(&d, &limit).await.1, "777\n");
    daemon.remove_pod(&id).await;
}

/// A certificate for this machine of its own authority; `NAME.pem` and `NAME.key`.
fn certificate(dir: &Path, name: &str) {
    let path = |end: &str| dir.join(format!("{name}.{end}"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(path("key"))
        .arg("-out")
        .arg(path("pem"))
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_tls() {
    let certificates = std::env::temp_dir().join(format!("hcri-tls{}", std::process::id()));
    fs::create_dir_all(&certificates).unwrap();
    for name in ["server", "client"] {
        certificate(&certificates, name);
    }
    let file = |name: &str| certificates.join(name).display().to_string();
    let options = Options {
        config: format!(
            "[streaming]\ntls-certificate = \"{}\"\ntls-key = \"{}\"\ntls-client-ca = \"{}\"\n",
            file("server.pem"),
            file("server.key"),
            file("client.pem"),
        ),
        ..Options::default()
    };
    let daemon = Daemon::start(options).await;
    let id = daemon.run_pod(pod("tls")).await;
    let c = daemon.run(&id, sleeper("c")).await;
    let (ca, cert, key) = (file("server.pem"), file("client.pem"), file("client.key"));
    let known = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    for transport in ["spdy", "websocket"] {
        let exec = ["exec", "-r", transport, &c, "echo", "by TLS"];
        let mut args = vec![exec[0]];
        args.extend(known);
        args.extend(&exec[1..]);
        assert_eq!(daemon.shown(&args), "by TLS\n");
        // Somebody without a certificate gets nothing.
        let stranger = daemon.hullctl(&exec).output().unwrap();
        assert!(
            !stranger.status.success() && stranger.stdout.is_empty(),
            "{stranger:?}"
        );
    }
    // Another certificate is taken over by a reload.
    certificate(&certificates, "server");
    reload(&daemon, "", "configuration read again").await;
    let mut args = vec!["exec"];
    args.extend(known);
    args.extend([c.as_str(), "echo", "again"]);
    assert_eq!(daemon.shown(&args), "again\n");
    daemon.remove_pod(&id).await;
    fs::remove_dir_all(&certificates).unwrap();
}

const CDI: &str = r#"{
  "cdiVersion": "0.6.0", "kind": "hull.test/device",
  "containerEdits": { "env": ["CDI_ALL=yes"] },
  "devices": [{ "name": "one", "containerEdits": {
    "env": ["CDI_ONE=one"],
    "deviceNodes": [{ "path": "/dev/made", "hostPath": "/dev/fuse", "permissions": "r" }],
    "mounts": [{ "hostPath": "DIR/file", "containerPath": "/data/from-cdi", "options": ["ro", "bind"] }]
  } }]
}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_of_cdi() {
    let files = std::env::temp_dir().join(format!("hcri-cdi{}", std::process::id()));
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("file"), "a library\n").unwrap();
    let text = CDI.replace("DIR", &files.display().to_string());
    fs::write(files.join("device.json"), text).unwrap();
    let config = format!("cdi-dirs = [\"{}\"]", files.display());
    let daemon = Daemon::start(Options {
        config,
        ..Options::default()
    })
    .await;
    let id = daemon.run_pod(pod("cdi")).await;
    let with = |name: &str, device: &str| {
        let mut config = sleeper(name);
        config.cdi_devices = vec![v1::CdiDevice {
            name: device.to_owned(),
        }];
        config
    };
    let c = daemon.run(&id, with("c", "hull.test/device=one")).await;
    let look = "echo $CDI_ALL $CDI_ONE; cat /data/from-cdi; \
                touch /data/from-cdi 2>/dev/null || echo read-only; \
                (: < /dev/made) && echo reading; (: > /dev/made) 2>/dev/null || echo no writing";
    let (_, text) = daemon.exec(&c, &["sh", "-c", look]).await;
    assert_eq!(text, "yes one\na library\nread-only\nreading\nno writing\n");
    let unknown = daemon
        .try_create(&id, with("d", "hull.test/device=none"))
        .await;
    let unknown = unknown.unwrap_err();
    assert!(
        unknown.message().contains("hull.test/device=none"),
        "{unknown}"
    );
    daemon.remove_pod(&id).await;
    fs::remove_dir_all(&files).unwrap();
}
