//! The status page as a browser lays it out: on a phone, at 80 columns, on a wide screen, in the
//! light and in the dark.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use cri_suite::{Daemon, Options, container, pod, sleeper, until};

/// Runs in the page: what is wider than the window, how much ink and paper differ, and what a
/// voice would miss.
const LOOK: &str = r#"<script>addEventListener("load", () => {
  const rgb = text => text.match(/[\d.]+/g).slice(0, 3).map(Number);
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b };
  const paper = rgb(getComputedStyle(document.body).backgroundColor);
  const ratio = e => { const [a, b] = [light(rgb(getComputedStyle(e).color)), light(paper)].sort((x, y) => y - x);
    return (a + .05) / (b + .05) };
  const least = Math.min(...[...document.querySelectorAll("body, dt, th, td, .bad, .good, .soft, a")].map(ratio));
  const mute = document.querySelectorAll("th:not([scope]), html:not([lang]), img:not([alt])").length;
  const { scrollWidth, clientWidth } = document.documentElement;
  parent.postMessage(["LOOK", innerWidth, scrollWidth > clientWidth ? "too wide" : "fits", light(paper) > .5 ? "light" : "dark",
    least >= 4.5 ? "readable" : "faint " + least, mute, document.querySelectorAll("main h2").length > 5,
    document.querySelectorAll("h1").length].join(" "), "*") });</script>"#;

fn chromium(daemon: &Daemon, words: &[&str]) -> String {
    let profile = daemon.dir.join("browser");
    let out = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{}", daemon.token))
        .args(["chromium", "--headless", "--no-sandbox", "--disable-gpu"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(words)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The page in a frame of that width: what [`LOOK`] finds.
fn look(daemon: &Daemon, frame: &Path, width: u32, scheme: &str) -> String {
    let text = format!(
        "<!doctype html><body><iframe src=\"page.html\" style=\"width:{width}px;height:800px;border:0\"></iframe>\
         <p id=found></p><script>addEventListener(\"message\", e => found.textContent = e.data)</script>"
    );
    fs::write(frame, text).unwrap();
    let url = format!("file://{}", frame.display());
    let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
    let dom = chromium(
        daemon,
        &[&scheme, "--virtual-time-budget=3000", "--dump-dom", &url],
    );
    let found = dom.split("<p id=\"found\">").nth(1).unwrap_or_default();
    found.split("</p>").next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readable_on_every_screen() {
    let config = "[status]\nlisten = \"127.0.0.1:18999\"\n".to_owned();
    let daemon = Daemon::start(Options {
        config,
        ..Options::default()
    })
    .await;
    let long = "a-name-that-is-as-long-as-a-person-would-hardly-ever-make-it-themselves";
    let mut config = pod(long);
    config.hostname = "short".to_owned();
    let one = daemon.run_pod(config).await;
    daemon.run(&one, sleeper("runs")).await;
    let fails = container("fails", &["/bin/sh", "-c", "exit 3"]);
    let fails = daemon.run(&one, fails).await;
    daemon.ended(&fails).await;
    until("the failure is on the page", async || {
        daemon.page()["scoreboard"] == "Rrf"
    })
    .await;

    // As a browser gets it: nothing of it is kept from being shown by its own policy.
    let picture = daemon.dir.join("page.png");
    let shot = format!("--screenshot={}", picture.display());
    let dom = chromium(
        &daemon,
        &[
            &shot,
            "--window-size=800,900",
            "--dump-dom",
            "http://127.0.0.1:18999/",
        ],
    );
    assert!(dom.contains("Scoreboard") && dom.contains("Rrf"), "{dom}");
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    let page = daemon.dir.join("page.html");
    let (head, body) = dom.split_once("</head>").unwrap();
    fs::write(&page, format!("<!doctype html>{head}{LOOK}</head>{body}")).unwrap();
    let frame = daemon.dir.join("frame.html");
    // A phone, 80 columns of 8 points, a wide screen.
    for width in [360, 640, 1280] {
        for (scheme, name) in [("0", "dark"), ("1", "light")] {
            let found = look(&daemon, &frame, width, scheme);
            let wanted = format!("LOOK {width} fits {name} readable 0 true 1");
            assert_eq!(found, wanted, "at {width}, {name}");
        }
    }
}
