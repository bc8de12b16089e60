//! `inspect`, `inspectp`, `inspecti`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::{ArgMatches, Command};
use cri_api::v1;
use serde_json::{Map, Value};

use super::args::{
    self, container_filters, flag, ids, number, option, options, output, text, texts,
};
use super::client::Cri;
use super::output::{ago, document, human_size, info, pairs, print, rfc3339};
use super::{images, lifecycle, list, message};

const FORMATS: &[&str] = &["json", "yaml", "go-template", "table"];

/// The definitions.
pub fn commands() -> Vec<Command> {
    let forms = || {
        [
            output(FORMATS).default_value("json"),
            args::template(),
            flag("quiet", "Without what the runtime adds").short('q'),
        ]
    };
    let example = "Examples:\n  hullctl inspect abc\n  \
                   hullctl inspect -o go-template --template '{{.status.state}}' abc";
    vec![
        Command::new("inspect")
            .about("Show containers")
            .arg(ids("CONTAINER", false))
            .args(container_filters())
            .args(forms())
            .arg(flag("all", "Not only running ones").short('a'))
            .after_help(example),
        Command::new("inspectp")
            .about("Show pods")
            .arg(ids("POD", false))
            .args(forms())
            .arg(option("name", "REGEX", "Only names that match"))
            .arg(option("namespace", "REGEX", "Only namespaces that match"))
            .arg(option("state", "STATE", "Only ready or notready ones").short('s'))
            .arg(options("label", "KEY=VALUE", "Only with this label"))
            .arg(flag("latest", "Only the newest").short('l'))
            .arg(number("last", "Only the N newest; 0 is all").short('n')),
        Command::new("inspecti")
            .about("Show images")
            .arg(ids("IMAGE", false))
            .args(forms())
            .arg(option("name", "IMAGE", "Only this one"))
            .arg(images::filter()),
    ]
}

/// One thing's status and what the runtime adds, in both forms.
struct Shown {
    json: Value,
    table: String,
}

impl Shown {
    fn new(
        status: Value,
        added: &BTreeMap<String, String>,
        mut table: String,
        quiet: bool,
    ) -> Self {
        let mut json = Map::new();
        json.insert("status".to_owned(), status);
        json.extend(info(added));
        if !quiet {
            table.push_str(&pairs("Info", added));
        }
        Shown {
            json: Value::Object(json),
            table,
        }
    }
}

/// One alone as it is, many as a list.
fn show(mut shown: Vec<Shown>, m: &ArgMatches) -> Result<()> {
    let format = text(m, "output").unwrap_or_default();
    if format == "table" {
        return print(
            &shown
                .iter()
                .map(|s| format!("{}\n", s.table))
                .collect::<String>(),
        );
    }
    let value = match shown.len() {
        0 => bail!("nothing is named, and nothing found"),
        1 => shown.remove(0).json,
        _ => shown.into_iter().map(|s| s.json).collect(),
    };
    document(&value, &format, text(m, "template").as_deref())
}

/// Sets a time as people read it; 0 is the time before all.
fn set_time(json: &mut Value, name: &str, nanos: i64) {
    let text = match nanos {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        nanos => rfc3339(nanos),
    };
    json[name] = text.into();
}

/// `inspect`.
pub async fn containers(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let mut ids = texts(m, "ids");
    if ids.is_empty() {
        let chosen = list::chosen_containers(cri, m, m.get_flag("all")).await?;
        ids = chosen.into_iter().map(|c| c.id).collect();
    }
    let quiet = m.get_flag("quiet");
    let mut shown = Vec::new();
    for id in ids {
        let answer = lifecycle::status(cri, &id, !quiet).await?;
        let status = answer.status.unwrap_or_default();
        let mut json = message::to_json("ContainerStatus", &status)?;
        set_time(&mut json, "createdAt", status.created_at);
        set_time(&mut json, "startedAt", status.started_at);
        set_time(&mut json, "finishedAt", status.finished_at);
        shown.push(Shown::new(
            json,
            &answer.info,
            container_table(&status),
            quiet,
        ));
    }
    show(shown, m)
}

