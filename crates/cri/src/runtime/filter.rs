//! What lists leave out.

use std::collections::BTreeMap;

use cri_api::v1;

fn labels(wanted: &BTreeMap<String, String>, have: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| have.get(key) == Some(value))
}

/// An empty word, or the beginning of an id, fits it.
fn id(wanted: &str, have: &str) -> bool {
    have.starts_with(wanted)
}

pub(super) fn pod(filter: Option<&v1::PodSandboxFilter>, pod: &v1::PodSandbox) -> bool {
    filter.is_none_or(|f| {
        id(&f.id, &pod.id)
            && f.state.is_none_or(|s| s.state == pod.state)
            && labels(&f.label_selector, &pod.labels)
    })
}

pub(super) fn container(filter: Option<&v1::ContainerFilter>, container: &v1::Container) -> bool {
    filter.is_none_or(|f| {
        id(&f.id, &container.id)
            && id(&f.pod_sandbox_id, &container.pod_sandbox_id)
            && f.state.is_none_or(|s| s.state == container.state)
            && labels(&f.label_selector, &container.labels)
    })
}

pub(super) fn pod_stats(filter: Option<&v1::PodSandboxStatsFilter>, pod: &v1::PodSandbox) -> bool {
    filter.is_none_or(|f| id(&f.id, &pod.id) && labels(&f.label_selector, &pod.labels))
}

pub(super) fn container_stats(
    filter: Option<&v1::ContainerStatsFilter>,
    container: &v1::Container,
) -> bool {
    filter.is_none_or(|f| {
        id(&f.id, &container.id)
            && id(&f.pod_sandbox_id, &container.pod_sandbox_id)
            && labels(&f.label_selector, &container.labels)
    })
}
