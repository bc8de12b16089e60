//! `--change`: the instructions of a Dockerfile that set how an image runs.

use anyhow::{Result, bail};
use image::document::RunConfig;

/// Applies `INSTRUCTION VALUE` to a configuration.
pub fn apply(config: &mut RunConfig, text: &str) -> Result<()> {
    let text = text.trim();
    let (word, rest) = text.split_once([' ', '=']).unwrap_or((text, ""));
    let rest = rest.trim();
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = command(rest)?,
        "ENTRYPOINT" => config.entrypoint = command(rest)?,
        "ENV" => {
            let (name, value) = pair(rest)?;
            let prefix = format!("{name}=");
            config.env.retain(|e| !e.starts_with(&prefix));
            config.env.push(format!("{name}={value}"));
        }
        "LABEL" => {
            let (name, value) = pair(rest)?;
            config.labels.insert(name, value);
        }
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') {
                    port.to_owned()
                } else {
                    format!("{port}/tcp")
                };
                config.exposed_ports.insert(port, serde_json::json!({}));
            }
        }
        "VOLUME" => {
            for path in list(rest)? {
                config.volumes.insert(path, serde_json::json!({}));
            }
        }
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => rest.clone_into(&mut config.working_dir),
        "STOPSIGNAL" => rest.clone_into(&mut config.stop_signal),
        _ => bail!(
            "--change {text:?}: not CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR"
        ),
    }
    Ok(())
}

/// `["a", "b"]`, or a line for the shell.
fn command(text: &str) -> Result<Vec<String>> {
    if text.starts_with('[') {
        return list(text);
    }
    Ok(match text {
        "" => Vec::new(),
        line => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()],
    })
}

/// `["a", "b"]`, or words.
fn list(text: &str) -> Result<Vec<String>> {
    if !text.starts_with('[') {
        return Ok(text.split_whitespace().map(str::to_owned).collect());
    }
    match serde_json::from_str(text) {
        Ok(words) => Ok(words),
        Err(e) => bail!("--change {text}: not a list of strings: {e}"),
    }
}

/// `NAME=VALUE` or `NAME VALUE`; quotes around the value go.
fn pair(text: &str) -> Result<(String, String)> {
    let Some((name, value)) = text.split_once(['=', ' ']) else {
        bail!("--change {text:?}: no value; write NAME=VALUE");
    };
    let value = value.trim();
    let unquoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    Ok((name.to_owned(), unquoted.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions() {
        let mut config = RunConfig::default();
        for text in [
            "CMD [\"sh\", \"-l\"]",
            "entrypoint exec app",
            "ENV A=1",
            "ENV A \"2 3\"",
            "LABEL=x=y",
            "EXPOSE 80 53/udp",
            "VOLUME [\"/data\"]",
            "USER 1:2",
            "WORKDIR /w",
            "STOPSIGNAL SIGINT",
        ] {
            apply(&mut config, text).unwrap();
        }
        assert_eq!(config.cmd, ["sh", "-l"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "exec app"]);
        assert_eq!(config.env, ["A=2 3"]);
        assert_eq!(config.labels["x"], "y");
        assert!(config.exposed_ports.contains_key("80/tcp") && config.exposed_ports.len() == 2);
        assert!(config.volumes.contains_key("/data"));
        let (user, dir, signal) = (&config.user, &config.working_dir, &config.stop_signal);
        assert_eq!(
            (user.as_str(), dir.as_str(), signal.as_str()),
            ("1:2", "/w", "SIGINT")
        );
        for bad in ["RUN x", "ENV A", "CMD [1]", ""] {
            assert!(apply(&mut config, bad).is_err(), "{bad}");
        }
    }
}
