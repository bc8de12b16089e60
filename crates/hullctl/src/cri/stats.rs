//! `stats` and `statsp`.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;

use super::args::{self, flag, number, option, options, output, text, texts};
use super::client::Cri;
use super::message;
use super::output::{Table, document, human_size, print, short};

/// How often `--watch` looks.
const POLL: Duration = Duration::from_millis(500);
const FORMATS: &[&str] = &["json", "yaml", "table", "wide"];

/// The definitions.
pub fn commands() -> Vec<Command> {
    let forms = || {
        [
            option("id", "ID", "Only this one"),
            options("label", "KEY=VALUE", "Only with this label"),
            output(FORMATS)
                .default_value("table")
                .help("Form of the output; wide adds pressure, processes and network"),
            number("seconds", "Over which CPU use is measured")
                .short('s')
                .default_value("1"),
            flag("watch", "Again and again").short('w'),
            Arg::new("one").value_name("ID").help("As --id"),
        ]
    };
    vec![
        Command::new("stats")
            .about("Show what containers use")
            .args(forms())
            .arg(flag("all", "Not only running ones").short('a'))
            .arg(option("pod", "ID", "Only containers of this pod").short('p'))
            .after_help("Examples:\n  hullctl stats\n  hullctl stats -w -o wide"),
        Command::new("statsp")
            .about("Show what pods use")
            .args(forms())
            .after_help("Examples:\n  hullctl statsp\n  hullctl statsp -o wide"),
    ]
}

fn id(m: &ArgMatches) -> String {
    text(m, "one").or_else(|| text(m, "id")).unwrap_or_default()
}

fn gap(m: &ArgMatches) -> Duration {
    let seconds = args::integer(m, "seconds").and_then(|n| u64::try_from(n).ok());
    Duration::from_secs(seconds.unwrap_or(1).max(1))
}

fn value(v: Option<&v1::UInt64Value>) -> u64 {
    v.map_or(0, |v| v.value)
}

/// Percent of one CPU between two looks, as (time, use) in nanoseconds.
fn percent(before: Option<&(i64, u64)>, after: (i64, u64)) -> String {
    let Some((then, used)) = before else {
        return "0.00".to_owned();
    };
    let (time, used) = (after.0 - then, after.1.saturating_sub(*used));
    if time <= 0 {
        return "0.00".to_owned();
    }
    // Exact enough for two digits.
    #[allow(clippy::cast_precision_loss)]
    let percent = used as f64 * 100.0 / time as f64;
    format!("{percent:.2}")
}

fn cpu(usage: Option<&v1::CpuUsage>) -> (i64, u64) {
    usage.map_or((0, 0), |c| {
        (c.timestamp, value(c.usage_core_nano_seconds.as_ref()))
    })
}

/// Share of the last ten seconds in which something waited.
fn pressure(psi: Option<&v1::PsiStats>) -> String {
    let some = psi.and_then(|p| p.some.as_ref());
    some.map_or_else(|| "-".to_owned(), |p| format!("{:.2}", p.avg10))
}

fn clear_screen() -> Result<()> {
    print("\x1b[H\x1b[2J")
}

async fn container_stats(cri: &Cri, m: &ArgMatches) -> Result<Vec<v1::ContainerStats>> {
    let request = v1::ListContainerStatsRequest {
        filter: Some(v1::ContainerStatsFilter {
            id: id(m),
            pod_sandbox_id: text(m, "pod").unwrap_or_default(),
            label_selector: args::labels(&texts(m, "label"))?,
        }),
    };
    let answer = look!(
        cri,
        "stats of containers",
        runtime.list_container_stats(request)
    )?;
    let mut stats = answer.stats;
    stats.sort_by(|a, b| container_id(a).cmp(container_id(b)));
    Ok(stats)
}

fn container_id(stats: &v1::ContainerStats) -> &str {
    stats.attributes.as_ref().map_or("", |a| a.id.as_str())
}

