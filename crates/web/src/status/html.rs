//! The page: written here, without anything from elsewhere; readable at 80 columns, on a phone,
//! in the dark, and by a voice.

use std::fmt::{Display, Write as _};

use super::{LEGEND, Status};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2024;--paper:#fcfcfb;--soft:#5c6670;--line:#d8dcdf;--bad:#b3261e;--good:#1b6e3c}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7e9;--paper:#15181a;--soft:#9aa5ad;--line:#353b40;--bad:#ff8a80;--good:#7ddb9e}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:72rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:.5rem 1rem;margin:1rem 0}
dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-variant-numeric:tabular-nums}
pre{font:1.05rem/1.6 ui-monospace,monospace;letter-spacing:.15em;white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid var(--line);padding:.6rem;margin:.4rem 0}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);white-space:nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums}
.bad{color:var(--bad);font-weight:600}.good{color:var(--good)}.soft{color:var(--soft)}
details summary{cursor:pointer}";

/// The whole page.
pub fn page(s: &Status, refresh: Option<u32>) -> String {
    let mut t = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        t,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    );
    if let Some(seconds) = refresh {
        let _ = writeln!(t, "<meta http-equiv=\"refresh\" content=\"{seconds}\">");
    }
    let _ = write!(
        t,
        "<title>hulld: {} pods, {} containers</title>\n<style>{STYLE}</style></head>\n<body><main>\n<h1>hulld</h1>\n",
        s.pods.len(),
        s.containers.len()
    );
    figures(&mut t, s);
    scoreboard(&mut t, s);
    operations(&mut t, s);
    stuck(&mut t, s);
    verdicts(&mut t, s);
    pods(&mut t, s);
    containers(&mut t, s);
    network(&mut t, s);
    disk(&mut t, s);
    events(&mut t, s);
    t.push_str("<p class=\"soft\">The same as <a href=\"?auto\">lines</a> and as <a href=\"?json\">JSON</a>; <a href=\"?refresh=5\">renew every 5 s</a>.</p>\n</main></body></html>\n");
    t
}

/// Text in which nothing is markup.
fn escape(text: impl Display) -> String {
    let text = text.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn figures(t: &mut String, s: &Status) {
    let pressure: Vec<String> = s
        .pressure
        .iter()
        .map(|p| format!("{} {:.1}%", p.resource, p.some))
        .collect();
    let failed = format!("{} ({} failed)", s.operations_served, s.operations_failed);
    let pairs = [
        ("Version", s.version.to_owned()),
        ("Built", s.built.clone()),
        ("Now", s.now.clone()),
        ("Up for", duration(s.uptime_seconds)),
        ("Process", s.pid.to_string()),
        ("Memory", size(s.memory)),
        ("Descriptors", s.descriptors.to_string()),
        ("Operations served", failed),
        ("Pulled", size(s.bytes_pulled)),
        ("Machine waits for", pressure.join(", ")),
    ];
    t.push_str("<dl>");
    for (name, value) in pairs {
        let _ = write!(t, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    }
    t.push_str("</dl>\n");
}

/// `4.2 MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let at = (bytes.ilog2() / 10).min(4);
    let unit = usize::try_from(at - 1).ok().and_then(|at| UNITS.get(at));
    let tenths = u128::from(bytes) * 10 / (1_u128 << (10 * at));
    format!("{}.{} {}", tenths / 10, tenths % 10, unit.unwrap_or(&""))
}

/// How far a pull is, and when it will be done if it goes on like this.
fn progress(o: &super::Operation) -> String {
    if o.bytes_expected == 0 {
        return String::new();
    }
    let done = o.bytes.min(o.bytes_expected);
    let percent = done * 100 / o.bytes_expected;
    let mut text = format!("{} of {}, {percent} %", size(done), size(o.bytes_expected));
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole bytes a second are enough"
    )]
    let rate = if o.stage_age > 0.1 {
        (done as f64 / o.stage_age) as u64
    } else {
        0
    };
    if let Some(left) = (o.bytes_expected - done)
        .checked_div(rate)
        .filter(|_| o.stage == "layers")
    {
        let _ = write!(text, ", {}/s, {left} s left", size(rate));
    }
    text
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

