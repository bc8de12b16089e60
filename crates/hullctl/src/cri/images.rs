//! `images`, `pull`, `rmi`, `imagefsinfo`.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use clap::{Arg, ArgMatches, Command};
use cri_api::v1;
use regex::Regex;

use super::args::{self, duration, flag, option, options, output, text, texts, time};
use super::client::Cri;
use super::output::{Table, document, human_size, line, print, short};
use super::{files, message, terminal, transfer};

/// The definitions.
pub fn commands() -> Vec<Command> {
    let images = Command::new("images")
        .about("List images")
        .arg(Arg::new("image").value_name("IMAGE[:TAG]"))
        .arg(flag("verbose", "All that is known").short('v'))
        .arg(flag("quiet", "Only ids").short('q'))
        .arg(filter())
        .arg(output(&["json", "yaml", "table"]).default_value("table"))
        .arg(flag("digests", "With digests"))
        .arg(flag("no-trunc", "Whole ids"))
        .arg(flag("pinned", "With whether it is pinned"));
    let pull = Command::new("pull")
        .about("Pull an image")
        .arg(
            Arg::new("image")
                .value_name("IMAGE[:TAG|@DIGEST]")
                .required(true),
        )
        .args(credentials())
        .arg(option(
            "pod-config",
            "POD.json|yaml",
            "The pod that it is for",
        ))
        .arg(flag(
            "progress",
            "Show how far it is, also if this is no terminal (hulld tells it)",
        ))
        .args_conflicts_with_subcommands(true);
    let rmi = Command::new("rmi")
        .about("Remove images")
        .arg(args::ids("IMAGE", false))
        .arg(flag("all", "All of them").short('a'))
        .arg(
            flag(
                "prune",
                "Those that no container uses and nobody has pinned",
            )
            .short('q'),
        )
        .after_help(
            "The CRI removes an image with all its names; `hullctl image rm` can take one name away.\n\n\
             Examples:\n  hullctl rmi nginx\n  hullctl rmi --prune",
        );
    let fs = Command::new("imagefsinfo")
        .about("Show how much images take")
        .arg(output(&["json", "yaml", "go-template", "table"]).default_value("json"))
        .arg(args::template());
    vec![images, pull, rmi, fs]
}

/// `--filter`.
pub fn filter() -> Arg {
    options(
        "filter",
        "KEY=VALUE",
        "dangling=true|false, reference=REGEX, before=IMAGE, since=IMAGE; all must hold",
    )
    .short('f')
}

/// What a pull needs.
pub fn credentials() -> [Arg; 5] {
    [
        option(
            "creds",
            "USER[:PASSWORD]",
            "For the registry ($CRICTL_CREDS)",
        )
        .conflicts_with("auth"),
        option("auth", "BASE64", "USER:PASSWORD in base64 ($CRICTL_AUTH)"),
        option(
            "username",
            "USER",
            "For the registry; the password is asked for",
        )
        .short('u'),
        options("annotation", "KEY=VALUE", "Of the image").short('a'),
        duration(
            "pull-timeout",
            "Give up the pull after this ($CRICTL_PULL_TIMEOUT)",
        ),
    ]
}

/// An image's status; no image if there is none.
pub async fn status(cri: &Cri, image: &str, verbose: bool) -> Result<v1::ImageStatusResponse> {
    let request = v1::ImageStatusRequest {
        image: Some(spec(image)),
        verbose,
    };
    let what = format!("status of image {image}");
    look!(cri, &what, images.image_status(request))
}

fn spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.to_owned(),
        ..v1::ImageSpec::default()
    }
}

/// An image's id, by any of its names.
pub async fn id_of(cri: &Cri, image: &str) -> Result<Option<String>> {
    Ok(status(cri, image, false).await?.image.map(|i| i.id))
}

/// An image's first name.
pub async fn name_of(cri: &Cri, image: &str) -> Result<Option<String>> {
    let image = status(cri, image, false).await?.image;
    Ok(image.and_then(|i| i.repo_tags.into_iter().next()))
}

/// Images by name and filters, sorted.
pub async fn chosen(cri: &Cri, name: Option<String>, filters: &[String]) -> Result<Vec<v1::Image>> {
    let filter = name.map(|name| v1::ImageFilter {
        image: Some(spec(&name)),
    });
    let request = v1::ListImagesRequest { filter };
    let answer = look!(cri, "list images", images.list_images(request))?;
    let mut images = answer.images;
    images.sort_by(|a, b| {
        (&a.repo_tags, &a.repo_digests, &a.id).cmp(&(&b.repo_tags, &b.repo_digests, &b.id))
    });
    for filter in filters {
        images = filtered(cri, images, filter).await?;
    }
    Ok(images)
}