/// `stats`.
pub async fn containers(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let format = text(m, "output").unwrap_or_default();
    let watch = m.get_flag("watch");
    loop {
        let before = container_stats(cri, m).await?;
        if !matches!(format.as_str(), "table" | "wide") {
            let answer = v1::ListContainerStatsResponse { stats: before };
            document(
                &message::to_json("ListContainerStatsResponse", &answer)?,
                &format,
                None,
            )?;
        } else {
            let before: HashMap<String, (i64, u64)> = before
                .iter()
                .map(|s| (container_id(s).to_owned(), cpu(s.cpu.as_ref())))
                .collect();
            tokio::time::sleep(gap(m)).await;
            let after = container_stats(cri, m).await?;
            let running = running(cri, m).await?;
            if watch {
                clear_screen()?;
            }
            container_table(&before, &after, running.as_deref(), format == "wide").print()?;
        }
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Ids of running containers, unless all are wanted.
async fn running(cri: &Cri, m: &ArgMatches) -> Result<Option<Vec<String>>> {
    if m.get_flag("all") {
        return Ok(None);
    }
    let state = v1::ContainerState::ContainerRunning.into();
    let request = v1::ListContainersRequest {
        filter: Some(v1::ContainerFilter {
            state: Some(v1::ContainerStateValue { state }),
            ..v1::ContainerFilter::default()
        }),
    };
    let answer = look!(cri, "list containers", runtime.list_containers(request))?;
    Ok(Some(answer.containers.into_iter().map(|c| c.id).collect()))
}

fn container_table(
    before: &HashMap<String, (i64, u64)>,
    after: &[v1::ContainerStats],
    running: Option<&[String]>,
    wide: bool,
) -> Table {
    let mut head = vec![
        "CONTAINER",
        "NAME",
        "CPU %",
        "MEM",
        "DISK",
        "INODES",
        "SWAP",
    ];
    if wide {
        head.extend(["RSS", "CPU WAIT %", "MEM WAIT %", "IO WAIT %"]);
    }
    let mut table = Table::new(head);
    for stats in after {
        let id = container_id(stats);
        if running.is_some_and(|ids| !ids.iter().any(|running| running == id)) {
            continue;
        }
        let attributes = stats.attributes.clone().unwrap_or_default();
        let memory = stats.memory.unwrap_or_default();
        let layer = stats.writable_layer.clone().unwrap_or_default();
        let swap = stats.swap.unwrap_or_default();
        let size = |v: &Option<v1::UInt64Value>| human_size(value(v.as_ref()), 4);
        let mut row = vec![
            short(id),
            attributes.metadata.unwrap_or_default().name,
            percent(before.get(id), cpu(stats.cpu.as_ref())),
            size(&memory.working_set_bytes),
            size(&layer.used_bytes),
            value(layer.inodes_used.as_ref()).to_string(),
            size(&swap.swap_usage_bytes),
        ];
        if wide {
            row.extend([
                size(&memory.rss_bytes),
                pressure(stats.cpu.as_ref().and_then(|c| c.psi.as_ref())),
                pressure(memory.psi.as_ref()),
                pressure(stats.io.as_ref().and_then(|io| io.psi.as_ref())),
            ]);
        }
        table.row(row);
    }
    table
}

async fn pod_stats(cri: &Cri, m: &ArgMatches) -> Result<Vec<v1::PodSandboxStats>> {
    let request = v1::ListPodSandboxStatsRequest {
        filter: Some(v1::PodSandboxStatsFilter {
            id: id(m),
            label_selector: args::labels(&texts(m, "label"))?,
        }),
    };
    let answer = look!(
        cri,
        "stats of pods",
        runtime.list_pod_sandbox_stats(request)
    )?;
    let mut stats = answer.stats;
    stats.sort_by(|a, b| pod_id(a).cmp(pod_id(b)));
    Ok(stats)
}

fn pod_id(stats: &v1::PodSandboxStats) -> &str {
    stats.attributes.as_ref().map_or("", |a| a.id.as_str())
}

fn pod_cpu(stats: &v1::PodSandboxStats) -> (i64, u64) {
    cpu(stats.linux.as_ref().and_then(|l| l.cpu.as_ref()))
}

/// `statsp`.
pub async fn pods(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let format = text(m, "output").unwrap_or_default();
    let watch = m.get_flag("watch");
    loop {
        let before = pod_stats(cri, m).await?;
        if !matches!(format.as_str(), "table" | "wide") {
            let answer = v1::ListPodSandboxStatsResponse { stats: before };
            document(
                &message::to_json("ListPodSandboxStatsResponse", &answer)?,
                &format,
                None,
            )?;
        } else {
            let before: HashMap<String, (i64, u64)> = before
                .iter()
                .map(|s| (pod_id(s).to_owned(), pod_cpu(s)))
                .collect();
            tokio::time::sleep(gap(m)).await;
            let after = pod_stats(cri, m).await?;
            if watch {
                clear_screen()?;
            }
            pod_table(&before, &after, format == "wide").print()?;
        }
        if !watch {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn pod_table(
    before: &HashMap<String, (i64, u64)>,
    after: &[v1::PodSandboxStats],
    wide: bool,
) -> Table {
    let mut head = vec!["POD", "POD ID", "CPU %", "MEM"];
    if wide {
        head.extend([
            "PIDS",
            "NET RX",
            "NET TX",
            "CPU WAIT %",
            "MEM WAIT %",
            "IO WAIT %",
        ]);
    }
    let mut table = Table::new(head);
    for stats in after {
        let attributes = stats.attributes.clone().unwrap_or_default();
        let linux = stats.linux.clone().unwrap_or_default();
        let memory = linux.memory.unwrap_or_default();
        let mut row = vec![
            attributes.metadata.unwrap_or_default().name,
            short(&attributes.id),
            percent(before.get(&attributes.id), pod_cpu(stats)),
            human_size(value(memory.working_set_bytes.as_ref()), 4),
        ];
        if wide {
            let network = linux.network.unwrap_or_default();
            let network = network.default_interface.unwrap_or_default();
            let processes = linux.process.unwrap_or_default().process_count;
            row.extend([
                value(processes.as_ref()).to_string(),
                human_size(value(network.rx_bytes.as_ref()), 4),
                human_size(value(network.tx_bytes.as_ref()), 4),
                pressure(linux.cpu.as_ref().and_then(|c| c.psi.as_ref())),
                pressure(memory.psi.as_ref()),
                pressure(linux.io.as_ref().and_then(|io| io.psi.as_ref())),
            ]);
        }
        table.row(row);
    }
    table
}
