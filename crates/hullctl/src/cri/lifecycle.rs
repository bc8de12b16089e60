//! `start`, `stop`, `rm`, `stopp`, `rmp`, `update`, `checkpoint`, `wait`.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;

use super::args::{flag, ids, integer, number, option, text, texts};
use super::client::Cri;
use super::output::line;

/// How often `wait` asks.
const POLL: Duration = Duration::from_millis(200);

/// The definitions.
pub fn commands() -> Vec<Command> {
    let all = |help| flag("all", help).short('a').conflicts_with("ids");
    let containers = || ids("CONTAINER", true);
    vec![
        Command::new("start")
            .about("Start containers")
            .arg(containers()),
        Command::new("stop")
            .about("Stop containers")
            .arg(ids("CONTAINER", false))
            .arg(number("timeout", "Seconds until it is killed").short('t'))
            .arg(all("All that run")),
        Command::new("rm")
            .about("Remove containers, and their logs")
            .arg(ids("CONTAINER", false))
            .arg(flag("force", "Also running ones").short('f'))
            .arg(flag("keep-logs", "Leave the log files").short('k'))
            .arg(all("All of them")),
        Command::new("stopp")
            .about("Stop pods")
            .arg(ids("POD", true)),
        Command::new("rmp")
            .about("Remove pods")
            .arg(ids("POD", false))
            .arg(flag("force", "Also ready ones").short('f'))
            .arg(all("All of them")),
        Command::new("update")
            .about("Change limits of running containers")
            .arg(containers())
            .args(limits())
            .after_help("Example:\n  hullctl update --memory 268435456 --cpu-quota 50000 abc"),
        Command::new("checkpoint")
            .about("Write the state of running containers to an archive")
            .arg(containers())
            .arg(
                option("export", "FILE.tar", "The archive")
                    .short('e')
                    .required(true),
            ),
        Command::new("wait")
            .about("Wait for containers to end; print and return their exit codes")
            .arg(containers())
            .after_help("Example:\n  hullctl wait $(hullctl ps -ql)"),
    ]
}

fn limits() -> [Arg; 8] {
    [
        number("cpu-period", "Length of a CPU period, µs"),
        number("cpu-quota", "CPU time in a period, µs; -1 is all"),
        number("cpu-share", "Weight against others"),
        number("memory", "Bytes"),
        number("memory-swap", "Bytes of memory and swap"),
        number(
            "oom-score-adj",
            "Likelihood to be killed when memory runs out",
        ),
        option("cpuset-cpus", "LIST", "CPUs, as 0-3,7"),
        option("cpuset-mems", "LIST", "Memory nodes"),
    ]
}

/// Does something to each, goes on after errors, and tells them all.
async fn each<F>(ids: &[String], work: impl Fn(String) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let mut errors = Vec::new();
    for id in ids {
        if let Err(e) = work(id.clone()).await {
            errors.push(format!("{e:#}"));
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(errors.join("; "))),
    }
}

/// Starts a container.
pub async fn start_one(cri: &Cri, id: &str) -> Result<()> {
    let request = v1::StartContainerRequest {
        container_id: id.to_owned(),
    };
    let what = format!("start container {id}");
    act!(cri, &what, runtime.start_container(request))?;
    Ok(())
}

/// `start`.
pub async fn start(cri: &Cri, m: &ArgMatches) -> Result<()> {
    each(&texts(m, "ids"), |id| async move {
        start_one(cri, &id).await?;
        line(&id)
    })
    .await
}

async fn stop_one(cri: &Cri, id: &str, timeout: i64) -> Result<()> {
    let request = v1::StopContainerRequest {
        container_id: id.to_owned(),
        timeout,
    };
    let what = format!("stop container {id}");
    act!(cri, &what, runtime.stop_container(request))?;
    line(id)
}

async fn listed(cri: &Cri, only_running: bool) -> Result<Vec<String>> {
    let state = v1::ContainerStateValue {
        state: v1::ContainerState::ContainerRunning.into(),
    };
    let request = v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            state: only_running.then_some(state),
            ..v1::ContainerFilter::default()
        }),
    };
    let answer = look!(cri, "list containers", runtime.list_containers(request))?;
    Ok(answer.containers.into_iter().map(|c| c.id).collect())
}

/// The ids that were named, or all.
async fn named(
    m: &ArgMatches,
    all: impl Future<Output = Result<Vec<String>>>,
) -> Result<Vec<String>> {
    if m.get_flag("all") {
        return all.await;
    }
    let ids = texts(m, "ids");
    match ids.is_empty() {
        true => bail!("nothing is named; name ids, or --all"),
        false => Ok(ids),
    }
}

/// `stop`.
pub async fn stop(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let timeout = integer(m, "timeout").unwrap_or(0);
    let ids = named(m, listed(cri, true)).await?;
    each(&ids, |id| async move { stop_one(cri, &id, timeout).await }).await
}

/// A container's status.
pub async fn status(cri: &Cri, id: &str, verbose: bool) -> Result<v1::ContainerStatusResponse> {
    let request = v1::ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose,
    };
    let what = format!("status of container {id}");
    look!(cri, &what, runtime.container_status(request))
}

