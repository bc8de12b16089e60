//! hullctl and hulld on one store: each sees what the other has fetched, and neither takes away
//! what the other uses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

use cri_api::v1;
use cri_suite::{Daemon, IMAGE, Options, Registry, pod, programs_dir, sleeper, until};

/// `hullctl image WORDS` on the daemon's store, in its network.
fn hullctl(daemon: &Daemon, words: &[&str]) -> Output {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{}", daemon.token))
        .arg(programs_dir().join("hullctl"))
        .arg("image")
        .args(words)
        .env("HULL_STORE", daemon.dir.join("state"));
    command.env(
        "CONTAINERS_REGISTRIES_CONF",
        daemon.dir.join("registries.conf"),
    );
    command.output().unwrap()
}

fn shown(daemon: &Daemon, words: &[&str]) -> String {
    let out = hullctl(daemon, words);
    assert!(out.status.success(), "{words:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

/// One line that contains all of these.
fn refused(daemon: &Daemon, words: &[&str], parts: &[&str]) {
    let out = hullctl(daemon, words);
    assert!(!out.status.success(), "{words:?}: {out:?}");
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Whether the daemon lists an image of this name.
async fn listed(daemon: &Daemon, name: &str) -> bool {
    let request = v1::ListImagesRequest::default();
    let answer = daemon.images().list_images(request).await.unwrap();
    let mut images = answer.into_inner().images.into_iter();
    images.any(|image| image.repo_tags.iter().any(|tag| tag == name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_store_for_both() {
    let mut daemon = Daemon::start(Options::default()).await;
    let _registry = Registry::start(&daemon, &["theirs", "ours"]).await;
    let (theirs, ours) = ("127.0.0.1:5000/theirs:1", "127.0.0.1:5000/ours:1");
    let spec = v1::ImageSpec {
        image: theirs.to_owned(),
        ..Default::default()
    };
    let pull = v1::PullImageRequest {
        image: Some(spec),
        ..Default::default()
    };
    daemon.images().pull_image(pull).await.unwrap();
    let pod = daemon.run_pod(pod("user")).await;
    let id = daemon.run(&pod, sleeper("sleeper")).await;

    // What hulld has fetched is seen while it runs; what would change the store is its own.
    assert!(shown(&daemon, &["ls"]).contains("127.0.0.1:5000/theirs"));
    let pid = daemon.pid().to_string();
    let parts = ["keeps it while it runs", pid.as_str()];
    for words in [
        &["pull", "-q", ours][..],
        &["rm", theirs],
        &["gc"],
        &["tag", theirs, "x:1"],
    ] {
        refused(&daemon, words, &parts);
    }

    // While hulld is down its containers live on, and the store is anybody's.
    daemon.terminate();
    shown(&daemon, &["pull", "-q", "--tls-verify=false", ours]);
    refused(&daemon, &["rm", "--force", IMAGE, theirs], &["in use"]);
    shown(&daemon, &["gc"]);
    daemon.launch().await;
    assert!(listed(&daemon, ours).await);
    assert_eq!(
        daemon.exec(&id, &["echo", "alive"]).await,
        (0, "alive\n".to_owned())
    );
    daemon.remove_pod(&pod).await;
    let pod = daemon.run_pod(cri_suite::pod("again")).await;
    daemon.run(&pod, sleeper("again")).await;
    daemon.remove_pod(&pod).await;

    // And the other way round: what hullctl has removed is not listed.
    daemon.terminate();
    shown(&daemon, &["rm", ours]);
    daemon.launch().await;
    until("it is not listed", async || !listed(&daemon, ours).await).await;
    assert_eq!(daemon.leftovers(), Vec::<String>::new());
}
