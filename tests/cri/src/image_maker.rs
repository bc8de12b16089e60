//! An image with busybox and a few users, as a layout on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use image::store::{PullOptions, Store};
use image::transport::{LayoutSource, Name};
use image::{Digest, Reference};
use serde_json::json;

/// Its name in the store.
pub const IMAGE: &str = "hull.test/busybox:1";

const APPLETS: [&str; 31] = [
    "sh", "sleep", "cat", "echo", "id", "true", "false", "ls", "ip", "mount", "grep", "touch",
    "dd", "head", "tail", "hostname", "ps", "env", "kill", "wget", "nc", "httpd", "stat", "seq",
    "yes", "mkdir", "sysctl", "df", "test", "wc", "ping",
];

/// Puts the image into the store below `state`.
pub(crate) fn install(state: &Path, work: &Path) {
    let root = work.join("image-root");
    for dir in ["bin", "etc", "tmp", "proc", "sys", "dev", "data", "www"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\nweb:x:101:102::/:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nwww:x:33:web\nweb:x:102:\n",
    )
    .unwrap();
    fs::write(root.join("www/index.html"), "hello from a pod\n").unwrap();
    fs::write(root.join("bin/badscript"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(
        root.join("bin/badscript"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let layout = work.join("layout");
    make_layout(&root, &layout, work);
    let store = Store::open(state).unwrap();
    let source = LayoutSource::open(&layout, &Name::Only).unwrap();
    let reference = Reference::parse(IMAGE).unwrap();
    store
        .pull(&source, &reference, &PullOptions::default())
        .unwrap();
}

fn make_layout(root: &Path, layout: &Path, work: &Path) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let tar = work.join("layer.tar");
    let status = Command::new("tar")
        .args(["--numeric-owner", "--owner=0", "--group=0", "-cf"])
        .arg(&tar)
        .arg("-C")
        .arg(root)
        .arg(".")
        .status()
        .unwrap();
    assert!(status.success());
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let (layer, layer_size) = put(&fs::read(&tar).unwrap());
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["FROM_IMAGE=yes"], "Cmd": ["/bin/sleep", "3600"], "StopSignal": "SIGTERM" },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    });
    let (config, config_size) = put(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size }],
    });
    let (manifest, size) = put(manifest.to_string().as_bytes());
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size }],
    });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
}
