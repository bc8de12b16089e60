//! `ps` and `pods`.

use anyhow::{Context, Result, bail};
use clap::{ArgMatches, Command};
use cri_api::v1;
use regex::Regex;

use super::args::{self, container_filters, flag, number, option, options, output, text, texts};
use super::client::Cri;
use super::output::{Table, ago, document, line, pairs, print, rfc3339, short};
use super::{images, message};

/// The labels by which the kubelet says whose a container is.
const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

const FORMATS: &[&str] = &["json", "yaml", "table"];

/// The definitions.
pub fn commands() -> Vec<Command> {
    let forms = || {
        [
            flag("quiet", "Only ids").short('q'),
            flag("verbose", "All that is known").short('v'),
            flag("no-trunc", "Whole ids"),
            output(FORMATS).default_value("table"),
            option("id", "ID", "Only this one"),
        ]
    };
    let ps = Command::new("ps")
        .about("List containers")
        .args(container_filters())
        .args(forms())
        .arg(flag("all", "Not only running ones").short('a'))
        .arg(flag("resolve-image-path", "Names of images instead of their ids").short('r'))
        .after_help("Examples:\n  hullctl ps -a\n  hullctl ps --name '^web' -q");
    let pods = Command::new("pods")
        .about("List pods")
        .args(forms())
        .arg(option("name", "REGEX", "Only names that match"))
        .arg(option("namespace", "REGEX", "Only namespaces that match"))
        .arg(option("state", "STATE", "Only ready or notready ones").short('s'))
        .arg(options("label", "KEY=VALUE", "Only with this label"))
        .arg(flag("latest", "Only the newest").short('l'))
        .arg(number("last", "Only the N newest; 0 is all").short('n'))
        .after_help("Examples:\n  hullctl pods\n  hullctl pods -s ready --namespace kube-system");
    vec![ps, pods]
}

fn regex(m: &ArgMatches, name: &str) -> Result<Option<Regex>> {
    let pattern = m.try_get_one::<String>(name).ok().flatten();
    pattern
        .map(|p| Regex::new(p).with_context(|| format!("--{name} {p}")))
        .transpose()
}

fn matches(regex: Option<&Regex>, text: &str) -> bool {
    regex.is_none_or(|r| r.is_match(text))
}

/// How many of the newest are wanted.
fn wanted(m: &ArgMatches, total: usize) -> usize {
    let latest = m.get_flag("latest").then_some(1);
    let last = args::integer(m, "last").and_then(|n| usize::try_from(n).ok());
    last.filter(|n| *n > 0).or(latest).unwrap_or(total)
}

/// Containers that the options choose, the newest first. `all` are those of every state.
pub async fn chosen_containers(cri: &Cri, m: &ArgMatches, all: bool) -> Result<Vec<v1::Container>> {
    let state = text(m, "state").map(|s| container_state(&s)).transpose()?;
    let every = all || m.get_flag("latest") || args::integer(m, "last").is_some();
    let state = state.or_else(|| (!every).then_some(v1::ContainerState::ContainerRunning));
    let id = m.try_get_one::<String>("id").ok().flatten().cloned();
    let filter = v1::ContainerFilter {
        id: id.unwrap_or_default(),
        state: state.map(|s| v1::ContainerStateValue { state: s.into() }),
        pod_sandbox_id: text(m, "pod").unwrap_or_default(),
        label_selector: args::labels(&texts(m, "label"))?,
    };
    let request = v1::ListContainersRequest {
        filter: Some(filter),
    };
    let answer = look!(cri, "list containers", runtime.list_containers(request))?;
    let (name, namespace) = (regex(m, "name")?, regex(m, "namespace")?);
    let image = match text(m, "image") {
        Some(image) => Some(images::id_of(cri, &image).await?.unwrap_or(image)),
        None => None,
    };
    let mut out = Vec::new();
    for container in answer.containers {
        if !matches(name.as_ref(), container_name(&container))
            || !matches(namespace.as_ref(), label(&container, POD_NAMESPACE))
        {
            continue;
        }
        if let Some(image) = &image
            && !uses(cri, &container, image).await?
        {
            continue;
        }
        out.push(container);
    }
    out.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    out.truncate(wanted(m, out.len()));
    Ok(out)
}

