//! `runp`, `create`, `run`: from configuration files to pods and containers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;

use super::args::{duration, flag, option, text, texts, time};
use super::client::Cri;
use super::output::{document, line};
use super::{files, images, lifecycle, message};

const FILES: &str = "Files are JSON or YAML; field names as in the CRI (log_path) or in protobuf's \
                     JSON (logPath). `jsonschema` prints what may be in them.";

/// The definitions.
pub fn commands() -> Vec<Command> {
    let runp = Command::new("runp")
        .about("Run a pod")
        .arg(
            Arg::new("files")
                .value_name("POD.json|yaml")
                .num_args(0..=1),
        )
        .args(runtime())
        .subcommand(schema_command(false))
        .after_help(format!("{FILES}\n\nExample:\n  hullctl runp pod.json"));
    let create = Command::new("create")
        .about("Create a container in a pod")
        .arg(
            Arg::new("files")
                .value_names(["POD", "CONTAINER.json|yaml", "POD.json|yaml"])
                .num_args(0..=3),
        )
        .arg(cancel())
        .args(pull())
        .args(images::credentials())
        .subcommand(schema_command(true))
        .after_help(format!(
            "{FILES}\n\nExample:\n  hullctl create $POD container.json pod.json"
        ));
    vec![runp, create]
}

/// crictl's `run`.
pub fn run_command() -> Command {
    Command::new("run")
        .about("Run a container in a pod of its own")
        .arg(
            Arg::new("files")
                .value_names(["CONTAINER.json|yaml", "POD.json|yaml"])
                .num_args(0..=2),
        )
        .args(runtime())
        .args(pull())
        .args(images::credentials())
        .subcommand(schema_command(true))
        .after_help(format!(
            "{FILES}\n\nExample:\n  hullctl run container.yaml pod.yaml"
        ))
}

fn cancel() -> Arg {
    duration("cancel-timeout", "Give up after this").short('T')
}

fn runtime() -> [Arg; 2] {
    let runtime = option("runtime", "HANDLER", "Runtime handler").short('r');
    [runtime, cancel()]
}

fn pull() -> [Arg; 2] {
    [
        flag("no-pull", "Take the image that is there").conflicts_with("with-pull"),
        flag("with-pull", "Pull the image first"),
    ]
}

fn schema_command(both: bool) -> Command {
    let command = Command::new("jsonschema")
        .visible_alias("js")
        .about("Print the JSON schema of the files");
    match both {
        false => command,
        true => command
            .arg_required_else_help(true)
            .arg(flag("pod", "Of the pod's file").short('p'))
            .arg(flag("container", "Of the container's file").short('c')),
    }
}

/// Prints a schema if that is what a command is asked for.
pub fn schema(name: &str, m: &ArgMatches) -> Option<Result<()>> {
    let ("jsonschema", m) = m.subcommand()? else {
        return None;
    };
    let both = matches!(name, "create" | "run");
    let wants = |name: &str| both && m.get_flag(name);
    let print = |name: &str| document(&message::json_schema(name), "json", None);
    let pod = match !both || wants("pod") {
        true => print("PodSandboxConfig"),
        false => Ok(()),
    };
    Some(pod.and_then(|()| match wants("container") {
        true => print("ContainerConfig"),
        false => Ok(()),
    }))
}

fn paths<const N: usize>(m: &ArgMatches, what: &str) -> Result<[PathBuf; N]> {
    let paths: Vec<PathBuf> = texts(m, "files").into_iter().map(PathBuf::from).collect();
    match paths.try_into() {
        Ok(paths) => Ok(paths),
        Err(_) => bail!("{what} needed; see --help"),
    }
}

/// `runp`.
pub async fn pod(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let [file] = paths(m, "a pod's file is")?;
    let id = run_pod(cri, m, files::pod(&file)?).await?;
    line(&id)
}

async fn run_pod(cri: &Cri, m: &ArgMatches, config: v1::PodSandboxConfig) -> Result<String> {
    let request = v1::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: text(m, "runtime").unwrap_or_default(),
    };
    let call = || {
        let (mut client, request) = (cri.runtime(), request.clone());
        async move { client.run_pod_sandbox(request).await }
    };
    let limit = time(m, "cancel-timeout");
    let answer = cri.within(limit, "run the pod", call).await?;
    Ok(answer.pod_sandbox_id)
}

/// `create`.
pub async fn container(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let [pod, container, config] = paths(m, "a pod's id and the two files are")?;
    let pull = m.get_flag("with-pull") || (cri.settings.pull_on_create && !m.get_flag("no-pull"));
    let pod = pod.to_string_lossy().into_owned();
    let new = New {
        pod,
        container: files::container(&container)?,
        config: files::pod(&config)?,
        pull,
        limit: time(m, "cancel-timeout"),
    };
    let id = make(cri, m, new).await?;
    line(&id)
}

/// A container to be.
struct New {
    pod: String,
    container: v1::ContainerConfig,
    config: v1::PodSandboxConfig,
    pull: bool,
    limit: Option<Duration>,
}

async fn make(cri: &Cri, m: &ArgMatches, new: New) -> Result<String> {
    if new.pull {
        let volumes = new
            .container
            .mounts
            .iter()
            .filter_map(|mount| mount.image.as_ref());
        for image in new.container.image.iter().chain(volumes) {
            images::pull_one(cri, m, image, Some(&new.config)).await?;
        }
    }
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: new.pod,
        config: Some(new.container),
        sandbox_config: Some(new.config),
    };
    let call = || {
        let (mut client, request) = (cri.runtime(), request.clone());
        async move { client.create_container(request).await }
    };
    let answer = cri.within(new.limit, "create the container", call).await?;
    Ok(answer.container_id)
}

/// `run`.
pub async fn run(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let [container, pod] = paths(m, "the container's and the pod's file are")?;
    let (container, config) = (files::container(&container)?, files::pod(&pod)?);
    let pull = m.get_flag("with-pull") || !(cri.settings.no_pull_on_run || m.get_flag("no-pull"));
    let new = New {
        pod: run_pod(cri, m, config.clone()).await?,
        container,
        config,
        pull,
        limit: time(m, "cancel-timeout"),
    };
    let id = make(cri, m, new).await?;
    lifecycle::start_one(cri, &id).await?;
    line(&id)
}
