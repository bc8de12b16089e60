//! The measurements.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cri_api::v1;
use cri_suite::Daemon;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::client::Client;
use crate::memory;
use crate::runtime::Runtime;
use crate::stats::Samples;

/// Samples of each figure by its name.
pub type Figures = BTreeMap<&'static str, Samples>;

/// How many requests are under way at once.
const AT_ONCE: usize = 8;

fn note(figures: &mut Figures, name: &'static str, value: f64) {
    figures.entry(name).or_default().push(value);
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// A pod's life, step by step.
pub async fn life(client: &mut Client, name: &str, figures: &mut Figures) -> Result<()> {
    let began = Instant::now();
    let pod = client.run_pod(name).await?;
    note(figures, "RunPodSandbox ms", ms(began));
    let began = Instant::now();
    let container = client.run(&pod, name, "c").await?;
    note(figures, "Create+Start ms", ms(began));
    let began = Instant::now();
    client.probe(&container).await?;
    note(figures, "ExecSync true ms", ms(began));
    let began = Instant::now();
    client.remove(&container).await?;
    note(figures, "Stop+Remove container ms", ms(began));
    let began = Instant::now();
    client.remove_pod(&pod).await?;
    note(figures, "Stop+Remove pod ms", ms(began));
    Ok(())
}

/// Makes pods with a container each, several at once; their ids with those of the containers.
pub async fn many(client: &Client, prefix: &str, count: usize) -> Result<Vec<(String, String)>> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let (mut client, permits) = (client.clone(), Arc::clone(&permits));
        let name = format!("{prefix}{n}");
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await?;
            let pod = client.run_pod(&name).await?;
            let container = client.run(&pod, &name, "c").await?;
            anyhow::Ok((pod, container))
        });
    }
    let mut made = Vec::new();
    while let Some(done) = tasks.join_next().await {
        made.push(done??);
    }
    Ok(made)
}

/// Removes pods, several at once.
pub async fn remove(client: &Client, pods: Vec<String>) -> Result<()> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for pod in pods {
        let (mut client, permits) = (client.clone(), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await?;
            client.remove_pod(&pod).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // hundreds
fn per_second(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// Pods a second, up and down.
pub async fn throughput(client: &Client, count: usize, figures: &mut Figures) -> Result<()> {
    let began = Instant::now();
    let made = many(client, "burst", count).await?;
    note(figures, "pods up /s", per_second(count, began));
    let began = Instant::now();
    remove(client, made.into_iter().map(|(pod, _)| pod).collect()).await?;
    note(figures, "pods down /s", per_second(count, began));
    Ok(())
}

/// A hundred probes a second, or as many as it can.
pub async fn probes(
    runtime: &Runtime,
    client: &Client,
    time: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let made = many(client, "probed", AT_ONCE).await?;
    let permits = Arc::new(Semaphore::new(2 * AT_ONCE));
    let mut tasks = JoinSet::new();
    let before = runtime.cpu_ms()?;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut asked = 0;
    while began.elapsed() < time {
        ticks.tick().await;
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let mut client = client.clone();
        let (_, container) = made.get(asked % made.len()).context("no container")?;
        let container = container.clone();
        asked += 1;
        tasks.spawn(async move {
            let done = client.probe(&container).await;
            drop(permit);
            done
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let rate = per_second(asked, began);
    let used = runtime.cpu_ms()? - before;
    note(figures, "exec probes /s (of 100)", rate);
    #[allow(clippy::cast_precision_loss)] // thousands
    note(figures, "cpu of 100 probes ms", used / asked as f64 * 100.0);
    remove(client, made.into_iter().map(|(pod, _)| pod).collect()).await
}

/// Where a runtime's memory is: the daemon, and what stands beside each pod.
pub async fn memory(
    runtime: &Runtime,
    client: &mut Client,
    keepers: &dyn Fn() -> Result<f64>,
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    let settle = || tokio::time::sleep(Duration::from_secs(3));
    let lone = client.run_pod("lone").await?;
    settle().await;
    let alone = keepers()?;
    note(figures, "a lone pod's keeper PSS MB", alone);
    client.run(&lone, "lone", "a").await?;
    client.run(&lone, "lone", "b").await?;
    client.run(&lone, "lone", "c").await?;
    settle().await;
    note(
        figures,
        "a further container PSS MB",
        (keepers()? - alone) / 3.0,
    );
    client.remove_pod(&lone).await?;
    let made = many(client, "kept", count).await?;
    settle().await;
    #[allow(clippy::cast_precision_loss)] // hundreds
    let pods = count as f64;
    note(
        figures,
        "daemon RSS MB, 100 containers",
        memory::rss(runtime.pid)?,
    );
    note(
        figures,
        "keeper PSS MB of 100 pods, each",
        keepers()? / pods,
    );
    remove(client, made.into_iter().map(|(pod, _)| pod).collect()).await
}

/// Lists of a thousand containers.
pub async fn lists(client: &mut Client, figures: &mut Figures) -> Result<()> {
    const PODS: usize = 50;
    let made = many(client, "listed", PODS).await?;
    let mut tasks = JoinSet::new();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    for (number, (pod, _)) in made.iter().enumerate() {
        let (mut client, permits, pod) = (client.clone(), Arc::clone(&permits), pod.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await?;
            for more in 1..1000 / PODS {
                client
                    .run(&pod, &format!("listed{number}"), &format!("c{more}"))
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    for _ in 0..20 {
        list(client, figures).await?;
    }
    remove(client, made.into_iter().map(|(pod, _)| pod).collect()).await
}

async fn list(client: &mut Client, figures: &mut Figures) -> Result<()> {
    let began = Instant::now();
    let all = client
        .rpc()
        .list_containers(v1::ListContainersRequest::default())
        .await?;
    note(figures, "ListContainers ms", ms(began));
    let found = all.into_inner().containers.len();
    anyhow::ensure!(found == 1000, "ListContainers: {found} of 1000");
    let began = Instant::now();
    client
        .rpc()
        .list_pod_sandbox(v1::ListPodSandboxRequest::default())
        .await?;
    note(figures, "ListPodSandbox ms", ms(began));
    let began = Instant::now();
    client
        .rpc()
        .list_container_stats(v1::ListContainerStatsRequest::default())
        .await?;
    note(figures, "ListContainerStats ms", ms(began));
    let began = Instant::now();
    client
        .rpc()
        .list_pod_sandbox_stats(v1::ListPodSandboxStatsRequest::default())
        .await?;
    note(figures, "ListPodSandboxStats ms", ms(began));
    Ok(())
}

/// What stands beside the pods of either runtime.
pub fn keepers(runtime: &Runtime, stage: &Daemon) -> Result<f64> {
    match runtime.name {
        "hulld" => memory::keepers("supervise", &stage.dir, &["/pause"]),
        _ => memory::keepers("containerd-shim", &stage.dir, &["/bin/sleep 3600"]),
    }
}
