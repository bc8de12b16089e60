//! GetContainerEvents: the journal from now on, each event with how things are.

use std::sync::Arc;

use cri_api::v1;
use pods::journal::{Event, What};
use pods::{Container, Engine};
use tokio::sync::mpsc;
use tonic::Status;

use crate::error::status;

/// Sends events until the caller goes. One who does not read is told so instead of missing some.
pub(super) async fn follow(
    engine: Engine,
    mut seen: u64,
    to: mpsc::Sender<Result<v1::ContainerEventResponse, Status>>,
) {
    loop {
        tokio::select! {
            () = engine.journal().wait(seen) => {}
            () = to.closed() => return,
        }
        let events = match engine.journal().after(seen) {
            Ok(events) => events,
            Err(gap) => {
                // Nobody is left to tell if this fails.
                let _ = to.send(Err(status(gap))).await;
                return;
            }
        };
        for event in events {
            seen = event.number;
            if to.send(Ok(response(&engine, &event))).await.is_err() {
                return;
            }
        }
    }
}

fn response(engine: &Engine, event: &Arc<Event>) -> v1::ContainerEventResponse {
    let kind = match event.what {
        What::Created => v1::ContainerEventType::ContainerCreatedEvent,
        What::Started => v1::ContainerEventType::ContainerStartedEvent,
        What::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
        What::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    };
    v1::ContainerEventResponse {
        container_id: event.container.clone(),
        container_event_type: kind.into(),
        created_at: event.time,
        pod_sandbox_status: engine.pod(&event.pod).ok().map(|p| p.status()),
        containers_statuses: newest_first(&engine.containers_of(&event.pod)),
    }
}

/// How containers are. A kubelet takes the first of a name for the present one.
pub(super) fn newest_first(containers: &[Arc<Container>]) -> Vec<v1::ContainerStatus> {
    containers.iter().rev().map(|c| c.status()).collect()
}
