use super::*;
use proptest::prelude::*;

/// A log in a directory of its own.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("hull-log-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    fn options(&self) -> LogOptions {
        LogOptions {
            path: self.dir.join("log"),
            ..LogOptions::default()
        }
    }

    fn text(&self) -> Vec<u8> {
        std::fs::read(self.dir.join("log")).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What readers make of it: per stream, and whether a line is open.
fn joined(log: &[u8]) -> [(Vec<u8>, bool); 2] {
    let mut streams = [(Vec::new(), false), (Vec::new(), false)];
    let lines = log.strip_suffix(b"\n").unwrap_or(log);
    for line in lines.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
        let words: Vec<&[u8]> = line.splitn(4, |&b| b == b' ').collect();
        assert_eq!(words.len(), 4, "{:?}", String::from_utf8_lossy(line));
        assert!(words[3].len() <= MAX_PART);
        let stream = STREAMS
            .iter()
            .position(|s| s.as_bytes() == words[1])
            .unwrap();
        let (text, open) = &mut streams[stream];
        text.extend_from_slice(words[3]);
        *open = words[2] == b"P";
        if !*open {
            text.push(b'\n');
        }
    }
    streams
}

fn piece() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let text = prop_oneof![
        4 => proptest::collection::vec(prop_oneof![3 => Just(b'x'), 1 => Just(b'\n')], 0..40),
        1 => (0..40_000_usize).prop_map(|n| vec![b'y'; n]),
    ];
    (0..2_usize, text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn readers_get_what_was_written(pieces in proptest::collection::vec(piece(), 0..12)) {
        let scratch = Scratch::new();
        let mut log = Log::open(scratch.options(), false).unwrap();
        let mut left = [Vec::new(), Vec::new()];
        let mut want = [Vec::new(), Vec::new()];
        for (stream, text) in pieces {
            want[stream].extend_from_slice(&text);
            let mut data = std::mem::take(&mut left[stream]);
            data.extend_from_slice(&text);
            let taken = log.write(stream, &data, false);
            left[stream] = data[taken..].to_vec();
        }
        for stream in 0..2 {
            log.write(stream, &left[stream], true);
            log.end(stream);
            if want[stream].last().is_some_and(|&b| b != b'\n') {
                want[stream].push(b'\n');
            }
        }
        let [(out, open_out), (err, open_err)] = joined(&scratch.text());
        prop_assert!(!open_out && !open_err);
        prop_assert!(out == want[0] && err == want[1]);
        prop_assert_eq!(log.lost, 0);
    }
}

#[test]
fn another_writer_goes_on_in_the_middle_of_a_line() {
    let scratch = Scratch::new();
    let mut log = Log::open(scratch.options(), false).unwrap();
    log.write(0, b"whole\nbeg", true);
    log.write(1, b"other\n", true);
    drop(log);
    let mut log = Log::open(scratch.options(), true).unwrap();
    assert_eq!(log.open, [true, false]);
    log.end(0);
    log.end(1);
    let [(out, open), (err, _)] = joined(&scratch.text());
    assert_eq!((&out[..], open), (&b"whole\nbeg\n"[..], false));
    assert_eq!(err, b"other\n");
}

#[test]
fn a_full_disk_loses_output_and_says_so() {
    let options = LogOptions {
        path: "/dev/full".into(),
        ..LogOptions::default()
    };
    let mut log = Log::open(options, false).unwrap();
    assert_eq!(log.write(0, b"lost\n", true), 5);
    let trouble = log.trouble.clone().unwrap();
    assert!(
        trouble.contains("No space left") || trouble.contains("no space left"),
        "{trouble}"
    );
    assert!(log.lost > 0);
    // The disk has room again.
    let scratch = Scratch::new();
    log.options.path = scratch.dir.join("log");
    log.reopen().unwrap();
    log.write(0, b"kept\n", true);
    log.write(0, b"more\n", true);
    assert!(log.trouble.is_none());
    let text = String::from_utf8(scratch.text()).unwrap();
    assert!(text.contains("bytes of output were dropped here"), "{text}");
    assert!(text.contains("stdout F kept\n") && text.contains("stdout F more\n"));
}

#[test]
fn a_bucket_fills_up_and_not_over() {
    let mut bucket = Bucket::new(1000);
    assert!(bucket.take(1000));
    assert!(!bucket.take(1000));
    bucket.filled = Instant::now() - std::time::Duration::from_secs(60);
    assert!(bucket.take(1000));
    assert!(!bucket.take(1000));
    assert!(Bucket::new(0).take(u64::MAX));
}
