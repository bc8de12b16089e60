//! `info`, `version`, `config`, `runtime-config`, `update-runtime-config`, `completion`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;
use serde_json::{Map, Value, json};

use super::args::{self, flag, option, options, output, text, texts};
use super::client::Cri;
use super::message;
use super::output::{Table, document, info as added, line, print, yaml};
use super::settings::{File, KEYS, config_path, socket};

/// The definitions.
pub fn commands() -> Vec<Command> {
    let config = Command::new("config")
        .about("Show or change /etc/crictl.yaml")
        .arg(
            Arg::new("words")
                .value_names(["KEY", "VALUE"])
                .num_args(0..=2),
        )
        .arg(option("get", "KEY", "Print a value"))
        .arg(options("set", "KEY=VALUE", "Set a value").value_delimiter(','))
        .arg(flag("list", "Print all values").short('l'))
        .after_help(format!(
            "Keys: {}\n\nExample:\n  hullctl config --set runtime-endpoint=/run/hull/hulld.sock",
            KEYS.join(", ")
        ));
    vec![
        Command::new("info")
            .about("Show the runtime's state and configuration")
            .arg(output(&["json", "yaml", "go-template"]).default_value("json"))
            .arg(args::template())
            .arg(flag("quiet", "Without what the runtime adds").short('q')),
        Command::new("version").about("Show the runtime's version"),
        config,
        Command::new("runtime-config")
            .about("Show what the runtime wants of its clients")
            .arg(output(&["json", "yaml", "table"]).default_value("json")),
        Command::new("update-runtime-config")
            .about("Tell the runtime the pods' network")
            .arg(option("pod-cidr", "CIDR", "Addresses of pods").required(true)),
        Command::new("completion")
            .about("Print the completion script of a shell")
            .arg(
                Arg::new("shell")
                    .value_name("SHELL")
                    .default_value("bash")
                    .value_parser(["bash", "zsh", "fish"]),
            )
            .after_help("Example:\n  source <(hullctl completion bash)"),
    ]
}

/// `info`.
pub async fn info(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let quiet = m.get_flag("quiet");
    let request = v1::StatusRequest { verbose: !quiet };
    let answer = look!(cri, "status of the runtime", runtime.status(request))?;
    let mut shown = Map::new();
    let status = answer.status.unwrap_or_default();
    shown.insert(
        "status".to_owned(),
        message::to_json("RuntimeStatus", &status)?,
    );
    let handlers = answer.runtime_handlers.iter();
    shown.insert(
        "runtimeHandlers".to_owned(),
        handlers.map(handler).collect(),
    );
    if let Some(features) = &answer.features {
        shown.insert(
            "features".to_owned(),
            json!({
                "supplemental_groups_policy": features.supplemental_groups_policy,
                "user_namespaces_host_network": features.user_namespaces_host_network,
            }),
        );
    }
    shown.extend(added(&answer.info));
    let format = text(m, "output").unwrap_or_default();
    document(
        &Value::Object(shown),
        &format,
        text(m, "template").as_deref(),
    )
}

/// A handler as crictl has it: other than elsewhere, names are not in camel case here.
fn handler(handler: &v1::RuntimeHandler) -> Value {
    let features = handler.features.unwrap_or_default();
    json!({
        "name": handler.name,
        "features": {
            "recursive_read_only_mounts": features.recursive_read_only_mounts,
            "user_namespaces": features.user_namespaces,
        },
    })
}

/// `version`.
pub async fn version(cri: &Cri) -> Result<()> {
    let request = v1::VersionRequest {
        version: "v1".to_owned(),
    };
    let answer = look!(cri, "version of the runtime", runtime.version(request))?;
    print(&format!(
        "Version:  {}\nRuntimeName:  {}\nRuntimeVersion:  {}\nRuntimeApiVersion:  {}\n",
        answer.version, answer.runtime_name, answer.runtime_version, answer.runtime_api_version
    ))
}