async fn filtered(cri: &Cri, mut images: Vec<v1::Image>, filter: &str) -> Result<Vec<v1::Image>> {
    let (key, value) = filter.split_once('=').unwrap_or((filter, ""));
    match key {
        "dangling" => {
            let wanted: bool = value
                .parse()
                .with_context(|| format!("--filter {filter}"))?;
            images.retain(|image| image.repo_tags.is_empty() == wanted);
        }
        "reference" => {
            let regex = Regex::new(value.trim_matches('/'));
            let regex = regex.with_context(|| format!("--filter {filter}"))?;
            images.retain(|image| {
                let mut names = image.repo_tags.iter().chain(&image.repo_digests);
                names.any(|name| regex.is_match(name))
            });
        }
        // CRI knows no times of images: the order of the list is the order meant.
        "before" | "since" => {
            let id = id_of(cri, value).await?;
            let id = id.ok_or_else(|| anyhow!("--filter {filter}: there is no such image"))?;
            let at = images.iter().position(|image| image.id == id).unwrap_or(0);
            match key {
                "before" => images.truncate(at),
                _ => images = images.split_off((at + 1).min(images.len())),
            }
        }
        _ => bail!("--filter {filter}: there are dangling, reference, before and since"),
    }
    Ok(images)
}

/// `images`.
pub async fn list(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let images = chosen(cri, text(m, "image"), &texts(m, "filter")).await?;
    let format = text(m, "output").unwrap_or_default();
    if format != "table" {
        let answer = v1::ListImagesResponse { images };
        return document(
            &message::to_json("ListImagesResponse", &answer)?,
            &format,
            None,
        );
    }
    if m.get_flag("quiet") {
        return images.iter().try_for_each(|image| line(&image.id));
    }
    if m.get_flag("verbose") {
        return print(&images.iter().map(long).collect::<String>());
    }
    table(&images, m).print()
}

fn long(image: &v1::Image) -> String {
    let mut out = format!("ID: {}\n", image.id);
    let names = |label: &str, names: &[String]| -> String {
        names
            .iter()
            .map(|name| format!("{label}: {name}\n"))
            .collect()
    };
    out.push_str(&names("RepoTags", &image.repo_tags));
    out.push_str(&names("RepoDigests", &image.repo_digests));
    out.push_str(&format!("Size: {}\n", image.size));
    if let Some(uid) = &image.uid {
        out.push_str(&format!("Uid: {}\n", uid.value));
    }
    if !image.username.is_empty() {
        out.push_str(&format!("Username: {}\n", image.username));
    }
    if image.pinned {
        out.push_str("Pinned: true\n");
    }
    out.push('\n');
    out
}

fn table(images: &[v1::Image], m: &ArgMatches) -> Table {
    let (digests, pinned) = (m.get_flag("digests"), m.get_flag("pinned"));
    let cut = |id: &str| match m.get_flag("no-trunc") {
        true => id.to_owned(),
        false => short(id),
    };
    let mut head = vec!["IMAGE", "TAG"];
    head.extend(digests.then_some("DIGEST"));
    head.extend(["IMAGE ID", "SIZE"]);
    head.extend(pinned.then_some("PINNED"));
    let mut table = Table::new(head);
    let none = || "<none>".to_owned();
    for image in images {
        let by_digest = image.repo_digests.first().and_then(|d| d.split_once('@'));
        let (repository, digest) = by_digest.map_or_else(
            || (none(), none()),
            |(repository, digest)| (repository.to_owned(), cut(digest)),
        );
        let mut names: Vec<(String, String)> = image
            .repo_tags
            .iter()
            .map(|tag| match tag.rsplit_once(':') {
                Some((name, tag)) => (name.to_owned(), tag.to_owned()),
                None => (tag.clone(), none()),
            })
            .collect();
        if names.is_empty() {
            names.push((repository, none()));
        }
        for (name, tag) in names {
            let mut row = vec![name, tag];
            row.extend(digests.then(|| digest.clone()));
            row.extend([cut(&image.id), human_size(image.size, 3)]);
            row.extend(pinned.then(|| image.pinned.to_string()));
            table.row(row);
        }
    }
    table
}

fn auth(m: &ArgMatches) -> Result<Option<v1::AuthConfig>> {
    let given = |name: &str, variable: &str| text(m, name).or_else(|| std::env::var(variable).ok());
    if let Some(user) = text(m, "username") {
        let password = terminal::ask_password(&format!("Password for {user}: "))?;
        return Ok(Some(v1::AuthConfig {
            username: user,
            password,
            ..v1::AuthConfig::default()
        }));
    }
    let creds = given("creds", "CRICTL_CREDS");
    if let Some(creds) = creds.filter(|c| !c.is_empty()) {
        let (user, password) = creds.split_once(':').unwrap_or((&creds, ""));
        return Ok(Some(v1::AuthConfig {
            username: user.to_owned(),
            password: password.to_owned(),
            ..v1::AuthConfig::default()
        }));
    }
    let Some(auth) = given("auth", "CRICTL_AUTH").filter(|a| !a.is_empty()) else {
        return Ok(None);
    };
    let wrong = "--auth: no USER:PASSWORD in base64";
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(&auth)
        .context(wrong)?;
    if !decoded.contains(&b':') {
        bail!(wrong);
    }
    Ok(Some(v1::AuthConfig {
        auth,
        ..v1::AuthConfig::default()
    }))
}

