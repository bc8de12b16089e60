//! The calls, one by one.

use std::pin::Pin;

use cri_api::v1;
use cri_api::v1::runtime_service_server::RuntimeService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{RuntimeApi, events, filter, objects};
use crate::error::{in_time, status};

type Answer<T> = Result<Response<T>, Status>;
type Many<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many items one message of a stream carries.
const CHUNK: usize = 256;
/// How many events wait for a slow reader before the journal is asked again.
const EVENTS: usize = 64;

fn answer<T>(result: pods::Result<T>) -> Answer<T> {
    result.map(Response::new).map_err(status)
}

fn address(left: Result<String, streaming::Error>) -> Result<String, Status> {
    left.map_err(|e| Status::resource_exhausted(e.to_string()))
}

fn chunks<T: Clone + Send + 'static, M: Send + 'static>(
    all: Vec<T>,
    message: impl Fn(Vec<T>) -> M + Send + 'static,
) -> Answer<Many<M>> {
    let parts: Vec<Vec<T>> = all.chunks(CHUNK).map(<[T]>::to_vec).collect();
    Ok(Response::new(Box::pin(
        tokio_stream::iter(parts).map(move |part| Ok(message(part))),
    )))
}

#[tonic::async_trait]
impl RuntimeService for RuntimeApi {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        Ok(Response::new(self.about_version()))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let (metadata, from, r) = request.into_parts();
        let config = r.config.unwrap_or_default();
        let mut asked = self
            .audit
            .asked(&from, "RunPodSandbox", objects::new_pod(&config));
        let work = self.engine.run_pod(config, r.runtime_handler);
        let made = in_time(self.engine.operations(), &metadata, "RunPodSandbox", work).await;
        made.iter().for_each(|id| asked.made(id));
        let pod_sandbox_id = asked.done(made)?;
        Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let (metadata, from, r) = request.into_parts();
        let asked = self.asked_of_pod(&from, "StopPodSandbox", &r.pod_sandbox_id);
        let work = self.engine.stop_pod(&r.pod_sandbox_id, asked.by());
        asked.done(in_time(self.engine.operations(), &metadata, "StopPodSandbox", work).await)?;
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let (metadata, from, r) = request.into_parts();
        let asked = self.asked_of_pod(&from, "RemovePodSandbox", &r.pod_sandbox_id);
        let work = self.engine.remove_pod(&r.pod_sandbox_id, asked.by());
        asked.done(
            in_time(
                self.engine.operations(),
                &metadata,
                "RemovePodSandbox",
                work,
            )
            .await,
        )?;
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let r = request.into_inner();
        answer(self.pod_status(&r.pod_sandbox_id, r.verbose))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let items = self.list_pods(request.into_inner().filter.as_ref());
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    type StreamPodSandboxesStream = Many<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let all = self.list_pods(request.into_inner().filter.as_ref());
        chunks(all, |pod_sandboxes| v1::StreamPodSandboxesResponse {
            pod_sandboxes,
        })
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let (metadata, from, r) = request.into_parts();
        let config = r.config.unwrap_or_default();
        let object = self.new_container(&r.pod_sandbox_id, &config);
        let mut asked = self.audit.asked(&from, "CreateContainer", object);
        let work = self
            .engine
            .create_container(&r.pod_sandbox_id, config, r.sandbox_config);
        let made = in_time(self.engine.operations(), &metadata, "CreateContainer", work).await;
        made.iter().for_each(|id| asked.made(id));
        let container_id = asked.done(made)?;
        Ok(Response::new(v1::CreateContainerResponse { container_id }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let (metadata, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "StartContainer", &r.container_id);
        let work = self.engine.start_container(&r.container_id);
        asked.done(in_time(self.engine.operations(), &metadata, "StartContainer", work).await)?;
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let (metadata, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "StopContainer", &r.container_id);
        let asked = asked.with(format!("timeout {} s", r.timeout));
        let (id, by) = (&r.container_id, asked.by());
        let work = self.engine.stop_container(id, r.timeout, by);
        asked.done(in_time(self.engine.operations(), &metadata, "StopContainer", work).await)?;
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let (metadata, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "RemoveContainer", &r.container_id);
        let work = self.engine.remove_container(&r.container_id, asked.by());
        asked.done(in_time(self.engine.operations(), &metadata, "RemoveContainer", work).await)?;
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let containers = self.list_containers(request.into_inner().filter.as_ref());
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    type StreamContainersStream = Many<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let all = self.list_containers(request.into_inner().filter.as_ref());
        chunks(all, |containers| v1::StreamContainersResponse {
            containers,
        })
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let r = request.into_inner();
        answer(self.container_status(&r.container_id, r.verbose))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let (_, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "UpdateContainerResources", &r.container_id);
        let limits = r.linux.unwrap_or_default();
        let asked = asked.with(objects::limits(&limits));
        let done = self.engine.update_container(&r.container_id, limits).await;
        asked.done(answer(
            done.map(|()| v1::UpdateContainerResourcesResponse {}),
        ))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let (_, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "ReopenContainerLog", &r.container_id);
        let done = self.engine.reopen_log(&r.container_id).await;
        asked.done(answer(done.map(|()| v1::ReopenContainerLogResponse {})))
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        let (_, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "ExecSync", &r.container_id);
        let asked = asked.with(r.cmd.join(" "));
        let done = self.engine.exec_sync(&r.container_id, r.cmd, r.timeout);
        asked.done(answer(done.await))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let (_, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "Exec", &r.container_id);
        let asked = asked.with(r.cmd.join(" "));
        let request = self.exec_request(r).map_err(status);
        let url = asked.done(request.and_then(|r| address(self.streams.exec_url(r))))?;
        Ok(Response::new(v1::ExecResponse { url }))
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let (_, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "Attach", &r.container_id);
        let request = self.attach_request(&r).map_err(status);
        let url = asked.done(request.and_then(|r| address(self.streams.attach_url(r))))?;
        Ok(Response::new(v1::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        let (_, from, r) = request.into_parts();
        let asked = self.asked_of_pod(&from, "PortForward", &r.pod_sandbox_id);
        let asked = asked.with(format!("ports {:?}", r.port));
        let request = self.forward_request(&r).map_err(status);
        let url = request.and_then(|r| address(self.streams.port_forward_url(r)));
        let url = asked.done(url)?;
        Ok(Response::new(v1::PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        let stats = self
            .engine
            .container_stats(&request.into_inner().container_id)
            .await;
        answer(stats.map(|stats| v1::ContainerStatsResponse { stats: Some(stats) }))
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        let stats = self
            .all_container_stats(request.into_inner().filter.as_ref())
            .await;
        Ok(Response::new(v1::ListContainerStatsResponse { stats }))
    }

    type StreamContainerStatsStream = Many<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let all = self
            .all_container_stats(request.into_inner().filter.as_ref())
            .await;
        chunks(all, |container_stats| v1::StreamContainerStatsResponse {
            container_stats,
        })
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        let stats = self
            .engine
            .pod_stats(&request.into_inner().pod_sandbox_id)
            .await;
        answer(stats.map(|stats| v1::PodSandboxStatsResponse { stats: Some(stats) }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        let stats = self
            .all_pod_stats(request.into_inner().filter.as_ref())
            .await;
        Ok(Response::new(v1::ListPodSandboxStatsResponse { stats }))
    }

    type StreamPodSandboxStatsStream = Many<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let all = self
            .all_pod_stats(request.into_inner().filter.as_ref())
            .await;
        chunks(all, |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse {
            pod_sandbox_stats,
        })
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        let (_, from, r) = request.into_parts();
        let config = r.runtime_config.unwrap_or_default();
        let cidr = config.network_config.unwrap_or_default().pod_cidr;
        let asked = self
            .audit
            .asked(&from, "UpdateRuntimeConfig", objects::runtime());
        let asked = asked.with(format!("pod CIDR {cidr}"));
        let done = self.set_pod_cidr(&cidr).await;
        asked.done(answer(done.map(|()| v1::UpdateRuntimeConfigResponse {})))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        Ok(Response::new(
            self.about_status(request.into_inner().verbose).await,
        ))
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        let (_, from, r) = request.into_parts();
        let asked = self.asked_of_container(&from, "CheckpointContainer", &r.container_id);
        let asked = asked.with(format!("to {}", r.location));
        let done = self
            .checkpoint(&r.container_id, &r.location, r.timeout)
            .await;
        asked.done(answer(done.map(|()| v1::CheckpointContainerResponse {})))
    }

    type GetContainerEventsStream = Many<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(events::follow(
            self.engine.clone(),
            self.engine.journal().last(),
            sender,
        ));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        let descriptors = pods::metrics::descriptors();
        Ok(Response::new(v1::ListMetricDescriptorsResponse {
            descriptors,
        }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        let pod_metrics = self.engine.pod_metrics().await;
        Ok(Response::new(v1::ListPodSandboxMetricsResponse {
            pod_metrics,
        }))
    }

    type StreamPodSandboxMetricsStream = Many<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let all = self.engine.pod_metrics().await;
        chunks(all, |pod_sandbox_metrics| {
            v1::StreamPodSandboxMetricsResponse {
                pod_sandbox_metrics,
            }
        })
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        Ok(Response::new(self.runtime_config()))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        let (_, from, r) = request.into_parts();
        let asked = self.asked_of_pod(&from, "UpdatePodSandboxResources", &r.pod_sandbox_id);
        let asked = asked.with(objects::limits(&r.resources.clone().unwrap_or_default()));
        let done = self
            .engine
            .update_pod(&r.pod_sandbox_id, r.overhead, r.resources)
            .await;
        asked.done(answer(
            done.map(|()| v1::UpdatePodSandboxResourcesResponse {}),
        ))
    }
}

impl RuntimeApi {
    async fn all_container_stats(
        &self,
        asked: Option<&v1::ContainerStatsFilter>,
    ) -> Vec<v1::ContainerStats> {
        let all = self.engine.containers().into_iter();
        self.engine
            .stats_of(
                all.filter(|c| filter::container_stats(asked, &c.summary()))
                    .collect(),
            )
            .await
    }

    async fn all_pod_stats(
        &self,
        asked: Option<&v1::PodSandboxStatsFilter>,
    ) -> Vec<v1::PodSandboxStats> {
        let all = self.engine.pods().into_iter();
        self.engine
            .stats_of_pods(
                all.filter(|p| filter::pod_stats(asked, &p.summary()))
                    .collect(),
            )
            .await
    }
}
