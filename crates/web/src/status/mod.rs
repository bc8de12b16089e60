//! The status page: what the daemon does and has done, for a person who looks.
//!
//! One snapshot ([`Status`]) is taken from memory and /proc, and written in one of three shapes: a
//! page, lines of `key: value` (`?auto`), JSON (`?json`). Nothing can be changed here.

mod collect;
mod html;
mod lines;
mod slow;

use serde::Serialize;

pub use collect::{begin, collect};
pub use slow::Slow;

/// A moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    /// When the program's file was written, RFC 3339.
    pub built: String,
    /// RFC 3339.
    pub now: String,
    /// Seconds since the daemon began.
    pub uptime_seconds: u64,
    /// Its process.
    pub pid: u32,
    /// Its resident memory in bytes.
    pub memory: u64,
    /// Descriptors it has open.
    pub descriptors: usize,
    /// Operations that have ended.
    pub operations_served: u64,
    /// Those of them that failed.
    pub operations_failed: u64,
    /// Bytes of images that were pulled.
    pub bytes_pulled: u64,
    /// One letter for each pod, container and running operation; see [`LEGEND`].
    pub scoreboard: String,
    /// What runs.
    pub operations: Vec<Operation>,
    /// All pods.
    pub pods: Vec<Pod>,
    /// All containers.
    pub containers: Vec<Container>,
    /// The newest first.
    pub events: Vec<Event>,
    /// Per cent of the last 10 s in which somebody waited.
    pub pressure: Vec<Pressure>,
    /// Tasks of containers in state D.
    pub stuck: Vec<Stuck>,
    /// Number of the newest event.
    pub last_event: u64,
    /// What takes the disk.
    pub disk: Disk,
    /// What the kernel and the address pool hold for pods.
    pub network: Vec<Network>,
    /// Why the two are missing or old; empty if they are not.
    pub slow: String,
}

/// What takes the disk.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Disk {
    /// The store.
    pub path: String,
    /// Bytes of all layers.
    pub layers: u64,
    /// Bytes that a collection would give back.
    pub reclaimable: u64,
    /// Bytes that are free on its file system.
    pub free: u64,
    /// Image by image.
    pub images: Vec<ImageDisk>,
    /// What containers have written.
    pub containers: Vec<ContainerDisk>,
}

/// What an image takes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ImageDisk {
    /// Its names, or its id.
    pub name: String,
    /// Bytes that go with it.
    pub exclusive: u64,
    /// Bytes that it has in common with others.
    pub shared: u64,
    /// Containers made from it: why it is kept.
    pub containers: usize,
}

/// What a container has written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ContainerDisk {
    /// Its id.
    pub id: String,
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub inodes: u64,
}

/// The network of a pod, as it is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Network {
    /// The pod's name; its id where there is no such pod.
    pub pod: String,
    /// Addresses that are held for it.
    pub addresses: Vec<String>,
    /// Links of the machine.
    pub links: Vec<String>,
    /// Ports of the machine that nftables leads to it.
    pub ports: Vec<String>,
    /// Elements in sets and maps of nftables.
    pub elements: usize,
    /// What is not as it should be; empty where all is.
    pub differs: String,
}

/// An operation that runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Operation {
    /// `RunPodSandbox`.
    pub kind: String,
    /// Pod or container.
    pub subject: String,
    /// Where it is.
    pub stage: String,
    /// Seconds.
    pub age: f64,
    /// Seconds in this stage.
    pub stage_age: f64,
    /// In this stage for too long.
    pub stalled: bool,
    /// Bytes that have come, of a pull.
    pub bytes: u64,
    /// Bytes that are to come in all.
    pub bytes_expected: u64,
}

/// A pod.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pod {
    /// Namespace and name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// `ready`, …
    pub phase: String,
    /// Addresses.
    pub ips: Vec<String>,
    /// Ports of the machine that lead to it: `8080/TCP → 80`.
    pub ports: Vec<String>,
    /// RFC 3339.
    pub created: String,
}

/// A container.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its pod's name.
    pub pod: String,
    /// Its id.
    pub id: String,
    /// `running`, …
    pub phase: String,
    /// The image.
    pub image: String,
    /// The first process.
    pub pid: i32,
    /// How many were before it (the kubelet's count).
    pub attempt: u32,
    /// Of one that has ended.
    pub code: Option<i32>,
    /// `OOMKilled`, …
    pub reason: String,
    /// More of it.
    pub message: String,
}

/// Something that happened.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Event {
    /// Its number.
    pub number: u64,
    /// RFC 3339.
    pub time: String,
    /// `started`, …
    pub what: String,
    /// The pod's id.
    pub pod: String,
    /// The container's id.
    pub container: String,
}

/// Waiting for one resource.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pressure {
    /// `cpu`, `memory`, `io`.
    pub resource: &'static str,
    /// Some task waited.
    pub some: f64,
    /// All tasks waited.
    pub full: f64,
}

/// A task in state D.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stuck {
    /// Its container's id.
    pub container: String,
    /// The process.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// The kernel function that it sleeps in.
    pub wchan: String,
}

