//! Command lines to begin with, for each `--help` that has none of its own.

use clap::Command;

/// Commands by the path below `hullctl`; those below `hullctl cri` are the same.
const ALL: &[(&str, &str)] = &[
    (
        "",
        "  hullctl run docker.io/library/alpine sh\n  hullctl run host -- ps ax\n  hullctl ps\n  hullctl why web",
    ),
    (
        "image",
        "  hullctl image pull docker.io/library/alpine\n  hullctl image ls\n  hullctl image copy docker://alpine oci:./alpine:latest",
    ),
    ("container ps", "  hullctl container ps -a"),
    ("container inspect", "  hullctl container inspect web"),
    (
        "container logs",
        "  hullctl container logs -f --tail 20 web",
    ),
    ("container exec", "  hullctl container exec -t -i web sh"),
    ("container stop", "  hullctl container stop -t 30 web"),
    ("container wait", "  hullctl container wait --rm web"),
    ("container rm", "  hullctl container rm -f web"),
    ("start", "  hullctl start abc"),
    ("stop", "  hullctl stop -t 30 abc"),
    ("rm", "  hullctl rm -f abc"),
    ("stopp", "  hullctl stopp abc"),
    ("rmp", "  hullctl rmp -f abc"),
    (
        "checkpoint",
        "  hullctl checkpoint --export /var/tmp/abc.tar abc",
    ),
    ("runp jsonschema", "  hullctl runp jsonschema"),
    (
        "create jsonschema",
        "  hullctl create jsonschema --container",
    ),
    ("run jsonschema", "  hullctl cri run jsonschema --pod"),
    ("inspectp", "  hullctl inspectp abc"),
    ("inspecti", "  hullctl inspecti docker.io/library/alpine"),
    ("images", "  hullctl images -q"),
    ("pull", "  hullctl pull docker.io/library/nginx"),
    ("imagefsinfo", "  hullctl imagefsinfo -o yaml"),
    ("attach", "  hullctl attach -i abc"),
    ("metricsp", "  hullctl metricsp"),
    ("metricdescs", "  hullctl metricdescs"),
    ("info", "  hullctl info"),
    ("version", "  hullctl version"),
    ("runtime-config", "  hullctl runtime-config"),
    (
        "update-runtime-config",
        "  hullctl update-runtime-config --pod-cidr 10.88.0.0/16",
    ),
    (
        "cri",
        "  hullctl cri ps\n  hullctl cri run container.json pod.json",
    ),
];

/// Adds them.
pub fn add(command: Command) -> Command {
    below(command, "")
}

fn below(command: Command, path: &str) -> Command {
    let command = match text(&command, path) {
        Some(text) => command.after_help(text),
        None => command,
    };
    command.mut_subcommands(|inner| {
        let whole = format!("{path} {}", inner.get_name());
        below(inner, whole.trim_start())
    })
}

/// What the help is to end with, where that is to change.
fn text(command: &Command, path: &str) -> Option<String> {
    let path = path.strip_prefix("cri ").unwrap_or(path);
    let (_, lines) = ALL.iter().find(|(name, _)| *name == path)?;
    let old = command.get_after_help().map(ToString::to_string);
    let old = old.unwrap_or_default();
    if old.contains("Example") {
        return None;
    }
    let gap = if old.is_empty() { "" } else { "\n\n" };
    Some(format!("{old}{gap}Examples:\n{lines}"))
}
