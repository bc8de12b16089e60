//! Talking to a pod's supervisor, and having another one when it was killed.

use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::OFlags;
use supervise::{Client, Launch, Parts};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::error::{Doing, Error, Kind, Result};
use crate::operation::lock;
use crate::pod::{Pod, PodPhase};

/// Runs what may block beside the runtime's workers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::failed("task", e)),
    }
}

/// When a connection to a supervisor has something to read.
#[derive(Debug)]
pub(crate) struct Readable(UnixStream);

impl Readable {
    pub(crate) fn new(client: &Client) -> Result<Self> {
        let what = || "epoll(supervisor)".to_owned();
        let socket = client.as_fd().try_clone_to_owned().doing(what)?;
        // Only its readiness is of interest, which is the same for all kinds of sockets. Tokio
        // takes none that blocks; the client's calls are to block, and both share the flag.
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true).doing(what)?;
        let watched = UnixStream::from_std(socket).map(Self).doing(what)?;
        let flags = rustix::fs::fcntl_getfl(client).doing(what)?;
        rustix::fs::fcntl_setfl(client, flags - OFlags::NONBLOCK).doing(what)?;
        Ok(watched)
    }

    /// Waits until there is something, or may be.
    pub(crate) async fn wait(&self) -> Result<()> {
        self.0
            .readable()
            .await
            .doing(|| "epoll(supervisor)".to_owned())?;
        // The caller reads until there is no more: what comes after this wakes the next wait.
        let nothing = || Err::<(), _>(std::io::ErrorKind::WouldBlock.into());
        let _ = self.0.try_io(Interest::READABLE, nothing);
        Ok(())
    }
}

/// A supervisor's error in our words.
pub(crate) fn translate(error: &supervise::Error) -> Error {
    use supervise::protocol::Kind as K;
    let kind = match error.kind() {
        K::Failed => Kind::Failed,
        K::Invalid | K::Program => Kind::Invalid,
        K::NotFound => Kind::NotFound,
        K::Exists => Kind::Exists,
        K::WrongState => Kind::State,
    };
    Error::new(kind, error.to_string())
}

impl Pod {
    /// One call over a connection of its own, so that calls wait beside each other.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        engine: &Engine,
        work: impl FnOnce(&mut Client) -> supervise::Result<T> + Send + 'static,
    ) -> Result<T> {
        let work = |client: &mut Client, ()| work(client).map_err(|e| translate(&e));
        self.call_with(engine, || Ok(()), work).await
    }

    /// The same with what is made for it before, in one go: each visit to another thread has its
    /// price.
    pub(crate) async fn call_with<P: Send + 'static, T: Send + 'static>(
        self: &Arc<Self>,
        engine: &Engine,
        prepare: impl FnOnce() -> Result<P> + Send + 'static,
        work: impl FnOnce(&mut Client, P) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.settled().await;
        let pod = Arc::clone(self);
        let first = blocking(move || {
            let prepared = prepare()?;
            // Another supervisor may have begun to take over meanwhile.
            let is_settled = pod.reviving.try_lock().is_ok();
            match Client::connect(&pod.dir) {
                Ok(mut client) if is_settled => Ok(Ok(work(&mut client, prepared)?)),
                _ => Ok(Err((work, prepared))),
            }
        });
        match first.await? {
            Ok(done) => Ok(done),
            Err((work, prepared)) => {
                let mut client = self.connect(engine).await?;
                blocking(move || work(&mut client, prepared)).await
            }
        }
    }

    /// Waits while another supervisor takes over: it can be reached before it knows what it has.
    async fn settled(&self) {
        if self.reviving.try_lock().is_err() {
            drop(self.reviving.lock().await);
        }
    }

    /// A connection; to a new supervisor if the old one is no more.
    pub(crate) async fn connect(self: &Arc<Self>, engine: &Engine) -> Result<Client> {
        self.settled().await;
        let dir = self.dir.clone();
        let first = blocking(move || Client::connect(&dir).map_err(|e| translate(&e))).await;
        match first {
            Ok(client) => Ok(client),
            Err(_) if !self.ending.load(Ordering::SeqCst) => {
                engine.revive(self).await?;
                let dir = self.dir.clone();
                blocking(move || Client::connect(&dir).map_err(|e| translate(&e))).await
            }
            Err(e) => Err(e),
        }
    }

    /// Starts its supervisor.
    pub(crate) async fn launch(self: &Arc<Self>, engine: &Engine, resume: bool) -> Result<()> {
        let (pod, engine) = (Arc::clone(self), engine.clone());
        blocking(move || pod.launch_now(&engine, resume)).await
    }

    /// The same, on a thread that may wait.
    pub(crate) fn launch_now(&self, engine: &Engine, resume: bool) -> Result<()> {
        let places = engine.places();
        let launch = Launch {
            program: &places.hull,
            root: &places.runtime_root,
            dir: &self.dir,
            resume,
            stderr: Stdio::inherit(),
        };
        let child = launch.start().map_err(|e| translate(&e))?;
        let old = lock(&self.supervisor).replace(child);
        reap(old);
        Ok(())
    }

    /// Has its supervisor end, and waits for that.
    pub(crate) async fn quit(self: &Arc<Self>) -> Result<()> {
        self.ending.store(true, Ordering::SeqCst);
        let pod = Arc::clone(self);
        blocking(move || {
            let quit = Client::connect(&pod.dir).and_then(|mut client| client.quit());
            let child = lock(&pod.supervisor).take();
            match (quit, child) {
                (Ok(()), child) => reap(child),
                (Err(_), Some(mut child)) => {
                    // Without an answer there is nobody to ask again.
                    child
                        .kill()
                        .doing(|| format!("kill(supervisor of {})", pod.id))?;
                    reap(Some(child));
                }
                (Err(_), None) => {}
            }
            Ok(())
        })
        .await
    }
}

