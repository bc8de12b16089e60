//! ImageService over the store of images and the registries.

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use cri_api::v1::image_service_server::ImageService;
use cri_api::v1::{self, AuthConfig};
use image::config::Credentials;
use image::registry::Access;
use image::store::{Event, ImageRecord, PullOptions, Store};
use image::{Digest, Reference};
use pods::operation::Operations;
use serde_json::json;
use tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::audit::{Audit, Object};
use crate::error::in_time;
use crate::runtime::now;
use crate::transfer::Transfer;

type Answer<T> = Result<Response<T>, Status>;
type Many<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many items one message of a stream carries.
const CHUNK: usize = 256;

/// ImageService.
#[derive(Clone, Debug)]
pub struct ImageApi {
    store: Arc<Store>,
    access: Arc<RwLock<Arc<Access>>>,
    operations: Arc<Operations>,
    audit: Arc<Audit>,
    /// Names of images that are not collected; `*` at the end stands for anything.
    pinned: Arc<RwLock<Vec<String>>>,
}

fn status(error: &image::Error) -> Status {
    use image::Error as E;
    let text = error.to_string();
    match error {
        E::Digest { .. } | E::Reference { .. } => Status::invalid_argument(text),
        e if e.is_missing() => Status::not_found(text),
        E::Refused { .. } => Status::permission_denied(text),
        E::Busy { .. } => Status::failed_precondition(text),
        e if e.is_transient() => Status::unavailable(text),
        _ => Status::unknown(text),
    }
}

fn failed(error: &image::Error) -> pods::Error {
    let kind = match error {
        image::Error::Digest { .. } | image::Error::Reference { .. } => pods::Kind::Invalid,
        e if e.is_missing() => pods::Kind::NotFound,
        e if e.is_transient() => pods::Kind::Unavailable,
        _ => pods::Kind::Failed,
    };
    pods::Error::new(kind, error.to_string())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> image::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Status::internal(e.to_string()))?
        .map_err(|e| status(&e))
}

impl ImageApi {
    /// The service over a store.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        access: Access,
        operations: Arc<Operations>,
        audit: Arc<Audit>,
    ) -> Self {
        Self {
            store,
            access: Arc::new(RwLock::new(Arc::new(access))),
            operations,
            audit,
            pinned: Arc::default(),
        }
    }

    /// Pins the images of these names, now and when they are pulled.
    pub async fn pin(&self, names: Vec<String>) {
        *self.pinned.write().unwrap_or_else(PoisonError::into_inner) = names;
        let (images, store) = (self.clone(), Arc::clone(&self.store));
        let all = blocking(move || {
            let all = store.images()?;
            all.iter().try_for_each(|image| images.pin_if_named(image))
        });
        if let Err(error) = all.await {
            tracing::warn!(error = error.message(), "images could not be pinned");
        }
    }

    fn pin_if_named(&self, image: &ImageRecord) -> image::Result<()> {
        let pinned = self.pinned.read().unwrap_or_else(PoisonError::into_inner);
        let fits = |name: &String| {
            pinned.iter().any(|p| {
                p.strip_suffix('*')
                    .map_or(p == name, |start| name.starts_with(start))
            })
        };
        if !image.pinned && image.names.iter().any(fits) {
            self.store.pin(&image.id, true)?;
        }
        Ok(())
    }

    /// Registries as they are configured now, for pulls from now on.
    pub fn reload(&self, access: Access) {
        *self.access.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    async fn list(&self, filter: Option<v1::ImageFilter>) -> Result<Vec<v1::Image>, Status> {
        let store = Arc::clone(&self.store);
        blocking(move || {
            let wanted = filter.and_then(|f| f.image).unwrap_or_default().image;
            if wanted.is_empty() {
                return Ok(store.images()?.iter().map(describe).collect());
            }
            match store.find(&wanted) {
                Ok(found) => Ok(vec![describe(&found)]),
                Err(e) if e.is_missing() => Ok(Vec::new()),
                // Not a name at all: nothing has it.
                Err(image::Error::Reference { .. }) => Ok(Vec::new()),
                Err(e) => Err(e),
            }
        })
        .await
    }

    /// Pulls an image; a second request for the same one joins the first.
    async fn pull(
        &self,
        metadata: &MetadataMap,
        spec: v1::ImageSpec,
        auth: Option<AuthConfig>,
    ) -> Result<String, Status> {
        let reference = Reference::parse(&spec.image).map_err(|e| status(&e))?;
        let current = Arc::clone(&self.access.read().unwrap_or_else(PoisonError::into_inner));
        let access = match auth.and_then(credentials).transpose()? {
            Some(given) => Access::clone(&current).with_credentials(Some(given)),
            None => Access::clone(&current),
        };
        let (images, store) = (self.clone(), Arc::clone(&self.store));
        let (subject, key) = (reference.to_string(), format!("pull/{reference}"));
        let pulled = self
            .operations
            .run("PullImage", &subject, key, |operation| async move {
                operation.stage("manifest");
                let work = move || -> image::Result<ImageRecord> {
                    let source = access.source(&reference)?;
                    let transfer = Transfer::new(&operation);
                    let progress = |event: Event<'_>| transfer.tell(&event);
                    let options = PullOptions {
                        progress: Some(&progress),
                        ..PullOptions::default()
                    };
                    let record = store.pull(&source, &reference, &options)?;
                    images.pin_if_named(&record)?;
                    Ok(record)
                };
                match tokio::task::spawn_blocking(work).await {
                    Ok(Ok(record)) => Ok(record.id.to_string()),
                    Ok(Err(e)) => Err((failed(&e), None)),
                    Err(e) => Err((pods::Error::new(pods::Kind::Failed, e.to_string()), None)),
                }
            });
        in_time(&self.operations, metadata, "PullImage", pulled).await
    }
}

