//! The connection to a runtime: clients, deadlines, errors of one line.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cri_api::MESSAGE_LIMIT;
use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::output::one_line;
use super::settings::Settings;

/// What runtimes may answer with: lists of thousands of containers.
const ANSWER_LIMIT: usize = 4 * MESSAGE_LIMIT;
/// Calls that only look take no longer, unless another time was asked for.
const LOOK: Duration = Duration::from_secs(30);

/// The runtime service's client.
pub type Runtime = RuntimeServiceClient<Channel>;
/// The image service's client.
pub type Images = ImageServiceClient<Channel>;

/// A runtime, as its settings name it.
#[derive(Debug, Clone)]
pub struct Cri {
    /// As they were found.
    pub settings: Settings,
    runtime: Channel,
    images: Channel,
}

impl Cri {
    /// Prepares; the first call connects.
    pub fn new(settings: Settings) -> Result<Self> {
        let channel = |path: &Path| {
            cri_api::connect(path).with_context(|| format!("connect to {}", path.display()))
        };
        Ok(Cri {
            runtime: channel(&settings.runtime)?,
            images: channel(&settings.images)?,
            settings,
        })
    }

    /// For calls about pods and containers.
    pub fn runtime(&self) -> Runtime {
        Runtime::new(self.runtime.clone()).max_decoding_message_size(ANSWER_LIMIT)
    }

    /// For calls about images.
    pub fn images(&self) -> Images {
        Images::new(self.images.clone()).max_decoding_message_size(ANSWER_LIMIT)
    }

    /// Makes a call that only looks.
    pub async fn look<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let limit = self.settings.timeout.unwrap_or(LOOK);
        self.within(Some(limit), what, call).await
    }

    /// Makes a call that does something: it takes the time it takes.
    pub async fn act<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.within(None, what, call).await
    }

    /// Makes a call with a deadline. A call that found nobody at the socket is made again.
    pub async fn within<T, F>(
        &self,
        limit: Option<Duration>,
        what: &str,
        call: impl Fn() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        if self.settings.debug {
            eprintln!("hullctl: {what}");
        }
        let mut pause = Duration::from_millis(100);
        let mut left = self.settings.retries;
        let calls = async {
            loop {
                match call().await {
                    Err(e) if left > 0 && is_nobody(&e) => {
                        left -= 1;
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    result => return result,
                }
            }
        };
        let result = match limit {
            None => calls.await,
            Some(limit) => match tokio::time::timeout(limit, calls).await {
                Ok(result) => result,
                Err(_) => {
                    return Err(anyhow!(
                        "{what}: no answer from {} within {limit:?}; -t waits longer",
                        self.settings.runtime.display()
                    ));
                }
            },
        };
        result
            .map(Response::into_inner)
            .map_err(|status| self.error(what, &status))
    }

    /// A status as one line.
    pub fn error(&self, what: &str, status: &Status) -> anyhow::Error {
        if is_nobody(status) {
            return anyhow!(
                "{what}: nobody answers at {}; is the runtime running?",
                self.settings.runtime.display()
            );
        }
        let message = one_line(status.message());
        match status.code() {
            Code::Unimplemented => anyhow!("{what}: this runtime cannot ({message})"),
            Code::Unknown => anyhow!("{what}: {message}"),
            code => anyhow!("{what}: {message} ({code:?})"),
        }
    }
}

/// No connection could be made: nothing was asked yet. What a runtime itself answers has no
/// source.
fn is_nobody(status: &Status) -> bool {
    status.code() == Code::Unavailable && std::error::Error::source(status).is_some()
}