fn reap(child: Option<std::process::Child>) {
    if let Some(mut child) = child
        && let Err(error) = child.wait()
    {
        tracing::warn!(%error, pid = child.id(), "waitpid(supervisor)");
    }
}

impl Engine {
    /// The pod's sandbox and containers that should have a process.
    pub(crate) fn living(&self, pod: &Pod) -> Vec<String> {
        let living = |c: &Arc<Container>| matches!(c.phase(), Phase::Created | Phase::Running);
        let containers = self.containers_of(&pod.id).into_iter().filter(living);
        let ids = containers.map(|c| c.id.clone());
        ids.chain([pod.id.clone()]).collect()
    }

    /// Starts a supervisor for a pod whose own was killed, and hands it what we kept.
    ///
    /// # Errors
    /// The program cannot be started, or refuses.
    pub(crate) async fn revive(&self, pod: &Arc<Pod>) -> Result<()> {
        let _one = pod.reviving.lock().await;
        let dir = pod.dir.clone();
        let alive = blocking(move || Ok(Client::connect(&dir).and_then(|mut c| c.list()).is_ok()));
        if alive.await? || pod.ending.load(Ordering::SeqCst) {
            return Ok(());
        }
        if pod.phase() == PodPhase::Removed {
            return Err(Error::not_found("pod", &pod.id));
        }
        tracing::warn!(pod = %pod.name(), id = %pod.id, "its supervisor is gone: starting another one");
        // The old one is no more or about to be; a zombie must not stay.
        let old = lock(&pod.supervisor).take();
        blocking(move || {
            if let Some(mut child) = old {
                let _ = child.kill();
                reap(Some(child));
            }
            Ok(())
        })
        .await?;
        pod.launch(self, true).await?;
        let ids = self.living(pod);
        let pod = Arc::clone(pod);
        blocking(move || {
            let mut client = Client::connect(&pod.dir).map_err(|e| translate(&e))?;
            // Ours stay until its own have come: it may be killed, too.
            lock(&pod.kept).retain(|id, parts| match client.adopt(id, parts) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%id, %error, "not taken over");
                    matches!(error, supervise::Error::Gone(_))
                }
            });
            adopt_strays(&mut client, &ids)?;
            for status in client.list().map_err(|e| translate(&e))? {
                keep(&pod, &mut client, &status.create.id);
            }
            Ok(())
        })
        .await
    }
}

/// Has a supervisor take over what it does not know, because hulld was away when the one before
/// was killed: output is lost then, but no process need be.
pub(crate) fn adopt_strays(client: &mut Client, ids: &[String]) -> Result<()> {
    let known = client.list().map_err(|e| translate(&e))?;
    for id in ids {
        if known.iter().any(|status| status.create.id == *id) {
            continue;
        }
        // What was only being made has left nothing to take over.
        if let Err(error) = client.adopt(id, &Parts::default()) {
            tracing::debug!(%id, %error, "not taken over");
        }
    }
    Ok(())
}

/// Fetches what another supervisor would need to go on with a container.
pub(crate) fn keep(pod: &Pod, client: &mut Client, id: &str) {
    match client.keep(id) {
        Ok(parts) => drop(lock(&pod.kept).insert(id.to_owned(), parts)),
        Err(error) => tracing::warn!(%id, %error, "no descriptors to keep"),
    }
}