fn scoreboard(t: &mut String, s: &Status) {
    let shown = if s.scoreboard.is_empty() {
        "-"
    } else {
        &s.scoreboard
    };
    let _ = write!(
        t,
        "<h2 id=\"scoreboard\">Scoreboard</h2>\n<pre aria-describedby=\"legend\">{}</pre>\n<details id=\"legend\"><summary>What the letters mean</summary><ul>",
        escape(shown)
    );
    for (letter, meaning) in LEGEND {
        let _ = write!(t, "<li><code>{letter}</code> {meaning}</li>");
    }
    t.push_str("</ul></details>\n");
}

/// A table, or a line that says that there is nothing.
fn table(t: &mut String, title: &str, heads: &[&str], rows: &[Vec<String>], nothing: &str) {
    let _ = writeln!(t, "<h2>{title}</h2>");
    if rows.is_empty() {
        let _ = writeln!(t, "<p class=\"soft\">{nothing}</p>");
        return;
    }
    t.push_str("<div class=\"scroll\"><table><thead><tr>");
    for head in heads {
        let _ = write!(t, "<th scope=\"col\">{head}</th>");
    }
    t.push_str("</tr></thead><tbody>\n");
    for row in rows {
        let _ = writeln!(t, "<tr>{}</tr>", row.concat());
    }
    t.push_str("</tbody></table></div>\n");
}

fn cell(text: impl Display) -> String {
    format!("<td>{}</td>", escape(text))
}

fn number(text: impl Display) -> String {
    format!("<td class=\"n\">{}</td>", escape(text))
}

fn marked(text: &str, bad: bool) -> String {
    let class = if bad { "bad" } else { "good" };
    format!("<td><span class=\"{class}\">{}</span></td>", escape(text))
}

fn short(id: &str) -> String {
    id.chars().take(13).collect()
}

fn operations(t: &mut String, s: &Status) {
    let row = |o: &super::Operation| {
        vec![
            cell(&o.kind),
            cell(&o.subject),
            marked(if o.stalled { "stalled in" } else { "in" }, o.stalled),
            cell(&o.stage),
            number(format!("{:.1} s", o.stage_age)),
            number(format!("{:.1} s", o.age)),
            cell(progress(o)),
        ]
    };
    let rows: Vec<Vec<String>> = s.operations.iter().map(row).collect();
    let heads = ["Operation", "Of", "", "Stage", "For", "In all", "Bytes"];
    table(t, "Operations in progress", &heads, &rows, "None.");
}

fn stuck(t: &mut String, s: &Status) {
    if s.stuck.is_empty() {
        return;
    }
    let row = |x: &super::Stuck| {
        vec![
            cell(short(&x.container)),
            number(x.pid),
            cell(&x.name),
            marked(&x.wchan, true),
        ]
    };
    let rows: Vec<Vec<String>> = s.stuck.iter().map(row).collect();
    table(
        t,
        "Stuck in the kernel",
        &["Container", "Process", "Name", "In"],
        &rows,
        "",
    );
}

fn verdicts(t: &mut String, s: &Status) {
    let bad = s
        .containers
        .iter()
        .filter(|c| c.code.is_some_and(|code| code != 0));
    let row = |c: &super::Container| {
        let code = c.code.unwrap_or(0);
        vec![
            cell(&c.pod),
            cell(&c.name),
            marked(&c.reason, true),
            number(code),
            cell(&c.message),
        ]
    };
    let rows: Vec<Vec<String>> = bad.map(row).collect();
    let heads = ["Pod", "Container", "Reason", "Code", "More"];
    table(t, "Failed containers", &heads, &rows, "None.");
}

fn pods(t: &mut String, s: &Status) {
    let row = |p: &super::Pod| {
        vec![
            cell(&p.name),
            marked(&p.phase, p.phase == "notready"),
            cell(p.ips.join(", ")),
            cell(p.ports.join(", ")),
            cell(&p.created),
            cell(short(&p.id)),
        ]
    };
    let rows: Vec<Vec<String>> = s.pods.iter().map(row).collect();
    let heads = ["Pod", "State", "Addresses", "Ports", "Created", "Id"];
    table(t, "Pods", &heads, &rows, "None.");
}

