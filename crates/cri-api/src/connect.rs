//! The way to a runtime's socket.

use std::path::Path;

use tonic::transport::{Channel, Endpoint, Error};

/// The largest message either side takes, as the kubelet has it.
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// A channel to the runtime that listens on the Unix socket `path`; it connects with its first
/// call and again when the runtime was restarted.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cri_api::v1::{VersionRequest, runtime_service_client::RuntimeServiceClient};
/// let channel = cri_api::connect("/run/hull/hulld.sock".as_ref())?;
/// let mut client = RuntimeServiceClient::new(channel)
///     .max_decoding_message_size(cri_api::MESSAGE_LIMIT);
/// let version = client.version(VersionRequest::default()).await?;
/// # Ok(()) }
/// ```
pub fn connect(path: &Path) -> Result<Channel, Error> {
    Ok(Endpoint::try_from(format!("unix://{}", path.display()))?.connect_lazy())
}
