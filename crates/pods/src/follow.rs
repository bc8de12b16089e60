//! What supervisors tell without being asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use supervise::Client;
use supervise::protocol::{Event, What as Told};

use crate::container::Phase;
use crate::engine::Engine;
use crate::error::Result;
use crate::operation::lock;
use crate::pod::Pod;
use crate::supervisor::{Readable, blocking, translate};

/// Between two tries to have a supervisor again.
const PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    /// Listens to a pod's supervisor for as long as the pod exists, and starts another one when
    /// it was killed.
    pub(crate) fn follow(&self, pod: Arc<Pod>) {
        let engine = self.clone();
        tokio::spawn(async move {
            while !pod.ending.load(Ordering::SeqCst) {
                let Err(error) = engine.listen(&pod).await;
                if pod.ending.load(Ordering::SeqCst) {
                    return;
                }
                tracing::warn!(pod = %pod.name(), %error, "its supervisor does not answer");
                if let Err(error) = engine.revive(&pod).await {
                    tracing::error!(pod = %pod.name(), %error, "no other supervisor could be had");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }

    async fn listen(&self, pod: &Arc<Pod>) -> Result<std::convert::Infallible> {
        let dir = pod.dir.clone();
        let connect = move || {
            let mut client = Client::connect(&dir)?;
            client.subscribe(0)?;
            Ok(client)
        };
        let mut client =
            blocking(move || connect().map_err(|e: supervise::Error| translate(&e))).await?;
        let readable = Readable::new(&client)?;
        let mut last = None;
        loop {
            let events;
            (client, events) = take(client, last).await?;
            last = events.last().map(|e| e.number);
            if last.is_none() {
                readable.wait().await?;
            }
            for event in events {
                self.told(pod, event).await?;
            }
        }
    }

    async fn told(&self, pod: &Arc<Pod>, event: Event) -> Result<()> {
        if event.id == pod.id {
            if let Told::Exited(exit) = event.what {
                if exit.killed_by.is_none() {
                    tracing::warn!(pod = %pod.name(), reason = %exit.reason, "its sandbox has ended by itself");
                }
                self.sandbox_ended(pod).await?;
            }
            return Ok(());
        }
        let found = lock(&self.0.tables).containers.get(&event.id).cloned();
        let Some(container) = found else {
            return Ok(());
        };
        match event.what {
            Told::Exited(exit) => self.container_exited(&container, exit).await,
            Told::Started if container.phase() == Phase::Created => {
                let engine = self.clone();
                blocking(move || engine.note_started(&container)).await
            }
            Told::LogTrouble(reason) => {
                tracing::error!(container = %container.name(), %reason, "its log is not written");
                Ok(())
            }
            Told::Oom(count) => {
                tracing::warn!(container = %container.name(), count, "out of memory");
                Ok(())
            }
            Told::Created(_) | Told::Started | Told::Deleted => Ok(()),
        }
    }
}

/// Acknowledges what was acted on, and takes what has come.
async fn take(mut client: Client, acted_on: Option<u64>) -> Result<(Client, Vec<Event>)> {
    blocking(move || {
        let mut all = Vec::new();
        let mut next = || {
            if let Some(number) = acted_on {
                client.acknowledge(number)?;
            }
            while let Some(event) = client.next_event(Duration::ZERO)? {
                all.push(event);
            }
            Ok(())
        };
        next().map_err(|e: supervise::Error| translate(&e))?;
        Ok((client, all))
    })
    .await
}
