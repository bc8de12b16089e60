//! The command line, and the commands that do not serve.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, Command, value_parser};

use crate::config::{Config, DEFAULT_FILE};

const EXAMPLES: &str = "\
Examples:
  hulld
      serve the CRI on /run/hull/hulld.sock
  hulld config --default > /etc/hull/hull.toml
      every setting with its default, to be changed
  hulld check
      is the configuration right, and can this machine do what it asks for?
  hulld -c ./test.toml --log debug
      another configuration, and every step in the log

Signals: HUP reads the configuration again (containers, handlers, images, log level),
TERM and INT end the daemon and leave pods running; a second one does not wait.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  hulld config
      what is in force: the file, its drop-ins, and the defaults
  hulld config --default > /etc/hull/hull.toml
      every setting with its default";

const CHECK_EXAMPLES: &str = "\
Examples:
  hulld check
      /etc/hull/hull.toml
  hulld -c ./test.toml check
      another file";

/// The definition.
#[must_use]
pub fn command() -> Command {
    Command::new("hulld")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A Kubernetes CRI runtime")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("config")
                .short('c')
                .long("config")
                .global(true)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help(format!(
                    "Configuration [default: {DEFAULT_FILE}]; FILE.d/*.toml are read too"
                )),
        )
        .arg(
            Arg::new("log")
                .long("log")
                .value_name("LEVEL")
                .help("Log level, in place of the configured one: error, warn, info, debug, trace"),
        )
        .subcommand(
            Command::new("config")
                .about("Print the configuration as it is read")
                .after_help(CONFIG_EXAMPLES)
                .arg(
                    Arg::new("default")
                        .long("default")
                        .action(ArgAction::SetTrue)
                        .help("Print the defaults instead"),
                ),
        )
        .subcommand(
            Command::new("check")
                .about("Check the configuration and this machine")
                .after_help(CHECK_EXAMPLES),
        )
}

/// The configuration as a file.
pub(crate) fn annotated(config: &Config) -> Result<String> {
    toml::to_string(config).context("the configuration as TOML")
}

/// Looks whether this machine can do what the configuration asks for.
pub(crate) fn check(config: &Config) -> Result<()> {
    let mut bad = 0;
    let mut report = |what: &str, result: Result<String>| match result {
        Ok(detail) => println!("ok    {what}: {detail}"),
        Err(error) => {
            bad += 1;
            println!("FAIL  {what}: {error:#}");
        }
    };
    report("configuration", Ok("valid".to_owned()));
    report(
        "program hull",
        config.places().map(|p| p.hull.display().to_string()),
    );
    let host = pods::oci::Host::look().map_err(anyhow::Error::from);
    report(
        "control groups",
        host.map(|h| {
            if h.cgroup_v2 {
                "version 2".to_owned()
            } else {
                "version 1 or hybrid".to_owned()
            }
        }),
    );
    for (name, handler) in &config.handlers {
        let found =
            std::fs::metadata(&handler.path).with_context(|| handler.path.display().to_string());
        report(
            &format!("handler {name}"),
            found.map(|_| handler.path.display().to_string()),
        );
    }
    for dir in [&config.daemon.state, &config.daemon.run] {
        let made =
            std::fs::create_dir_all(dir).with_context(|| format!("mkdir({})", dir.display()));
        report("directory", made.map(|()| dir.display().to_string()));
    }
    let registries = image::registry::Access::system().map_err(anyhow::Error::from);
    report(
        "registries",
        registries.map(|_| "configuration is valid".to_owned()),
    );
    if bad > 0 {
        bail!("{bad} of these must be mended");
    }
    Ok(())
}
