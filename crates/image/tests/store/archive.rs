//! Tar streams made to order, honest and not.

/// Builds a tar stream.
#[derive(Default)]
pub struct Archive(Vec<u8>);

/// What an entry has beside its name and data.
#[derive(Clone, Debug)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub pax: Vec<(String, Vec<u8>)>,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            pax: Vec::new(),
        }
    }
}

impl Meta {
    pub fn mode(mode: u32) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    pub fn owner(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }

    pub fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.to_owned(), value.to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }
}

impl Archive {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn entry(
        mut self,
        name: &str,
        kind: u8,
        link: &str,
        device: (u32, u32),
        data: &[u8],
        meta: &Meta,
    ) -> Self {
        let mut pax = meta.pax.clone();
        if name.len() > 100 {
            pax.push(("path".to_owned(), name.as_bytes().to_vec()));
        }
        if link.len() > 100 {
            pax.push(("linkpath".to_owned(), link.as_bytes().to_vec()));
        }
        if !pax.is_empty() {
            let records: Vec<u8> = pax.iter().flat_map(|(k, v)| record(k, v)).collect();
            self.header("pax", b'x', "", (0, 0), records.len(), &Meta::default());
            self.data(&records);
        }
        self.header(name, kind, link, device, data.len(), meta);
        self.data(data);
        self
    }

    fn header(
        &mut self,
        name: &str,
        kind: u8,
        link: &str,
        device: (u32, u32),
        size: usize,
        meta: &Meta,
    ) {
        let mut h = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8], max: usize| {
            let n = bytes.len().min(max);
            h[at..at + n].copy_from_slice(&bytes[..n]);
        };
        put(0, name.as_bytes(), 100);
        put(100, format!("{:07o}", meta.mode).as_bytes(), 8);
        put(108, format!("{:07o}", meta.uid).as_bytes(), 8);
        put(116, format!("{:07o}", meta.gid).as_bytes(), 8);
        put(124, format!("{size:011o}").as_bytes(), 12);
        put(136, format!("{:011o}", meta.mtime).as_bytes(), 12);
        put(148, b"        ", 8);
        put(156, &[kind], 1);
        put(157, link.as_bytes(), 100);
        put(257, b"ustar\x0000", 8);
        put(329, format!("{:07o}", device.0).as_bytes(), 8);
        put(337, format!("{:07o}", device.1).as_bytes(), 8);
        let sum: u32 = h.iter().map(|&b| u32::from(b)).sum();
        h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&h);
    }

    fn data(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub fn file(self, name: &str, data: &[u8]) -> Self {
        self.file_with(name, data, &Meta::default())
    }

    pub fn file_with(self, name: &str, data: &[u8], meta: &Meta) -> Self {
        self.entry(name, b'0', "", (0, 0), data, meta)
    }

    pub fn dir(self, name: &str) -> Self {
        self.dir_with(name, &Meta::mode(0o755))
    }

    pub fn dir_with(self, name: &str, meta: &Meta) -> Self {
        self.entry(name, b'5', "", (0, 0), b"", meta)
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, b'2', target, (0, 0), b"", &Meta::mode(0o777))
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, b'1', target, (0, 0), b"", &Meta::default())
    }

    pub fn char_device(self, name: &str, major: u32, minor: u32) -> Self {
        self.entry(name, b'3', "", (major, minor), b"", &Meta::default())
    }

    pub fn block_device(self, name: &str, major: u32, minor: u32) -> Self {
        self.entry(name, b'4', "", (major, minor), b"", &Meta::default())
    }

    pub fn fifo(self, name: &str) -> Self {
        self.entry(name, b'6', "", (0, 0), b"", &Meta::default())
    }

    /// A sparse file of version 0.1: runs at offsets, then a hole up to `size`.
    pub fn sparse(self, name: &str, size: u64, runs: &[(u64, &[u8])]) -> Self {
        let map: Vec<String> = runs
            .iter()
            .map(|(at, d)| format!("{at},{}", d.len()))
            .collect();
        let meta = Meta::default()
            .pax("GNU.sparse.size", size.to_string().as_bytes())
            .pax("GNU.sparse.numblocks", runs.len().to_string().as_bytes())
            .pax("GNU.sparse.map", map.join(",").as_bytes())
            .pax("GNU.sparse.name", name.as_bytes());
        let data: Vec<u8> = runs.iter().flat_map(|(_, d)| d.to_vec()).collect();
        self.file_with(name, &data, &meta)
    }

    pub fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A record of an extended header: its length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len.to_string().len() + rest != len {
        len = len.to_string().len() + rest;
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}
