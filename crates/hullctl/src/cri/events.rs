//! `events`.

use anyhow::Result;
use clap::{ArgMatches, Command};
use cri_api::v1;

use super::args::{self, output, text};
use super::client::Cri;
use super::message;
use super::output::document;

/// The definition.
pub fn commands() -> Vec<Command> {
    let command = Command::new("events")
        .about("Show what happens to containers, as it happens")
        .arg(output(&["json", "yaml", "go-template"]).default_value("json"))
        .arg(args::template())
        .after_help(
            "Example:\n  hullctl events -o go-template \
             --template '{{.containerEventType}} {{.containerId}}'",
        );
    vec![command]
}

/// `events`: until it is interrupted or the runtime ends.
pub async fn run(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let request = v1::GetEventsRequest::default();
    let mut events = act!(cri, "events", runtime.get_container_events(request))?;
    let (format, template) = (text(m, "output").unwrap_or_default(), text(m, "template"));
    loop {
        let event = events.message().await;
        match event.map_err(|e| cri.error("events", &e))? {
            None => return Ok(()),
            Some(event) => {
                let json = message::to_json("ContainerEventResponse", &event)?;
                document(&json, &format, template.as_deref())?;
            }
        }
    }
}
