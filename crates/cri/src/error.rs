//! From our errors to gRPC's.

use std::future::Future;
use std::time::Duration;

use pods::operation::Operations;
use pods::{Error, Kind};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// The status of an error.
pub(crate) fn status(error: Error) -> Status {
    let code = match error.kind() {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Exists => Code::AlreadyExists,
        Kind::State => Code::FailedPrecondition,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Deadline => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Failed => Code::Unknown,
    };
    Status::new(code, error.to_string())
}

/// Waits for an operation, but not longer than its caller does: then tells where it is. It goes
/// on by itself, and a retry joins it.
pub(crate) async fn in_time<T>(
    operations: &Operations,
    metadata: &MetadataMap,
    kind: &'static str,
    work: impl Future<Output = pods::Result<T>>,
) -> Result<T, Status> {
    // Some of it is kept for the answer's way.
    let own = |time: Duration| time - (time / 10).min(Duration::from_secs(1));
    let Some(time) = timeout(metadata).map(own) else {
        return work.await.map_err(status);
    };
    match tokio::time::timeout(time, work).await {
        Ok(result) => result.map_err(status),
        Err(_) => {
            let place = operations
                .describe(kind, "")
                .unwrap_or_else(|| kind.to_owned());
            Err(Status::deadline_exceeded(place))
        }
    }
}

/// The caller's time (gRPC over HTTP/2, `grpc-timeout`).
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count.checked_mul(3600)?)),
        "M" => Some(Duration::from_secs(count.checked_mul(60)?)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_time() {
        let of = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(of("2S"), Some(Duration::from_secs(2)));
        assert_eq!(of("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(of("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(of("x"), None);
        assert_eq!(of("99999999999999999999S"), None);
        assert_eq!(timeout(&MetadataMap::new()), None);
    }
}