/// What a request has to log in with.
fn credentials(auth: AuthConfig) -> Option<Result<Credentials, Status>> {
    if !auth.registry_token.is_empty() {
        return Some(Ok(Credentials::Bearer(auth.registry_token)));
    }
    if !auth.identity_token.is_empty() {
        return Some(Ok(Credentials::Identity(auth.identity_token)));
    }
    if !auth.auth.is_empty() {
        let given = Credentials::from_base64(&auth.auth);
        return Some(given.map_err(|e| Status::invalid_argument(format!("auth: {e}"))));
    }
    let AuthConfig {
        username: user,
        password,
        ..
    } = auth;
    (!user.is_empty()).then_some(Ok(Credentials::Basic { user, password }))
}

/// What the audit log calls an image: as it was asked for; its id once that is known.
fn object(name: &str) -> Object {
    Object {
        kind: "image",
        id: String::new(),
        name: name.to_owned(),
    }
}

fn describe(record: &ImageRecord) -> v1::Image {
    let user = record.user.split(':').next().unwrap_or_default();
    let number = user.parse::<i64>().ok();
    v1::Image {
        id: record.id.to_string(),
        repo_tags: record.names.iter().cloned().collect(),
        repo_digests: record.digests.iter().cloned().collect(),
        size: record.size,
        uid: match (user, number) {
            ("", _) => Some(v1::Int64Value { value: 0 }),
            (_, Some(value)) => Some(v1::Int64Value { value }),
            (_, None) => None,
        },
        username: if number.is_some() {
            String::new()
        } else {
            user.to_owned()
        },
        spec: None,
        pinned: record.pinned,
    }
}

#[tonic::async_trait]
impl ImageService for ImageApi {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        let images = self.list(request.into_inner().filter).await?;
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    type StreamImagesStream = Many<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        let all = self.list(request.into_inner().filter).await?;
        let parts: Vec<_> = all
            .chunks(CHUNK)
            .map(|images| {
                Ok(v1::StreamImagesResponse {
                    images: images.to_vec(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let r = request.into_inner();
        let name = r.image.unwrap_or_default().image;
        if name.is_empty() {
            return Err(Status::invalid_argument("ImageStatus: no image given"));
        }
        let store = Arc::clone(&self.store);
        let response = blocking(move || {
            let record = match store.find(&name) {
                Ok(record) => record,
                Err(e) if e.is_missing() => return Ok(v1::ImageStatusResponse::default()),
                Err(image::Error::Reference { .. }) => {
                    return Ok(v1::ImageStatusResponse::default());
                }
                Err(e) => return Err(e),
            };
            let mut response = v1::ImageStatusResponse {
                image: Some(describe(&record)),
                ..Default::default()
            };
            if r.verbose {
                let details = store.inspect(&record.id)?;
                let chain = details.record.layers.last().map(Digest::to_string);
                let info = json!({ "chainID": chain, "imageSpec": details.config, "manifest": details.manifest });
                response.info.insert("info".to_owned(), info.to_string());
            }
            Ok(response)
        });
        Ok(Response::new(response.await?))
    }

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        let (metadata, from, r) = request.into_parts();
        let image = r.image.unwrap_or_default();
        let mut asked = self.audit.asked(&from, "PullImage", object(&image.image));
        let pulled = self.pull(&metadata, image, r.auth).await;
        pulled.iter().for_each(|id| asked.made(id));
        let image_ref = asked.done(pulled)?;
        Ok(Response::new(v1::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let (_, from, r) = request.into_parts();
        let name = r.image.unwrap_or_default().image;
        let asked = self.audit.asked(&from, "RemoveImage", object(&name));
        if name.is_empty() {
            return asked.done(Err(Status::invalid_argument("RemoveImage: no image given")));
        }
        let store = Arc::clone(&self.store);
        let removed = blocking(move || {
            let removed = store
                .find(&name)
                .and_then(|record| store.remove(&record.id));
            match removed {
                // It was not there, or somebody else has removed it meanwhile.
                Err(e) if e.is_missing() => Ok(()),
                other => other.map(drop),
            }
        });
        asked.done(removed.await)?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        let store = Arc::clone(&self.store);
        let (info, usage) = blocking(move || Ok((store.fs_info()?, store.df()?))).await?;
        let of = |bytes: u64, inodes: u64| v1::FilesystemUsage {
            timestamp: now(),
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: info.mountpoint.to_string_lossy().into_owned(),
            }),
            used_bytes: Some(v1::UInt64Value { value: bytes }),
            inodes_used: Some(v1::UInt64Value { value: inodes }),
        };
        let written = usage
            .containers
            .iter()
            .fold((0, 0), |(b, i), (_, bytes, inodes)| (b + bytes, i + inodes));
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: vec![of(info.used_bytes, info.used_inodes)],
            container_filesystems: vec![of(written.0, written.1)],
        }))
    }
}