/// `rm`.
pub async fn remove(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let (force, keep) = (m.get_flag("force"), m.get_flag("keep-logs"));
    let ids = named(m, listed(cri, false)).await?;
    each(&ids, |id| async move {
        let status = status(cri, &id, false).await?.status.unwrap_or_default();
        if status.state() == v1::ContainerState::ContainerRunning {
            match force {
                true => stop_one(cri, &id, 0).await?,
                false => bail!("remove container {id}: it runs; stop it first, or use --force"),
            }
        }
        let request = v1::RemoveContainerRequest {
            container_id: id.clone(),
        };
        let what = format!("remove container {id}");
        act!(cri, &what, runtime.remove_container(request))?;
        line(&id)?;
        match keep || status.log_path.is_empty() {
            true => Ok(()),
            false => remove_logs(Path::new(&status.log_path)),
        }
    })
    .await
}

/// The log and what rotation has left beside it.
fn remove_logs(log: &Path) -> Result<()> {
    let mut files = vec![log.to_owned()];
    if let (Some(parent), Some(name)) = (log.parent(), log.file_name()) {
        let prefix = format!("{}.", name.to_string_lossy());
        // A directory that is gone has no logs.
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let rotated = entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
        files.extend(rotated.map(|e| e.path()));
    }
    let failed = |file: &PathBuf| match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Some(format!("remove {}: {e}", file.display()))
        }
        _ => None,
    };
    let errors: Vec<String> = files.iter().filter_map(failed).collect();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(errors.join("; "))),
    }
}

async fn stop_pod(cri: &Cri, id: &str) -> Result<()> {
    let request = v1::StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let what = format!("stop pod {id}");
    act!(cri, &what, runtime.stop_pod_sandbox(request))?;
    line(&format!("Stopped sandbox {id}"))
}

/// `stopp`.
pub async fn stop_pods(cri: &Cri, m: &ArgMatches) -> Result<()> {
    each(
        &texts(m, "ids"),
        |id| async move { stop_pod(cri, &id).await },
    )
    .await
}

/// `rmp`.
pub async fn remove_pods(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let all = async {
        let request = v1::ListPodSandboxRequest::default();
        let answer = look!(cri, "list pods", runtime.list_pod_sandbox(request))?;
        Ok(answer.items.into_iter().map(|pod| pod.id).collect())
    };
    let force = m.get_flag("force");
    let ids = named(m, all).await?;
    each(&ids, |id| async move {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.clone(),
            verbose: false,
        };
        let what = format!("status of pod {id}");
        let answer = look!(cri, &what, runtime.pod_sandbox_status(request))?;
        if answer.status.unwrap_or_default().state() == v1::PodSandboxState::SandboxReady {
            match force {
                true => stop_pod(cri, &id).await?,
                false => bail!("remove pod {id}: it is ready; stop it first, or use --force"),
            }
        }
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: id.clone(),
        };
        let what = format!("remove pod {id}");
        act!(cri, &what, runtime.remove_pod_sandbox(request))?;
        line(&format!("Removed sandbox {id}"))
    })
    .await
}

/// `update`.
pub async fn update(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let limit = |name: &str| integer(m, name).unwrap_or(0);
    let linux = v1::LinuxContainerResources {
        cpu_period: limit("cpu-period"),
        cpu_quota: limit("cpu-quota"),
        cpu_shares: limit("cpu-share"),
        memory_limit_in_bytes: limit("memory"),
        memory_swap_limit_in_bytes: limit("memory-swap"),
        oom_score_adj: limit("oom-score-adj"),
        cpuset_cpus: text(m, "cpuset-cpus").unwrap_or_default(),
        cpuset_mems: text(m, "cpuset-mems").unwrap_or_default(),
        ..v1::LinuxContainerResources::default()
    };
    each(&texts(m, "ids"), |id| {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(linux.clone()),
            ..v1::UpdateContainerResourcesRequest::default()
        };
        async move {
            let what = format!("update container {id}");
            act!(cri, &what, runtime.update_container_resources(request))?;
            line(&id)
        }
    })
    .await
}

/// `checkpoint`.
pub async fn checkpoint(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let location = text(m, "export").unwrap_or_default();
    let location =
        std::path::absolute(&location).with_context(|| format!("--export {location}"))?;
    let location = location.to_string_lossy().into_owned();
    each(&texts(m, "ids"), |id| {
        let request = v1::CheckpointContainerRequest {
            container_id: id.clone(),
            location: location.clone(),
            timeout: 0,
        };
        async move {
            let what = format!("checkpoint container {id}");
            act!(cri, &what, runtime.checkpoint_container(request))?;
            line(&id)
        }
    })
    .await
}

/// `wait`. The last exit code becomes the program's own.
pub async fn wait(cri: &Cri, m: &ArgMatches) -> Result<ExitCode> {
    let mut last = 0;
    for id in texts(m, "ids") {
        let status = loop {
            let status = status(cri, &id, false).await?.status.unwrap_or_default();
            if status.state() == v1::ContainerState::ContainerExited {
                break status;
            }
            tokio::time::sleep(POLL).await;
        };
        line(&status.exit_code.to_string())?;
        last = status.exit_code;
    }
    Ok(exit_code(last))
}

/// A container's exit code as the program's own.
pub fn exit_code(code: i32) -> ExitCode {
    match u8::try_from(code) {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::FAILURE,
    }
}
