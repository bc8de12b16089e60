//! Who may: TLS, client certificates, passwords, tokens, mirrors.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use image::config::{AuthFiles, CertDirs, Credentials};
use image::registry::Access;
use image::transport::TransportRef;

use crate::server::{Answer, Request, Server};
use crate::support::*;

fn creds(user: &str, password: &str) -> Option<Credentials> {
    Some(Credentials::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// Puts an image and reads it again; the first error.
fn use_it(place: &TransportRef, access: &Access) -> image::Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let made = make_image("amd64", &[noise(9, 1000)]);
    let to = place.destination(access)?;
    transfer(&layout(dir.path(), &made), to.as_ref())?;
    let read = place.source(access)?.manifest(None)?;
    assert_eq!(read.digest, made.manifest.digest);
    Ok(())
}

#[test]
fn certificates() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    std::fs::create_dir(&certs).unwrap();
    let server = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let person = rcgen::generate_simple_self_signed(vec!["person".to_owned()]).unwrap();
    std::fs::write(dir.path().join("cert.pem"), server.cert.pem()).unwrap();
    std::fs::write(
        dir.path().join("key.pem"),
        server.signing_key.serialize_pem(),
    )
    .unwrap();
    std::fs::write(dir.path().join("person.pem"), person.cert.pem()).unwrap();
    let tls = "  tls:\n    certificate: DIR/cert.pem\n    key: DIR/key.pem";
    let registry = Registry::prepared(dir, tls, "");
    let place = registry.name("tls:1");
    let error = use_it(&place, &access()).unwrap_err().to_string();
    assert!(
        error.contains("TLS:") && error.contains("--tls-verify=false"),
        "{error}"
    );
    use_it(&place, &insecure()).unwrap();
    let certs = registry.dir.path().join("certs");
    std::fs::write(certs.join("ca.crt"), server.cert.pem()).unwrap();
    let trusting = access().with_certs(CertDirs::exact(certs.clone()));
    use_it(&place, &trusting).unwrap();

    // Another that wants to see who comes.
    let dir = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem", "person.pem"] {
        std::fs::copy(registry.dir.path().join(name), dir.path().join(name)).unwrap();
    }
    let tls = format!("{tls}\n    clientcas: [DIR/person.pem]");
    let strict = Registry::prepared(dir, &tls, "");
    let place = strict.name("tls:1");
    assert!(use_it(&place, &trusting).is_err());
    std::fs::write(certs.join("me.cert"), person.cert.pem()).unwrap();
    std::fs::write(certs.join("me.key"), person.signing_key.serialize_pem()).unwrap();
    let known = access().with_certs(CertDirs::exact(certs));
    use_it(&place, &known).unwrap();
}

#[test]
fn passwords() {
    let dir = tempfile::tempdir().unwrap();
    // "secret", bcrypt.
    let line = "person:$2b$04$dIWS6/LYQsokxxM1HKgMMOOLy5arU4XT2dGfF7It4G9vK2QcYRU1q";
    std::fs::write(dir.path().join("htpasswd"), line).unwrap();
    let registry = Registry::prepared(
        dir,
        "",
        "auth:\n  htpasswd:\n    realm: x\n    path: DIR/htpasswd",
    );
    let place = registry.name("auth:1");
    let good = insecure().with_credentials(creds("person", "secret"));
    use_it(&place, &good).unwrap();
    good.check_login(&registry.address).unwrap();
    for bad in [
        insecure(),
        insecure().with_credentials(creds("person", "wrong")),
        insecure().with_credentials(None),
    ] {
        let error = use_it(&place, &bad).unwrap_err().to_string();
        assert!(error.contains("401"), "{error}");
        assert!(bad.check_login(&registry.address).is_err());
    }
    let file = registry.dir.path().join("auth.json");
    let auth = AuthFiles::only(file);
    auth.login(&registry.address, "person", "secret").unwrap();
    use_it(&place, &insecure().with_auth_files(auth)).unwrap();
}