async fn uses(cri: &Cri, container: &v1::Container, image: &str) -> Result<bool> {
    let named = container.image.as_ref().map_or("", |i| i.image.as_str());
    if [named, &container.image_ref, &container.image_id].contains(&image) {
        return Ok(true);
    }
    Ok(images::id_of(cri, named).await?.as_deref() == Some(image))
}

fn container_state(text: &str) -> Result<v1::ContainerState> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "created" => v1::ContainerState::ContainerCreated,
        "running" => v1::ContainerState::ContainerRunning,
        "exited" => v1::ContainerState::ContainerExited,
        "unknown" => v1::ContainerState::ContainerUnknown,
        _ => bail!("--state {text}: there are created, running, exited and unknown"),
    })
}

fn container_name(container: &v1::Container) -> &str {
    container.metadata.as_ref().map_or("", |m| m.name.as_str())
}

fn label<'c>(container: &'c v1::Container, name: &str) -> &'c str {
    container.labels.get(name).map_or("", String::as_str)
}

/// A state as tables have it.
pub fn state_word(state: v1::ContainerState) -> &'static str {
    match state {
        v1::ContainerState::ContainerCreated => "Created",
        v1::ContainerState::ContainerRunning => "Running",
        v1::ContainerState::ContainerExited => "Exited",
        v1::ContainerState::ContainerUnknown => "Unknown",
    }
}

/// `ps`.
pub async fn containers(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let all = m.get_flag("all");
    let containers = chosen_containers(cri, m, all).await?;
    let format = text(m, "output").unwrap_or_default();
    if format != "table" {
        let answer = v1::ListContainersResponse { containers };
        return document(
            &message::to_json("ListContainersResponse", &answer)?,
            &format,
            None,
        );
    }
    if m.get_flag("quiet") {
        return print(
            &containers
                .iter()
                .map(|c| format!("{}\n", c.id))
                .collect::<String>(),
        );
    }
    if m.get_flag("verbose") {
        return print(&containers.iter().map(long_container).collect::<String>());
    }
    let mut table = Table::new([
        "CONTAINER",
        "IMAGE",
        "CREATED",
        "STATE",
        "NAME",
        "ATTEMPT",
        "POD ID",
        "POD",
        "NAMESPACE",
    ]);
    let cut = |id: &str| match m.get_flag("no-trunc") {
        true => id.to_owned(),
        false => short(id),
    };
    for container in &containers {
        let mut image = container
            .image
            .as_ref()
            .map_or("", |i| i.image.as_str())
            .to_owned();
        if m.get_flag("resolve-image-path") {
            image = images::name_of(cri, &image).await?.unwrap_or(image);
        } else if image.starts_with("sha256:") || is_bare_id(&image) {
            image = cut(&image);
        }
        let attempt = container.metadata.as_ref().map_or(0, |m| m.attempt);
        table.row(vec![
            cut(&container.id),
            image,
            ago(container.created_at),
            state_word(container.state()).to_owned(),
            container_name(container).to_owned(),
            attempt.to_string(),
            cut(&container.pod_sandbox_id),
            known(label(container, POD_NAME)),
            known(label(container, POD_NAMESPACE)),
        ]);
    }
    table.print()
}

/// What a pod without the kubelet's labels is called.
fn known(text: &str) -> String {
    match text {
        "" => "unknown".to_owned(),
        text => text.to_owned(),
    }
}

fn is_bare_id(image: &str) -> bool {
    image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit())
}

fn long_container(c: &v1::Container) -> String {
    let mut out = format!(
        "ID: {}\nPodID: {}\nNamespace: {}\n",
        c.id,
        c.pod_sandbox_id,
        known(label(c, POD_NAMESPACE))
    );
    if let Some(metadata) = &c.metadata {
        out.push_str(&format!(
            "Name: {}\nAttempt: {}\n",
            metadata.name, metadata.attempt
        ));
    }
    let image = c.image.as_ref().map_or("", |i| i.image.as_str());
    out.push_str(&format!(
        "State: {}\nImage: {image}\nCreated: {}\n",
        state_word(c.state()),
        ago(c.created_at)
    ));
    out.push_str(&pairs("Labels", &c.labels));
    out.push_str(&pairs("Annotations", &c.annotations));
    out.push('\n');
    out
}

