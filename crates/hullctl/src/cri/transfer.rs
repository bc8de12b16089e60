//! How far a pull is, while it runs. The CRI has no call for that; hulld tells it in the verbose
//! part of `Status`, and of a runtime that does not nothing is shown.

use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::Duration;

use cri_api::v1;
use serde_json::Value;

use super::client::Cri;
use super::output::human_size;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// Waits for a pull, and shows how far it is: on a terminal, or if it `must`.
pub async fn shown<T>(cri: &Cri, image: &str, must: bool, pull: impl Future<Output = T>) -> T {
    let terminal = std::io::stderr().is_terminal();
    let mut pull = pin!(pull);
    if !terminal && !must {
        return pull.await;
    }
    let mut last = String::new();
    loop {
        if let Ok(result) = tokio::time::timeout(EVERY, &mut pull).await {
            if terminal && !last.is_empty() {
                show("", true);
            }
            return result;
        }
        // The pull goes on in the runtime while it is asked.
        if let Some(text) = look(cri, image).await
            && text != last
        {
            show(&text, terminal);
            last = text;
        }
    }
}

/// What the runtime tells about the pull of an image.
async fn look(cri: &Cri, image: &str) -> Option<String> {
    let request = v1::StatusRequest { verbose: true };
    let asked = look!(cri, "status of the runtime", runtime.status(request));
    let operations: Value = serde_json::from_str(asked.ok()?.info.get("operations")?).ok()?;
    let is_ours = |o: &&Value| {
        let subject = o["subject"].as_str().unwrap_or_default();
        o["operation"] == "PullImage" && subject.contains(image)
    };
    operations
        .as_array()?
        .iter()
        .find(is_ours)
        .and_then(describe)
}

fn describe(operation: &Value) -> Option<String> {
    let number = |key: &str| operation[key].as_u64();
    let expected = number("bytesExpected").filter(|&n| n > 0)?;
    Some(format!(
        "{}: {} of {}",
        operation["stage"].as_str()?,
        human_size(number("bytes")?, 3),
        human_size(expected, 3),
    ))
}

fn show(text: &str, terminal: bool) {
    let mut err = std::io::stderr().lock();
    // Nothing can be told if nobody reads.
    let _ = match terminal {
        true => write!(err, "\r\x1b[K{text}"),
        false => writeln!(err, "{text}"),
    };
    let _ = err.flush();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_pull_in_words() {
        let operation = json!({
            "operation": "PullImage", "subject": "a.example/b:1", "stage": "layers",
            "bytes": 1_500_000, "bytesExpected": 3_000_000,
        });
        let text = super::describe(&operation).unwrap();
        assert_eq!(text, "layers: 1.5MB of 3MB");
        assert_eq!(
            super::describe(&json!({"bytes": 0, "bytesExpected": 0})),
            None
        );
    }
}
