//! `metricsp` and `metricdescs`.

use std::time::Duration;

use anyhow::Result;
use clap::{ArgMatches, Command};
use cri_api::v1;

use super::args::{flag, output, text};
use super::client::Cri;
use super::message;
use super::output::document;

/// How often `--watch` asks.
const POLL: Duration = Duration::from_millis(500);

/// The definitions.
pub fn commands() -> Vec<Command> {
    let forms = || output(&["json", "yaml"]).default_value("json");
    vec![
        Command::new("metricsp")
            .about("Show metrics of pods")
            .arg(forms())
            .arg(flag("watch", "Again and again").short('w')),
        Command::new("metricdescs")
            .about("Show what metrics there are")
            .arg(forms()),
    ]
}

/// `metricsp`.
pub async fn pods(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let format = text(m, "output").unwrap_or_default();
    loop {
        let request = v1::ListPodSandboxMetricsRequest::default();
        let answer = look!(
            cri,
            "metrics of pods",
            runtime.list_pod_sandbox_metrics(request)
        )?;
        let json = message::to_json("ListPodSandboxMetricsResponse", &answer)?;
        document(&json, &format, None)?;
        if !m.get_flag("watch") {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// `metricdescs`.
pub async fn descriptors(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let request = v1::ListMetricDescriptorsRequest::default();
    let answer = look!(
        cri,
        "metric descriptors",
        runtime.list_metric_descriptors(request)
    )?;
    let json = message::to_json("ListMetricDescriptorsResponse", &answer)?;
    document(&json, &text(m, "output").unwrap_or_default(), None)
}
