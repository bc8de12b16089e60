//! An image's configuration becomes a runtime's (image-spec, conversion.md).

use std::collections::BTreeMap;

use spec::oci::Spec;

use super::{User, Users};
use crate::Result;
use crate::document::{ImageConfig, RunConfig};

/// What the annotations of an image begin with.
const PREFIX: &str = "org.opencontainers.image.";

/// Puts an image's configuration into `spec`: working directory, environment, arguments, user,
/// annotations. What `spec` had of these gives way, except environment variables that the image
/// does not set.
///
/// Volumes are the caller's to mount ([`volumes`]). Annotations of manifest and index are not
/// taken: they are about the image, not about the container.
///
/// # Errors
/// The image's user is not in the image's own passwd file.
pub fn apply_config(image: &ImageConfig, users: &Users, spec: &mut Spec) -> Result<User> {
    let empty = RunConfig::default();
    let run = image.config.as_ref().unwrap_or(&empty);
    let user = users.resolve(&run.user)?;
    let process = spec.process.get_or_insert_default();
    process.cwd = match run.working_dir.as_str() {
        "" => "/".to_owned(),
        dir => dir.to_owned(),
    };
    process.args = run.entrypoint.iter().chain(&run.cmd).cloned().collect();
    process.env = environment(&run.env, &process.env, user.home.as_deref());
    process.user.uid = user.uid;
    process.user.gid = user.gid;
    process
        .user
        .additional_gids
        .clone_from(&user.additional_gids);
    spec.annotations.extend(annotations(image, run));
    Ok(user)
}

/// The image's variables, then those of `extra` that it does not set; HOME where nobody sets it.
#[must_use]
pub fn environment(image: &[String], extra: &[String], home: Option<&str>) -> Vec<String> {
    let name = |v: &String| v.split('=').next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = Vec::with_capacity(image.len() + extra.len() + 1);
    for variable in image {
        // The last one counts, in the place of the first.
        match all.iter_mut().find(|v| name(v) == name(variable)) {
            Some(known) => known.clone_from(variable),
            None => all.push(variable.clone()),
        }
    }
    for variable in extra {
        if !all.iter().any(|v| name(v) == name(variable)) {
            all.push(variable.clone());
        }
    }
    if !all.iter().any(|v| v.starts_with("HOME=")) {
        all.push(format!("HOME={}", home.unwrap_or("/")));
    }
    all
}

/// The directories that the image wants data to outlive the container in.
#[must_use]
pub fn volumes(image: &ImageConfig) -> Vec<String> {
    let run = image.config.as_ref();
    run.map(|c| c.volumes.keys().cloned().collect())
        .unwrap_or_default()
}

fn annotations(image: &ImageConfig, run: &RunConfig) -> BTreeMap<String, String> {
    let ports: Vec<&str> = run.exposed_ports.keys().map(String::as_str).collect();
    let mut all: BTreeMap<String, String> = [
        ("os", image.os.clone()),
        ("architecture", image.architecture.clone()),
        ("variant", image.variant.clone()),
        ("os.version", image.os_version.clone()),
        ("os.features", image.os_features.join(",")),
        ("author", image.author.clone()),
        ("created", image.created.clone().unwrap_or_default()),
        ("stopSignal", run.stop_signal.clone()),
        ("exposedPorts", ports.join(",")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(key, value)| (format!("{PREFIX}{key}"), value))
    .collect();
    // Labels win over all of them.
    all.extend(run.labels.clone());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_specification_says() {
        let image = ImageConfig::parse(
            br#"{"architecture":"arm64","variant":"v8","os":"linux","author":"me",
            "created":"2026-01-01T00:00:00Z","config":{"User":"web","Env":["PATH=/bin","A=1","A=2"],
            "Entrypoint":["/e"],"Cmd":["c"],"WorkingDir":"/w/../x","StopSignal":"SIGQUIT",
            "ExposedPorts":{"80/tcp":{},"53/udp":{}},"Volumes":{"/data":{}},
            "Labels":{"org.opencontainers.image.author":"label","k":"v"}}}"#,
        )
        .unwrap();
        let users = Users::parse("web:x:33:34::/var/www:\n", "adm:x:4:web\n");
        let mut spec = spec::default_spec(false);
        let user = apply_config(&image, &users, &mut spec).unwrap();
        let process = spec.process.unwrap();
        assert_eq!(user.home.as_deref(), Some("/var/www"));
        assert_eq!(process.cwd, "/w/../x");
        assert_eq!(process.args, ["/e", "c"]);
        assert_eq!(
            process.env,
            ["PATH=/bin", "A=2", "TERM=xterm", "HOME=/var/www"]
        );
        assert_eq!((process.user.uid, process.user.gid), (33, 34));
        assert_eq!(process.user.additional_gids, [4]);
        let note = |key: &str| {
            spec.annotations
                .get(&format!("{PREFIX}{key}"))
                .map(String::as_str)
        };
        assert_eq!(note("author"), Some("label"));
        assert_eq!(note("variant"), Some("v8"));
        assert_eq!(note("exposedPorts"), Some("53/udp,80/tcp"));
        assert_eq!(note("stopSignal"), Some("SIGQUIT"));
        assert_eq!(note("os.version"), None);
        assert_eq!(spec.annotations.get("k").map(String::as_str), Some("v"));
        assert_eq!(volumes(&image), ["/data"]);
    }

    #[test]
    fn an_image_that_says_nothing() {
        let mut spec = Spec::default();
        apply_config(&ImageConfig::default(), &Users::default(), &mut spec).unwrap();
        let process = spec.process.unwrap();
        assert_eq!((process.cwd.as_str(), process.args.len()), ("/", 0));
        assert_eq!(process.env, ["HOME=/"]);
        let unknown = ImageConfig {
            config: Some(RunConfig {
                user: "who".to_owned(),
                ..RunConfig::default()
            }),
            ..ImageConfig::default()
        };
        let refused = apply_config(&unknown, &Users::default(), &mut Spec::default());
        assert!(refused.unwrap_err().to_string().contains("who"));
    }
}
