//! The default configuration, checked from inside.

mod support;

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use support::{alone, contained, image, mounts, usual};

#[test]
fn default_mounts() {
    alone("default_mounts", || {
        let root = image();
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        contained(&usual(root.path()), |plan, context| {
            let start = sys::trace::now();
            let prepared = rootfs::prepare(plan, context).unwrap();
            let t1 = sys::trace::now();
            prepared.pivot(false).unwrap();
            let t2 = sys::trace::now();
            prepared.finish().unwrap();
            let t3 = sys::trace::now();
            println!("prepare {} pivot {} finish {} us", (t1 - start) / 1000, (t2 - t1) / 1000, (t3 - t2) / 1000);
            for (at, m) in mounts() {
                println!("{at} {m:?}");
            }
            for name in ["null", "zero", "full", "random", "urandom", "tty"] {
                let meta = std::fs::metadata(Path::new("/dev").join(name)).unwrap();
                assert!(meta.file_type().is_char_device());
                assert_eq!(meta.mode() & 0o7777, 0o666);
            }
        });
        let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(before, after);
    });
}