/// Pulls an image for a container; its reference.
pub async fn pull_one(
    cri: &Cri,
    m: &ArgMatches,
    image: &v1::ImageSpec,
    pod: Option<&v1::PodSandboxConfig>,
) -> Result<String> {
    let mut image = image.clone();
    image
        .annotations
        .extend(args::labels(&texts(m, "annotation"))?);
    let request = v1::PullImageRequest {
        image: Some(image.clone()),
        auth: auth(m)?,
        sandbox_config: pod.cloned(),
    };
    let limit = match time(m, "pull-timeout") {
        None => match std::env::var("CRICTL_PULL_TIMEOUT") {
            Ok(text) => Some(args::parse_duration(&text).context("CRICTL_PULL_TIMEOUT")?),
            Err(_) => None,
        },
        limit => limit,
    };
    let call = || {
        let (mut client, request) = (cri.images(), request.clone());
        async move { client.pull_image(request).await }
    };
    let what = format!("pull {}", image.image);
    let pull = cri.within(limit.filter(|l| !l.is_zero()), &what, call);
    let must = matches!(m.try_get_one::<bool>("progress"), Ok(Some(true)));
    let answer = transfer::shown(cri, &image.image, must, pull).await?;
    Ok(answer.image_ref)
}

/// `pull`.
pub async fn pull(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let pod = text(m, "pod-config").map(|file| files::pod(Path::new(&file)));
    let image = spec(&text(m, "image").unwrap_or_default());
    let reference = pull_one(cri, m, &image, pod.transpose()?.as_ref()).await?;
    line(&format!("Image is up to date for {reference}"))
}

/// Ids of images that containers use.
async fn used(cri: &Cri) -> Result<HashSet<String>> {
    let request = v1::ListContainersRequest::default();
    let answer = look!(cri, "list containers", runtime.list_containers(request))?;
    let mut used = HashSet::new();
    for container in answer.containers {
        let named = container.image.unwrap_or_default().image;
        used.extend(id_of(cri, &named).await?);
        used.extend([container.image_ref, container.image_id]);
    }
    Ok(used)
}

/// `rmi`.
pub async fn remove(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let (all, prune) = (m.get_flag("all"), m.get_flag("prune"));
    let mut ids = texts(m, "ids");
    if all || prune {
        let used = if prune {
            used(cri).await?
        } else {
            HashSet::new()
        };
        let images = chosen(cri, None, &[]).await?;
        let removable = images
            .into_iter()
            .filter(|image| !(prune && (image.pinned || used.contains(&image.id))));
        ids.extend(removable.map(|image| image.id));
        if ids.is_empty() {
            return line("No images to remove");
        }
    }
    if ids.is_empty() {
        bail!("nothing is named; name images, --all or --prune");
    }
    let mut errors = Vec::new();
    for id in ids {
        // Between list and removal a container may have come: pruning leaves its image.
        if let Err(e) = remove_one(cri, &id).await
            && !prune
        {
            errors.push(format!("{e:#}"));
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => bail!(errors.join("; ")),
    }
}

async fn remove_one(cri: &Cri, id: &str) -> Result<()> {
    let Some(image) = status(cri, id, false).await?.image else {
        bail!("remove image {id}: it is not there");
    };
    let request = v1::RemoveImageRequest {
        image: Some(spec(id)),
    };
    let what = format!("remove image {id}");
    act!(cri, &what, images.remove_image(request))?;
    let names = match image.repo_tags.is_empty() {
        true => &image.repo_digests,
        false => &image.repo_tags,
    };
    names
        .iter()
        .try_for_each(|name| line(&format!("Deleted: {name}")))
}

/// `imagefsinfo`.
pub async fn fs_info(cri: &Cri, m: &ArgMatches) -> Result<()> {
    let request = v1::ImageFsInfoRequest::default();
    let answer = look!(cri, "image file system", images.image_fs_info(request))?;
    let format = text(m, "output").unwrap_or_default();
    if format != "table" {
        let status = message::to_json("ImageFsInfoResponse", &answer)?;
        let value = serde_json::json!({ "status": status });
        return document(&value, &format, text(m, "template").as_deref());
    }
    let mut table = Table::new(["FILESYSTEM", "MOUNTPOINT", "DISK", "INODES"]);
    let all = [
        ("image", &answer.image_filesystems),
        ("container", &answer.container_filesystems),
    ];
    for (name, systems) in all {
        for system in systems {
            table.row(vec![
                name.to_owned(),
                system.fs_id.clone().unwrap_or_default().mountpoint,
                human_size(system.used_bytes.unwrap_or_default().value, 4),
                system.inodes_used.unwrap_or_default().value.to_string(),
            ]);
        }
    }
    table.print()
}