/// `runtime-config`.
pub async fn runtime_config(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let request = v1::RuntimeConfigRequest::default();
    let answer = look!(
        cri,
        "configuration of the runtime",
        runtime.runtime_config(request)
    )?;
    let format = text(m, "output").unwrap_or_default();
    if format == "table" {
        let linux = answer.linux.unwrap_or_default();
        return line(&format!(
            "cgroup driver: {}",
            linux.cgroup_driver().as_str_name()
        ));
    }
    document(
        &message::to_json("RuntimeConfigResponse", &answer)?,
        &format,
        None,
    )
}

/// `update-runtime-config`.
pub async fn update_runtime_config(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let request = v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig {
            network_config: Some(v1::NetworkConfig {
                pod_cidr: text(m, "pod-cidr").unwrap_or_default(),
            }),
        }),
    };
    act!(
        cri,
        "update the runtime's configuration",
        runtime.update_runtime_config(request)
    )?;
    line("Runtime config successfully updated")
}

/// `config`.
pub fn config(outer: &ArgMatches, inner: Option<&ArgMatches>, m: &ArgMatches) -> Result<()> {
    let given = |m: &ArgMatches| m.try_get_one::<String>("config").ok().flatten().cloned();
    let named = inner.and_then(given).or_else(|| given(outer));
    let path = config_path(named.or_else(|| std::env::var("CRI_CONFIG_FILE").ok()));
    let mut file = File::read(&path)?;
    let words = texts(m, "words");
    let mut sets = texts(m, "set");
    if let [key, value] = words.as_slice() {
        sets.push(format!("{key}={value}"));
    }
    if !sets.is_empty() {
        for set in sets {
            let (key, value) = set.split_once('=').unwrap_or((&set, ""));
            file.0.insert(key.to_owned(), checked(key, value)?);
        }
        return write(&path, &file);
    }
    let get = text(m, "get").or_else(|| words.first().cloned());
    if let Some(key) = get {
        if !KEYS.contains(&key.as_str()) {
            bail!("config {key}: there are {}", KEYS.join(", "));
        }
        return line(&file.text(&key).unwrap_or_default());
    }
    let mut table = Table::new(["KEY", "VALUE"]);
    for key in KEYS {
        table.row(vec![(*key).to_owned(), file.text(key).unwrap_or_default()]);
    }
    table.print()
}

/// A value as it goes into the file.
fn checked(key: &str, value: &str) -> Result<Value> {
    let wrong = || format!("config {key}={value}");
    Ok(match key {
        "runtime-endpoint" | "image-endpoint" => {
            if !value.is_empty() {
                socket(value).with_context(wrong)?;
            }
            value.into()
        }
        "timeout" => {
            let time = args::parse_duration(value).with_context(wrong)?;
            match value.parse::<u64>() {
                Ok(seconds) => seconds.into(),
                Err(_) => time.as_secs().into(),
            }
        }
        "max-retries" => value.parse::<u64>().with_context(wrong)?.into(),
        "debug" | "pull-image-on-create" | "disable-pull-on-run" => {
            value.parse::<bool>().with_context(wrong)?.into()
        }
        _ => bail!("{}: there are {}", wrong(), KEYS.join(", ")),
    })
}

/// Writes beside, then renames: a reader sees the old file or the new one.
fn write(path: &Path, file: &File) -> Result<()> {
    let wrong = || format!("write {}", path.display());
    let mut beside = PathBuf::from(path);
    beside.as_mut_os_string().push(".new");
    std::fs::write(&beside, yaml(&Value::Object(file.0.clone()))?).with_context(wrong)?;
    std::fs::rename(&beside, path).with_context(wrong)
}

/// `completion`.
pub fn completion(m: &ArgMatches) -> Result<()> {
    let shell = match text(m, "shell").as_deref() {
        Some("zsh") => clap_complete::Shell::Zsh,
        Some("fish") => clap_complete::Shell::Fish,
        _ => clap_complete::Shell::Bash,
    };
    let is_crictl = super::is_crictl(std::env::args_os().next().as_ref());
    let (mut command, name) = match is_crictl {
        true => (super::crictl(), "crictl"),
        false => (crate::command(), "hullctl"),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script))
}