/// What the letters of the scoreboard mean.
pub const LEGEND: [(char, &str); 13] = [
    ('M', "pod being made"),
    ('R', "pod ready"),
    ('N', "pod not ready"),
    ('m', "container being made"),
    ('c', "container created"),
    ('r', "container running"),
    ('d', "container running, with a task stuck in the kernel"),
    ('e', "container ended with 0"),
    ('f', "container failed"),
    ('o', "container killed for lack of memory"),
    ('?', "container of which nobody knows"),
    ('*', "operation running"),
    ('!', "operation stalled"),
];

/// The shape that a query asks for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shape {
    /// `?auto`
    pub lines: bool,
    /// `?json`
    pub json: bool,
    /// `?refresh=N`
    pub refresh: Option<u32>,
}

impl Shape {
    /// Reads a query such as `auto` or `refresh=5`; other words are nobody's.
    #[must_use]
    pub fn of_query(query: &str) -> Self {
        let mut shape = Self::default();
        for word in query.split('&') {
            match word.split_once('=') {
                None if word == "auto" => shape.lines = true,
                None if word == "json" => shape.json = true,
                Some(("refresh", n)) => {
                    shape.refresh = n.parse().ok().filter(|n| (1..=3600).contains(n));
                }
                _ => {}
            }
        }
        shape
    }
}

impl Status {
    /// In the shape that was asked for: the type of the contents, and the contents.
    #[must_use]
    pub fn write(&self, shape: Shape) -> (&'static str, String) {
        if shape.json {
            let text = serde_json::to_string_pretty(self).unwrap_or_default();
            return ("application/json", text + "\n");
        }
        if shape.lines {
            return ("text/plain; charset=utf-8", lines::lines(self));
        }
        ("text/html; charset=utf-8", html::page(self, shape.refresh))
    }

    /// Fills the scoreboard from the rest.
    fn score(&mut self) {
        let pod = |p: &Pod| match p.phase.as_str() {
            "making" => 'M',
            "ready" => 'R',
            _ => 'N',
        };
        let container = |c: &Container| match (c.phase.as_str(), c.code, c.reason.as_str()) {
            ("making", ..) => 'm',
            ("created", ..) => 'c',
            ("running", ..) if self.stuck.iter().any(|s| s.container == c.id) => 'd',
            ("running", ..) => 'r',
            ("exited", _, "OOMKilled") => 'o',
            ("exited", Some(0), _) => 'e',
            ("exited", ..) => 'f',
            _ => '?',
        };
        let operation = |o: &Operation| if o.stalled { '!' } else { '*' };
        let pods = self.pods.iter().map(pod);
        let containers = self.containers.iter().map(container);
        let operations = self.operations.iter().map(operation);
        self.scoreboard = pods.chain(containers).chain(operations).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Status {
        let container = |phase: &str, code, reason: &str| Container {
            name: "<b>web</b>".to_owned(),
            id: "c1".to_owned(),
            phase: phase.to_owned(),
            code,
            reason: reason.to_owned(),
            ..Container::default()
        };
        let mut status = Status {
            version: "1",
            pods: vec![Pod {
                phase: "ready".to_owned(),
                name: "default/web".to_owned(),
                ..Pod::default()
            }],
            containers: vec![
                container("running", None, ""),
                container("exited", Some(137), "OOMKilled"),
                container("exited", Some(0), "Completed"),
                container("exited", Some(3), "Error"),
            ],
            operations: vec![Operation {
                kind: "PullImage".to_owned(),
                stalled: true,
                ..Operation::default()
            }],
            stuck: vec![Stuck {
                container: "c1".to_owned(),
                wchan: "nfs_wait".to_owned(),
                ..Stuck::default()
            }],
            ..Status::default()
        };
        status.score();
        status
    }

    #[test]
    fn one_letter_for_each() {
        assert_eq!(example().scoreboard, "Rdoef!");
    }

    #[test]
    fn every_shape() {
        let status = example();
        let (kind, html) = status.write(Shape::of_query("refresh=5"));
        assert!(kind.starts_with("text/html"));
        assert!(
            html.contains("content=\"5\"") && html.contains("&lt;b&gt;web&lt;/b&gt;"),
            "{html}"
        );
        assert!(!html.contains("<b>web"), "names are escaped");
        assert!(
            !html.contains("http://") && !html.contains("https://"),
            "nothing from elsewhere"
        );
        let (_, lines) = status.write(Shape::of_query("auto"));
        assert!(
            lines.contains("Scoreboard: Rdoef!\n") && lines.contains("Pods: 1\n"),
            "{lines}"
        );
        let (_, json) = status.write(Shape::of_query("json"));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["scoreboard"], "Rdoef!");
    }

    #[test]
    fn queries() {
        assert_eq!(Shape::of_query(""), Shape::default());
        assert!(Shape::of_query("json&x=1").json);
        assert_eq!(Shape::of_query("refresh=0").refresh, None);
        assert_eq!(Shape::of_query("refresh=99999").refresh, None);
    }
}