/// A token as docker-registry demands it: signed with an RSA key whose certificate is in it.
fn token(dir: &std::path::Path, service: &str, access: &serde_json::Value) -> String {
    let certificate = std::fs::read_to_string(dir.join("cert.pem")).unwrap();
    let der: String = certificate
        .lines()
        .filter(|l| !l.starts_with("-----"))
        .collect();
    let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = serde_json::json!({
        "iss": "test", "sub": "x", "aud": service, "jti": "1",
        "iat": now - 5, "nbf": now - 5, "exp": now + 300, "access": access,
    });
    let part = |v: &serde_json::Value| URL_SAFE_NO_PAD.encode(v.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(dir.join("key.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(signed.as_bytes())
        .unwrap();
    let signature = child.wait_with_output().unwrap().stdout;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn decoded(text: &str) -> String {
    text.replace("%3A", ":")
        .replace("%2F", "/")
        .replace("%2C", ",")
        .replace("%20", " ")
        .replace('+', " ")
}

/// Hands out what is asked for: to strangers only `pull`, to nobody with a wrong password.
fn grant(dir: &std::path::Path, request: &Request) -> Answer {
    let query = match request.method.as_str() {
        "POST" => String::from_utf8(request.body.clone()).unwrap(),
        _ => request
            .path
            .split_once('?')
            .map_or(String::new(), |(_, q)| q.to_owned()),
    };
    let query = decoded(&query);
    let fields: Vec<(&str, &str)> = query.split('&').filter_map(|p| p.split_once('=')).collect();
    let field = |name: &str| {
        fields
            .iter()
            .find(|(n, _)| *n == name)
            .map_or("", |(_, v)| v)
    };
    let person = format!("Basic {}", STANDARD.encode("person:secret"));
    let known = match (request.method.as_str(), request.header("authorization")) {
        ("POST", "") => field("grant_type") == "refresh_token" && field("refresh_token") == "R",
        ("GET", "") => false,
        ("GET", given) if given == person => true,
        _ => return Answer::new(401),
    };
    if request.method == "POST" && !known {
        return Answer::new(401);
    }
    let scopes = fields
        .iter()
        .filter(|(n, _)| *n == "scope")
        .flat_map(|(_, v)| v.split(' '));
    let access: Vec<serde_json::Value> = scopes
        .map(|scope| {
            let parts: Vec<&str> = scope.split(':').collect();
            let actions: Vec<&str> = parts[2]
                .split(',')
                .filter(|a| known || *a == "pull")
                .collect();
            serde_json::json!({"type": "repository", "name": parts[1], "actions": actions})
        })
        .collect();
    let token = token(dir, field("service"), &serde_json::json!(access));
    let name = if request.method == "POST" {
        "access_token"
    } else {
        "token"
    };
    Answer::new(200).body(format!(r#"{{"{name}":"{token}","expires_in":300}}"#))
}

#[test]
fn tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let (key, cert) = (path.join("key.pem"), path.join("cert.pem"));
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=test",
            "-days",
            "2",
            "-keyout",
            key.to_str().unwrap(),
            "-out",
            cert.to_str().unwrap(),
        ],
    );
    let place = path.clone();
    let tokens = Server::new(move |request| grant(&place, request));
    let auth = format!(
        "auth:\n  token:\n    realm: http://{}/token\n    service: reg\n    issuer: test\n    rootcertbundle: DIR/cert.pem",
        tokens.address
    );
    let registry = Registry::prepared(dir, "", &auth);
    let place = registry.name("tok/en:1");
    let known = insecure().with_credentials(creds("person", "secret"));
    use_it(&place, &known).unwrap();
    known.check_login(&registry.address).unwrap();
    // Several layers, one token for each scope.
    assert!(tokens.asked().len() <= 6, "{:?}", tokens.asked());

    // A refresh token, as Docker's config.json keeps it.
    let before = tokens.asked().len();
    let identity = insecure().with_credentials(Some(Credentials::Identity("R".to_owned())));
    use_it(&place, &identity).unwrap();
    let posts = tokens
        .asked()
        .iter()
        .skip(before)
        .filter(|r| r.method == "POST")
        .count();
    assert!(posts > 0 && posts == tokens.asked().len() - before);

    // A stranger may read and not write.
    place.source(&insecure()).unwrap().manifest(None).unwrap();
    assert!(
        use_it(&place, &insecure())
            .unwrap_err()
            .to_string()
            .contains("401")
    );
    let wrong = insecure().with_credentials(creds("person", "wrong"));
    let error = use_it(&place, &wrong).unwrap_err().to_string();
    assert!(error.contains("token from"), "{error}");
    // A blob comes from another repository only with a token for both.
    let to = registry.name("other:1").destination(&known).unwrap();
    let copied = transfer(place.source(&known).unwrap().as_ref(), to.as_ref()).unwrap();
    assert_eq!(copied.bytes, 0);
}

#[test]
fn mirrors_come_first_and_may_fail() {
    let (main, mirror) = (Registry::plain(), Registry::plain());
    use_it(&main.name("lib/app:1"), &insecure()).unwrap();
    use_it(&mirror.name("cache/lib/app:1"), &insecure()).unwrap();
    let dead = Server::new(|_| Answer::new(404));
    let config = |first: &str| {
        format!(
            "[[registry]]\nlocation = '{}'\ninsecure = true\n[[registry.mirror]]\nlocation = '{first}'\ninsecure = true\n",
            main.address
        )
    };
    let place = main.name("lib/app:1");
    let through = with_config(&config(&format!("{}/cache", mirror.address)));
    place.source(&through).unwrap().manifest(None).unwrap();
    // What only the mirror has is found there, what it lacks in the registry.
    let with_dead = with_config(&config(&dead.address));
    place.source(&with_dead).unwrap().manifest(None).unwrap();
    assert!(dead.count("/v2/lib/app/manifests/1") > 0);
    let only = main.name("lib/only:1");
    let error = only
        .source(&with_dead)
        .unwrap()
        .manifest(None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&dead.address) && error.contains(&main.address),
        "{error}"
    );
    drop(main);
    place.source(&through).unwrap().manifest(None).unwrap();
    let blocked = format!(
        "[[registry]]\nlocation = '{}'\nblocked = true",
        mirror.address
    );
    let error = mirror
        .name("x")
        .source(&with_config(&blocked))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("blocks"), "{error}");
}
