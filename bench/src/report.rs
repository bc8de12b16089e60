//! The table and the verdicts.

use std::fmt::Write as _;

use serde_json::Value;

use crate::cycle::STEPS;

/// What hull must reach beside crun: the step, the kind of time, the largest ratio.
const TARGETS: [(&str, &str, f64); 6] = [
    ("run", "wall_ms", 0.5),
    ("run", "cpu_ms", 0.5),
    ("create", "wall_ms", 1.0),
    ("start", "wall_ms", 1.0),
    ("exec", "wall_ms", 1.0),
    ("delete", "wall_ms", 1.0),
];

/// One row of the table: a title, and a figure for each column that has one.
type Row = (String, Vec<Option<f64>>);

/// The whole report as text.
pub fn table(results: &Value) -> String {
    let programs = results["programs"].as_array().cloned().unwrap_or_default();
    let mut rows: Vec<Row> = Vec::new();
    let mut add = |title: String, get: &dyn Fn(&Value) -> Option<f64>| {
        let figures: Vec<Option<f64>> = programs.iter().map(get).collect();
        if figures.iter().any(Option::is_some) {
            rows.push((title, figures));
        }
    };
    for step in STEPS {
        for (kind, unit) in [("wall_ms", "wall ms"), ("cpu_ms", "cpu ms")] {
            add(format!("{step} {unit}"), &|p| {
                p[kind][step]["median"].as_f64()
            });
        }
    }
    add("create peak RSS KiB".into(), &|p| {
        p["create_peak_rss_kib"]["median"].as_f64()
    });
    add("smallest limit KiB".into(), &|p| {
        p["smallest_limit"].as_f64().map(|b| b / 1024.0)
    });
    add("program size KiB".into(), &|p| {
        p["size"].as_f64().map(|b| b / 1024.0)
    });
    add("failed rounds".into(), &|p| p["failed_rounds"].as_f64());
    let names: Vec<&str> = programs.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{:<22}", "");
    for name in &names {
        let _ = write!(text, "{name:>22}");
    }
    text.push('\n');
    let base = names.iter().position(|&n| n == "crun");
    for (title, figures) in rows {
        let _ = write!(text, "{title:<22}");
        let reference = base.and_then(|i| figures.get(i).copied().flatten());
        for figure in figures {
            let _ = write!(text, "{:>22}", cell(figure, reference));
        }
        text.push('\n');
    }
    text
}

/// A figure with its ratio to crun's.
fn cell(figure: Option<f64>, reference: Option<f64>) -> String {
    match (figure, reference) {
        (None, _) => "-".into(),
        (Some(value), Some(reference)) if reference > 0.0 => {
            format!("{value:.2} ({:.2})", value / reference)
        }
        (Some(value), _) => format!("{value:.2}"),
    }
}

/// What was to be reached, and whether it was; the second part counts the misses.
pub fn verdicts(results: &Value) -> (String, usize) {
    let find = |name: &str| {
        let programs = results["programs"].as_array()?;
        programs.iter().find(|p| p["name"] == name)
    };
    let (Some(hull), Some(crun)) = (find("hull"), find("crun")) else {
        return ("no verdict: hull or crun was not measured\n".into(), 0);
    };
    let mut text = String::new();
    let mut missed = 0;
    let mut judge = |what: String, ratio: Option<f64>, limit: f64| {
        let Some(ratio) = ratio else { return };
        let reached = ratio <= limit;
        missed += usize::from(!reached);
        let word = if reached { "reached" } else { "MISSED" };
        let _ = writeln!(
            text,
            "{word}: {what}: {ratio:.2} of crun's, at most {limit} wanted"
        );
    };
    for (step, kind, limit) in TARGETS {
        let median = |p: &Value| p[kind][step]["median"].as_f64();
        let ratio = median(hull).zip(median(crun)).map(|(a, b)| a / b);
        judge(
            format!("{step} {}", kind.trim_end_matches("_ms")),
            ratio,
            limit,
        );
    }
    let limit = |p: &Value| p["smallest_limit"].as_f64();
    let ratio = limit(hull).zip(limit(crun)).map(|(a, b)| a / b);
    judge("smallest memory limit".into(), ratio, 1.0);
    (text, missed)
}