/// Pods that the options choose, the newest first.
pub async fn chosen_pods(cri: &Cri, m: &ArgMatches) -> Result<Vec<v1::PodSandbox>> {
    let state = match text(m, "state").map(|s| s.to_ascii_lowercase()).as_deref() {
        None => None,
        Some("ready") => Some(v1::PodSandboxState::SandboxReady),
        Some("notready") => Some(v1::PodSandboxState::SandboxNotready),
        Some(other) => bail!("--state {other}: there are ready and notready"),
    };
    let id = m.try_get_one::<String>("id").ok().flatten().cloned();
    let filter = v1::PodSandboxFilter {
        id: id.unwrap_or_default(),
        state: state.map(|s| v1::PodSandboxStateValue { state: s.into() }),
        label_selector: args::labels(&texts(m, "label"))?,
    };
    let request = v1::ListPodSandboxRequest {
        filter: Some(filter),
    };
    let answer = look!(cri, "list pods", runtime.list_pod_sandbox(request))?;
    let (name, namespace) = (regex(m, "name")?, regex(m, "namespace")?);
    let mut pods = answer.items;
    pods.retain(|pod| {
        let metadata = pod.metadata.clone().unwrap_or_default();
        matches(name.as_ref(), &metadata.name) && matches(namespace.as_ref(), &metadata.namespace)
    });
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
    pods.truncate(wanted(m, pods.len()));
    Ok(pods)
}

fn pod_word(state: v1::PodSandboxState) -> &'static str {
    match state {
        v1::PodSandboxState::SandboxReady => "Ready",
        v1::PodSandboxState::SandboxNotready => "NotReady",
    }
}

/// `pods`.
pub async fn pods(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let pods = chosen_pods(cri, m).await?;
    let format = text(m, "output").unwrap_or_default();
    if format != "table" {
        let answer = v1::ListPodSandboxResponse { items: pods };
        return document(
            &message::to_json("ListPodSandboxResponse", &answer)?,
            &format,
            None,
        );
    }
    if m.get_flag("quiet") {
        return pods.iter().try_for_each(|pod| line(&pod.id));
    }
    if m.get_flag("verbose") {
        return print(&pods.iter().map(long_pod).collect::<String>());
    }
    let mut table = Table::new([
        "POD ID",
        "CREATED",
        "STATE",
        "NAME",
        "NAMESPACE",
        "ATTEMPT",
        "RUNTIME",
    ]);
    for pod in &pods {
        let metadata = pod.metadata.clone().unwrap_or_default();
        table.row(vec![
            match m.get_flag("no-trunc") {
                true => pod.id.clone(),
                false => short(&pod.id),
            },
            ago(pod.created_at),
            pod_word(pod.state()).to_owned(),
            metadata.name,
            metadata.namespace,
            metadata.attempt.to_string(),
            handler(pod).to_owned(),
        ]);
    }
    table.print()
}

fn handler(pod: &v1::PodSandbox) -> &str {
    match pod.runtime_handler.as_str() {
        "" => "(default)",
        handler => handler,
    }
}

fn long_pod(pod: &v1::PodSandbox) -> String {
    let metadata = pod.metadata.clone().unwrap_or_default();
    format!(
        "ID: {}\nName: {}\nUID: {}\nNamespace: {}\nAttempt: {}\nStatus: {}\nCreated: {}\n\
         {}{}Runtime: {}\n\n",
        pod.id,
        metadata.name,
        metadata.uid,
        metadata.namespace,
        metadata.attempt,
        pod_word(pod.state()),
        rfc3339(pod.created_at),
        pairs("Labels", &pod.labels),
        pairs("Annotations", &pod.annotations),
        handler(pod),
    )
}
