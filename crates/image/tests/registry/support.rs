//! Debian's docker-registry on ports of its own, images to put there, and how to reach it.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use image::config::{AuthFiles, CertDirs, Policy, Registries, Scope};
use image::copy::{Copied, Layers, Options, Which, copy};
use image::document::{Descriptor, media_type};
use image::progress::Silent;
use image::registry::{Access, Retry};
use image::transport::{
    Destination, LayoutDestination, Name, PutAs, RawManifest, Source, TransportRef,
};
use image::{Digest, Platform, Progress, Result};

/// A running docker-registry; it ends and its data goes when it is dropped.
pub struct Registry {
    child: Child,
    pub address: String,
    pub dir: tempfile::TempDir,
}

impl Registry {
    pub fn plain() -> Self {
        Self::start("", "")
    }

    /// Starts one with these lines below `http:` and these at the top of its configuration;
    /// `DIR` in them is its directory.
    pub fn start(http: &str, top: &str) -> Self {
        Self::prepared(tempfile::tempdir().unwrap(), http, top)
    }

    pub fn prepared(dir: tempfile::TempDir, http: &str, top: &str) -> Self {
        // The port is free now; if somebody takes it before the registry does, another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let address = format!("127.0.0.1:{port}");
            let config = format!(
                "version: 0.1\nlog: {{ level: error }}\nstorage:\n  delete: {{ enabled: true }}\n  filesystem: {{ rootdirectory: DIR/data }}\nhttp:\n  addr: {address}\n{http}\n{top}\n"
            );
            let config = config.replace("DIR", dir.path().to_str().unwrap());
            let file = dir.path().join("config.yml");
            std::fs::write(&file, config).unwrap();
            let mut child = Command::new("docker-registry")
                .arg("serve")
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if answers(&address, &mut child) {
                return Self {
                    child,
                    address,
                    dir,
                };
            }
            let _ = child.kill();
            child.wait().unwrap();
        }
        panic!("docker-registry does not start");
    }

    pub fn name(&self, repository: &str) -> TransportRef {
        TransportRef::parse(&format!("docker://{}/{repository}", self.address)).unwrap()
    }
}

fn answers(address: &str, child: &mut Child) -> bool {
    for _ in 0..500 {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Quick repetitions.
pub const RETRY: Retry = Retry {
    times: 3,
    delay: Duration::from_millis(5),
};

/// Reaches registries with nothing from this machine's configuration.
pub fn access() -> Access {
    with_config("")
}

/// The same with a registries.conf.
pub fn with_config(text: &str) -> Access {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let registries = Registries::load(file.path(), &[]).unwrap();
    Access::new(registries, AuthFiles::default(), CertDirs::default()).with_retry(RETRY)
}

/// The same, content with plain HTTP.
pub fn insecure() -> Access {
    access().with_tls_verify(false)
}

/// Copies with the usual options.
pub fn transfer(source: &dyn Source, to: &dyn Destination) -> Result<Copied> {
    transfer_with(source, to, |_| {})
}

static ACCEPT: Policy = Policy::accept_anything();

pub fn transfer_with<'a>(
    source: &dyn Source,
    to: &dyn Destination,
    change: impl FnOnce(&mut Options<'a>),
) -> Result<Copied> {
    let scope = Scope::of(&TransportRef::Dir(PathBuf::from("/")));
    let mut options = Options {
        which: Which::Platform,
        platform: Platform::parse("linux/amd64").unwrap(),
        format: None,
        layers: Layers::Usual,
        preserve_digests: false,
        additional_tags: Vec::new(),
        parallel: 4,
        retry: RETRY,
        policy: (&ACCEPT, scope),
        progress: &Silent as &dyn Progress,
    };
    change(&mut options);
    copy(source, to, &options)
}

/// A tar stream with one file.
pub fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), content).unwrap();
    let output = Command::new("tar")
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--mtime=@0",
            "-cf",
            "-",
            "-C",
        ])
        .arg(dir.path())
        .arg(name)
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::new(1))
        .read_to_end(&mut out)
        .unwrap();
    out
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// An image's documents and blobs.
#[derive(Clone, Debug)]
pub struct Made {
    pub manifest: RawManifest,
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
}

/// Makes an image of gzip layers.
pub fn make_image(architecture: &str, layers: &[Vec<u8>]) -> Made {
    let tars: Vec<Vec<u8>> = layers.iter().map(|l| tar("file", l)).collect();
    let diff_ids: Vec<String> = tars.iter().map(|t| Digest::of(t).to_string()).collect();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {"Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes();
    let layer_type = format!("{}+gzip", media_type::OCI_LAYER);
    let mut blobs = vec![(Descriptor::of(&config, media_type::OCI_CONFIG), config)];
    for tar in &tars {
        let blob = gzip(tar);
        blobs.push((Descriptor::of(&blob, layer_type.clone()), blob));
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": blobs[0].0,
        "layers": blobs[1..].iter().map(|(d, _)| d).collect::<Vec<_>>(),
    });
    let manifest = RawManifest::new(manifest.to_string().into_bytes(), media_type::OCI_MANIFEST);
    Made { manifest, blobs }
}

impl Made {
    /// Puts it.
    pub fn put(&self, to: &dyn Destination, name: PutAs<'_>) {
        for (blob, bytes) in &self.blobs {
            to.put_blob(Some(blob), &mut &bytes[..]).unwrap();
        }
        to.put_manifest(&self.manifest, name).unwrap();
    }
}

/// Puts an index of these images.
pub fn put_index(to: &dyn Destination, images: &[(&str, &Made)]) -> RawManifest {
    let mut entries = Vec::new();
    for (architecture, made) in images {
        made.put(to, PutAs::Digest);
        let entry = Descriptor::of(&made.manifest.bytes, media_type::OCI_MANIFEST);
        let mut value = serde_json::to_value(entry).unwrap();
        value["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        entries.push(value);
    }
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
    });
    let raw = RawManifest::new(index.to_string().into_bytes(), media_type::OCI_INDEX);
    to.put_manifest(&raw, PutAs::Top).unwrap();
    raw
}

/// A layout with one image in it.
pub fn layout(dir: &Path, made: &Made) -> image::transport::LayoutSource {
    let name = Name::Tag("x".to_owned());
    made.put(&LayoutDestination::open(dir, &name).unwrap(), PutAs::Top);
    image::transport::LayoutSource::open(dir, &name).unwrap()
}

/// Whether all blobs and the manifest of `made` are in the layout at `dir`.
pub fn has_all(dir: &Path, made: &Made) -> bool {
    let to = LayoutDestination::open(dir, &Name::Only).unwrap();
    made.blobs.iter().all(|(d, bytes)| {
        let path = dir.join("blobs/sha256").join(d.digest.hex());
        to.has_blob(d).unwrap() && std::fs::read(path).unwrap() == *bytes
    })
}

/// Runs a program that must succeed; its standard output.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