fn containers(t: &mut String, s: &Status) {
    let row = |c: &super::Container| {
        let bad = c.code.is_some_and(|code| code != 0) || c.phase == "unknown";
        let pid = if c.pid > 0 {
            c.pid.to_string()
        } else {
            String::new()
        };
        vec![
            cell(&c.pod),
            cell(&c.name),
            marked(&c.phase, bad),
            number(c.attempt),
            number(pid),
            cell(&c.image),
            cell(short(&c.id)),
        ]
    };
    let rows: Vec<Vec<String>> = s.containers.iter().map(row).collect();
    let heads = [
        "Pod",
        "Container",
        "State",
        "Attempt",
        "Process",
        "Image",
        "Id",
    ];
    table(t, "Containers", &heads, &rows, "None.");
}

fn network(t: &mut String, s: &Status) {
    let row = |n: &super::Network| {
        let verdict = if n.differs.is_empty() {
            "as it should be"
        } else {
            &n.differs
        };
        vec![
            cell(&n.pod),
            cell(n.addresses.join(", ")),
            cell(n.links.join(", ")),
            cell(n.ports.join(", ")),
            number(n.elements),
            marked(verdict, !n.differs.is_empty()),
        ]
    };
    let rows: Vec<Vec<String>> = s.network.iter().map(row).collect();
    let heads = [
        "Pod",
        "Addresses held",
        "Links",
        "Ports in nftables",
        "Elements",
        "Compared",
    ];
    table(
        t,
        "Network, as the kernel has it",
        &heads,
        &rows,
        "Nothing is held.",
    );
}

fn disk(t: &mut String, s: &Status) {
    let image = |i: &super::ImageDisk| {
        vec![
            cell(&i.name),
            number(size(i.exclusive)),
            number(size(i.shared)),
            number(i.containers),
        ]
    };
    let rows: Vec<Vec<String>> = s.disk.images.iter().map(image).collect();
    let heads = ["Image", "Its own", "Shared", "Containers"];
    table(t, "Disk by image", &heads, &rows, "No image.");
    let d = &s.disk;
    let _ = writeln!(
        t,
        "<p class=\"soft\">All layers in {}: {}; a collection gives back {}; {} are free.</p>",
        escape(&d.path),
        size(d.layers),
        size(d.reclaimable),
        size(d.free)
    );
    let container = |c: &super::ContainerDisk| {
        let known = s.containers.iter().find(|k| k.id == c.id);
        let name = known.map_or_else(|| short(&c.id), |k| format!("{}/{}", k.pod, k.name));
        vec![cell(name), number(size(c.bytes)), number(c.inodes)]
    };
    let mut written: Vec<&super::ContainerDisk> = d.containers.iter().collect();
    written.sort_by_key(|c| std::cmp::Reverse(c.bytes));
    let rows: Vec<Vec<String>> = written.into_iter().map(container).collect();
    table(
        t,
        "Disk by container",
        &["Container", "Written", "Files"],
        &rows,
        "None.",
    );
    if !s.slow.is_empty() {
        let _ = writeln!(t, "<p class=\"bad\">{}</p>", escape(&s.slow));
    }
}

fn events(t: &mut String, s: &Status) {
    let row = |e: &super::Event| {
        let whose = if e.container == e.pod {
            String::new()
        } else {
            short(&e.container)
        };
        vec![
            number(e.number),
            cell(&e.time),
            cell(&e.what),
            cell(short(&e.pod)),
            cell(whose),
        ]
    };
    let rows: Vec<Vec<String>> = s.events.iter().map(row).collect();
    let heads = ["Number", "Time", "What", "Pod", "Container"];
    table(t, "Recent events", &heads, &rows, "None.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_progress() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (80 << 20, "80.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        let mut pull = super::super::Operation {
            stage: "layers".to_owned(),
            stage_age: 2.0,
            bytes: 20 << 20,
            bytes_expected: 80 << 20,
            ..Default::default()
        };
        assert_eq!(
            progress(&pull),
            "20.0 MiB of 80.0 MiB, 25 %, 10.0 MiB/s, 6 s left"
        );
        pull.bytes_expected = 0;
        assert_eq!(progress(&pull), "");
    }
}
