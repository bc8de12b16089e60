//! The status page, over its socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

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
    let options = Options {
        config: "[status]\nlisten = \"127.0.0.1:18999\"\n".to_owned(),
        ..Options::default()
    };
    let daemon = Daemon::start(options).await;
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
    in_a_browser(&daemon);
}

/// The page as a browser lays it out, narrow and wide: nothing is wider than the window.
fn in_a_browser(daemon: &Daemon) {
    let path = std::env::var_os("PATH").unwrap();
    if !std::env::split_paths(&path).any(|dir| dir.join("chromium").exists()) {
        eprintln!("without chromium: the page is not looked at in a browser");
        return;
    }
    for width in [360, 1280] {
        let picture = daemon.dir.join(format!("page-{width}.png"));
        let profile = daemon.dir.join("browser");
        let out = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", daemon.token))
            .args([
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("--screenshot={}", picture.display()))
            .arg(format!("--window-size={width},900"))
            .arg("--dump-dom")
            .arg("http://127.0.0.1:18999/")
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&out.stdout);
        assert!(dom.contains("Scoreboard") && dom.contains("Rrf"), "{out:?}");
    }
}
