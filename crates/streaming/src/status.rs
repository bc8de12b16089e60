//! The end of an exec as the error stream tells it: Kubernetes' metav1.Status, or a line of text
//! in the protocols before version 4.

use serde::{Deserialize, Serialize};

/// What the error stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The command ran; its exit code.
    Exit(i32),
    /// It did not, or the streams broke.
    Failed(String),
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Status {
    metadata: Metadata,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "is_zero")]
    code: i32,
}

#[derive(Serialize, Deserialize, Default)]
struct Metadata {}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Cause {
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    message: String,
}

fn is_zero(code: &i32) -> bool {
    *code == 0
}

impl Outcome {
    /// What goes on the error stream. Nothing, for success before version 4.
    #[must_use]
    pub fn encode(&self, json: bool) -> String {
        if json {
            // Strings and numbers always are JSON.
            return serde_json::to_string(&self.status()).unwrap_or_default();
        }
        match self {
            Outcome::Exit(0) => String::new(),
            Outcome::Exit(code) => format!("command terminated with exit code {code}"),
            Outcome::Failed(reason) => reason.clone(),
        }
    }

    fn status(&self) -> Status {
        match self {
            Outcome::Exit(0) => Status {
                status: "Success".to_owned(),
                ..Status::default()
            },
            Outcome::Exit(code) => Status {
                status: "Failure".to_owned(),
                message: format!("command terminated with non-zero exit code: exit status {code}"),
                reason: "NonZeroExitCode".to_owned(),
                details: Some(Details {
                    causes: vec![Cause {
                        reason: "ExitCode".to_owned(),
                        message: code.to_string(),
                    }],
                }),
                ..Status::default()
            },
            Outcome::Failed(reason) => Status {
                status: "Failure".to_owned(),
                message: format!("Internal error occurred: {reason}"),
                reason: "InternalError".to_owned(),
                details: Some(Details {
                    causes: vec![Cause {
                        message: reason.clone(),
                        ..Cause::default()
                    }],
                }),
                code: 500,
                ..Status::default()
            },
        }
    }

    /// Reads an error stream that has ended.
    #[must_use]
    pub fn decode(text: &str, json: bool) -> Self {
        if text.is_empty() && !json {
            return Outcome::Exit(0);
        }
        let status = match serde_json::from_str::<Status>(text) {
            Ok(status) if json => status,
            _ if text.is_empty() => {
                return Outcome::Failed("the server ended without saying how".to_owned());
            }
            _ => return old_text(text),
        };
        if status.status == "Success" {
            return Outcome::Exit(0);
        }
        let causes = status.details.map(|d| d.causes).unwrap_or_default();
        let code = causes.iter().find(|c| c.reason == "ExitCode");
        match code.and_then(|c| c.message.parse().ok()) {
            Some(code) if status.reason == "NonZeroExitCode" => Outcome::Exit(code),
            _ => Outcome::Failed(status.message),
        }
    }
}

/// Servers before version 4 say the exit code as the last word of a text.
fn old_text(text: &str) -> Outcome {
    let code = text
        .rsplit_once("exit code ")
        .or_else(|| text.rsplit_once("exit status "))
        .and_then(|(_, code)| code.trim().parse().ok());
    code.map_or_else(|| Outcome::Failed(text.trim().to_owned()), Outcome::Exit)
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn as_kubernetes_writes_it() {
        let table = [
            (Outcome::Exit(0), r#"{"metadata":{},"status":"Success"}"#),
            (
                Outcome::Exit(3),
                r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#,
            ),
            (
                Outcome::Failed("no sh".to_owned()),
                r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: no sh","reason":"InternalError","details":{"causes":[{"message":"no sh"}]},"code":500}"#,
            ),
        ];
        for (outcome, json) in table {
            assert_eq!(outcome.encode(true), json);
            let back = Outcome::decode(json, true);
            match outcome {
                Outcome::Exit(_) => assert_eq!(back, outcome),
                Outcome::Failed(_) => {
                    assert!(matches!(back, Outcome::Failed(m) if m.ends_with("no sh")))
                }
            }
        }
    }

    #[test]
    fn before_version_4() {
        for outcome in [
            Outcome::Exit(0),
            Outcome::Exit(42),
            Outcome::Failed("why".to_owned()),
        ] {
            assert_eq!(Outcome::decode(&outcome.encode(false), false), outcome);
        }
        assert!(matches!(Outcome::decode("", true), Outcome::Failed(_)));
    }
}
