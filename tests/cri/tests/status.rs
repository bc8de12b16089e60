//! The status page, over its socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use cri_suite::{Daemon, Options, container, pod, sleeper, until};

fn ask(socket: &Path, request: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_sees() {
    let daemon = Daemon::start(Options::default()).await;
    let socket = daemon.dir.join("run/status.sock");
    let (head, body) = ask(&socket, "GET /?auto");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/plain"),
        "{head}"
    );
    assert!(
        body.contains("Pods: 0\n") && body.contains("Scoreboard: \n"),
        "{body}"
    );

    let one = daemon.run_pod(pod("one")).await;
    daemon.run(&one, sleeper("runs")).await;
    daemon
        .run(&one, container("<fails>", &["/bin/sh", "-c", "exit 3"]))
        .await;
    until("the failure is on the page", async || {
        let (_, body) = ask(&socket, "GET /?json");
        let page: serde_json::Value = serde_json::from_str(&body).unwrap();
        page["scoreboard"] == "Rrf"
    })
    .await;
    let (_, body) = ask(&socket, "GET /?json");
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(page["containers"][1]["code"], 3, "{page:#}");
    assert!(page["operations_served"].as_u64().unwrap() >= 5, "{page:#}");
    assert_eq!(page["events"][0]["number"], page["last_event"], "{page:#}");
    let (head, html) = ask(&socket, "GET /?refresh=7");
    assert!(
        head.to_ascii_lowercase()
            .contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    for part in [
        "content=\"7\"",
        "Rrf",
        "test/one",
        "&lt;fails&gt;",
        "<title>hulld: 1 pods, 2 containers</title>",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("<fails>"), "names are escaped");
    assert!(ask(&socket, "POST /").0.contains("405"));
    assert!(ask(&socket, "GET /nothing").0.contains("404"));
    assert!(ask(&socket, "GET /metrics").1.contains("hull_pods"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_and_network_as_they_are() {
    let daemon = Daemon::start(Options::default()).await;
    let mut config = pod("one");
    config.port_mappings = vec![cri_api::v1::PortMapping {
        container_port: 80,
        host_port: 8088,
        ..Default::default()
    }];
    let one = daemon.run_pod(config).await;
    let script = "head -c 300000 /dev/zero > /file; echo written; sleep 3600";
    let writer = container("writer", &["/bin/sh", "-c", script]);
    let writer = daemon.run(&one, writer).await;
    until("the file is there", async || {
        daemon.container_log("writer").contains("written")
    })
    .await;
    let network = || daemon.page()["network"][0].clone();
    until("what was written is on the page", async || {
        daemon.page()["disk"]["containers"][0]["bytes"].as_u64() >= Some(300_000)
    })
    .await;
    let page = daemon.page();
    assert_eq!(page["disk"]["containers"][0]["id"], writer, "{page:#}");
    let image = &page["disk"]["images"][0];
    assert!(image["exclusive"].as_u64() > Some(100_000), "{page:#}");
    assert_eq!(image["containers"], 1, "{page:#}");
    let is = network();
    assert_eq!(is["pod"], "test/one", "{is:#}");
    assert_eq!(is["ports"], serde_json::json!(["8088/tcp"]), "{is:#}");
    assert_eq!(is["addresses"][0], page["pods"][0]["ips"][0], "{page:#}");
    assert_eq!(is["differs"], "", "{is:#}");
    assert_eq!(page["slow"], "", "{page:#}");

    let link = is["links"][0].as_str().unwrap();
    assert_eq!(daemon.in_network(&["ip", "link", "del", link]).0, 0);
    until("the page says so", async || {
        network()["differs"].as_str().unwrap().contains("is gone")
    })
    .await;
    daemon.remove_pod(&one).await;
    until("nothing is held", async || {
        daemon.page()["network"].as_array().unwrap().is_empty()
    })
    .await;
}