fn container_table(status: &v1::ContainerStatus) -> String {
    let metadata = status.metadata.clone().unwrap_or_default();
    let mut out = format!("ID: {}\nName: {}\n", status.id, metadata.name);
    if metadata.attempt != 0 {
        out.push_str(&format!("Attempt: {}\n", metadata.attempt));
    }
    out.push_str(&format!(
        "State: {}\nCreated: {}\n",
        list::state_word(status.state()),
        ago(status.created_at)
    ));
    if status.started_at > 0 {
        out.push_str(&format!("Started: {}\n", ago(status.started_at)));
    }
    if status.state() == v1::ContainerState::ContainerExited {
        if status.finished_at > 0 {
            out.push_str(&format!("Finished: {}\n", ago(status.finished_at)));
        }
        out.push_str(&format!("Exit Code: {}\n", status.exit_code));
    }
    for (name, text) in [("Reason", &status.reason), ("Message", &status.message)] {
        if !text.is_empty() {
            out.push_str(&format!("{name}: {text}\n"));
        }
    }
    out.push_str(&pairs("Labels", &status.labels));
    out.push_str(&pairs("Annotations", &status.annotations));
    out
}

/// `inspectp`.
pub async fn pods(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let mut ids = texts(m, "ids");
    if ids.is_empty() {
        let chosen = list::chosen_pods(cri, m).await?;
        ids = chosen.into_iter().map(|pod| pod.id).collect();
    }
    let quiet = m.get_flag("quiet");
    let mut shown = Vec::new();
    for id in ids {
        let request = v1::PodSandboxStatusRequest {
            pod_sandbox_id: id.clone(),
            verbose: !quiet,
        };
        let what = format!("status of pod {id}");
        let answer = look!(cri, &what, runtime.pod_sandbox_status(request))?;
        let status = answer.status.unwrap_or_default();
        let mut json = message::to_json("PodSandboxStatus", &status)?;
        set_time(&mut json, "createdAt", status.created_at);
        shown.push(Shown::new(json, &answer.info, pod_table(&status), quiet));
    }
    show(shown, m)
}

fn pod_table(status: &v1::PodSandboxStatus) -> String {
    let metadata = status.metadata.clone().unwrap_or_default();
    let mut out = format!(
        "ID: {}\nName: {}\nUID: {}\nNamespace: {}\nAttempt: {}\nStatus: {}\nCreated: {}\n",
        status.id,
        metadata.name,
        metadata.uid,
        metadata.namespace,
        metadata.attempt,
        status.state().as_str_name(),
        rfc3339(status.created_at),
    );
    if let Some(network) = &status.network {
        out.push_str(&format!("IP Addresses: {}\n", network.ip));
        for ip in &network.additional_ips {
            out.push_str(&format!("Additional IP: {}\n", ip.ip));
        }
    }
    out.push_str(&pairs("Labels", &status.labels));
    out.push_str(&pairs("Annotations", &status.annotations));
    out
}

/// `inspecti`.
pub async fn images(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let mut ids = texts(m, "ids");
    if ids.is_empty() {
        let chosen = images::chosen(cri, text(m, "name"), &texts(m, "filter")).await?;
        ids = chosen.into_iter().map(|image| image.id).collect();
    }
    let quiet = m.get_flag("quiet");
    let mut shown = Vec::new();
    for id in ids {
        let answer = images::status(cri, &id, !quiet).await?;
        let Some(image) = answer.image else {
            bail!("image {id}: it is not there; `pull` it");
        };
        let mut table = format!("ID: {}\n", image.id);
        for tag in &image.repo_tags {
            table.push_str(&format!("Tag: {tag}\n"));
        }
        for digest in &image.repo_digests {
            table.push_str(&format!("Digest: {digest}\n"));
        }
        table.push_str(&format!("Size: {}\n", human_size(image.size, 3)));
        let json = message::to_json("Image", &image)?;
        shown.push(Shown::new(json, &answer.info, table, quiet));
    }
    show(shown, m)
}
