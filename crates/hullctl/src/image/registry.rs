//! `hullctl image list-tags`, `delete`, `login`, `logout`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{ArgMatches, Command};
use image::Reference;
use image::config::Credentials;
use image::transport::{DockerArchiveSource, LayoutArchiveSource, LayoutSource, TransportRef};
use serde_json::json;

use super::options::{ONE, access, argument, flag, option, required, text, with_retry, with_side};

/// The definition of `list-tags`.
pub fn list_tags_command() -> Command {
    let command = Command::new("list-tags")
        .about("List the tags of a repository, or the names in a layout or archive")
        .after_help("Examples:\n  hullctl image list-tags docker://debian\n  hullctl image list-tags oci:layout")
        .arg(argument("repository", "REPOSITORY", "docker://NAME, oci:DIR, oci-archive:FILE or docker-archive:FILE").required(true))
        .arg(option("format", "FORMAT", "`json` (as skopeo) or `text`").value_parser(["json", "text"]).default_value("json"));
    with_side(with_retry(command), &ONE)
}

/// Lists tags.
pub fn list_tags(m: &ArgMatches) -> Result<()> {
    let word = required(m, "repository");
    let (name, tags) = match TransportRef::parse(&word)? {
        TransportRef::Registry(r) => {
            // A tag after the name would be ignored: say so instead.
            if word
                .rsplit('/')
                .next()
                .is_some_and(|last| last.contains([':', '@']))
            {
                bail!("list-tags: {word}: a repository has no tag here; leave it out");
            }
            (r.name(), access(m, &ONE)?.tags(&r)?)
        }
        TransportRef::Layout(dir, _) => (word, LayoutSource::names(&dir)?),
        TransportRef::LayoutArchive(file, _) => (word, LayoutArchiveSource::names(&file)?),
        TransportRef::DockerArchive(file, _) => {
            let names = DockerArchiveSource::names(&file)?;
            (word, names.into_iter().flatten().collect())
        }
        _ => bail!(
            "list-tags: {word}: write docker://NAME, oci:DIR, oci-archive:FILE or docker-archive:FILE"
        ),
    };
    if text(m, "format").as_deref() == Some("text") {
        for tag in tags {
            println!("{tag}");
        }
        return Ok(());
    }
    let value = json!({ "Repository": name, "Tags": tags });
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(())
}

/// The definition of `delete`.
pub fn delete_command() -> Command {
    let command = Command::new("delete")
        .about("Delete an image in a registry, with all tags that name it")
        .after_help("Examples:\n  hullctl image delete docker://registry.local:5000/app:old")
        .arg(argument("image", "docker://NAME", "The image").required(true));
    with_side(with_retry(command), &ONE)
}

/// Deletes.
pub fn delete(m: &ArgMatches) -> Result<()> {
    let word = required(m, "image");
    let TransportRef::Registry(reference) = TransportRef::parse(&word)? else {
        bail!("delete: {word}: only docker://NAME can be deleted; `rm` removes from the store");
    };
    println!("{}", access(m, &ONE)?.delete(&reference)?);
    Ok(())
}

/// The definition of `login`.
pub fn login_command() -> Command {
    let command = Command::new("login")
        .about("Check credentials with a registry and keep them")
        .after_help("Examples:\n  hullctl image login registry.local:5000\n  printf %s \"$TOKEN\" | hullctl image login -u me --password-stdin quay.io")
        .arg(argument("registry", "HOST[/REPOSITORY]", "For what; docker.io if left out").default_value("docker.io"))
        .arg(flag("password-stdin", "Read the password from the standard input"))
        .arg(flag("get-login", "Only show who is logged in"));
    let command = with_side(with_retry(command), &ONE);
    command
        .mut_arg("username", |a| a.short('u'))
        .mut_arg("password", |a| {
            a.short('p')
                .help("Password; visible to others on the machine: rather use --password-stdin")
        })
        .mut_arg("creds", |a| a.hide(true))
        .mut_arg("no-creds", |a| a.hide(true))
        .mut_arg("registry-token", |a| a.hide(true))
}

/// Logs in.
pub fn login(m: &ArgMatches) -> Result<()> {
    let key = registry_key(&required(m, "registry"))?;
    let host = key.split('/').next().unwrap_or(&key);
    let access = access(m, &ONE)?;
    if m.get_flag("get-login") {
        let user = access.auth().login_of(host)?;
        println!(
            "{}",
            user.ok_or_else(|| anyhow!("login: not logged in to {host}"))?
        );
        return Ok(());
    }
    let user = match text(m, "username") {
        Some(user) => user,
        None => ask("Username: ")?,
    };
    let password = match text(m, "password") {
        Some(password) => password,
        None if m.get_flag("password-stdin") => line()?,
        None => ask_hidden("Password: ")?,
    };
    let given = Credentials::Basic {
        user: user.clone(),
        password: password.clone(),
    };
    access
        .clone()
        .with_credentials(Some(given))
        .check_login(host)?;
    access.auth().login(&key, &user, &password)?;
    eprintln!("logged in to {host} as {user}");
    Ok(())
}

/// The definition of `logout`.
pub fn logout_command() -> Command {
    Command::new("logout")
        .about("Forget credentials")
        .after_help(
            "Examples:\n  hullctl image logout registry.local:5000\n  hullctl image logout --all",
        )
        .arg(
            argument(
                "registry",
                "HOST[/REPOSITORY]",
                "Which; docker.io if left out",
            )
            .default_value("docker.io"),
        )
        .arg(flag("all", "All").short('a'))
        .arg(
            option("authfile", "FILE", "File of credentials")
                .value_parser(clap::value_parser!(std::path::PathBuf)),
        )
}

/// Logs out.
pub fn logout(m: &ArgMatches) -> Result<()> {
    use image::config::AuthFiles;
    let file = m.get_one::<std::path::PathBuf>("authfile").cloned();
    let auth = file.map_or_else(AuthFiles::system, AuthFiles::only);
    if m.get_flag("all") {
        auth.logout_all()?;
        return Ok(());
    }
    let key = registry_key(&required(m, "registry"))?;
    if !auth.logout(&key)? {
        bail!("logout: not logged in to {key}");
    }
    eprintln!("logged out of {key}");
    Ok(())
}

/// `https://r.io/` → `r.io`.
fn registry_key(text: &str) -> Result<String> {
    let key = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text);
    let key = key.trim_end_matches('/');
    let key = if key == "index.docker.io/v1" {
        "docker.io"
    } else {
        key
    };
    let probe = if key.contains('/') {
        key.to_owned()
    } else {
        format!("{key}/x")
    };
    let reference = Reference::parse(&probe)?;
    if !probe.starts_with(reference.host()) {
        bail!("login: {text}: name the registry's host first");
    }
    Ok(key.to_owned())
}

fn line() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut text)
        .context("read the standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask(prompt: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("login: no terminal to ask on; give --username and --password-stdin");
    }
    eprint!("{prompt}");
    std::io::stderr().flush().context("write")?;
    line()
}

fn ask_hidden(prompt: &str) -> Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("login: no terminal to ask on; give --password-stdin");
    }
    let before = tcgetattr(&stdin).context("tcgetattr")?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).context("tcsetattr")?;
    let answer = ask(prompt);
    eprintln!();
    tcsetattr(&stdin, OptionalActions::Flush, &before).context("tcsetattr")?;
    answer
}
