//! The daemon: everything is opened in turn, served, and let go of in turn.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use cri::audit::{Audit, Peer};
use cri::{ImageApi, Pods, RuntimeApi};
use cri_api::MESSAGE_LIMIT;
use cri_api::v1::image_service_server::ImageServiceServer;
use cri_api::v1::runtime_service_server::RuntimeServiceServer;
use image::registry::Access;
use image::store::{Store, StoreOptions};
use pods::{Engine, Parts};
use streaming::server::{Server as StreamServer, Tls, TlsFiles};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, LogFormat};
use crate::listen::listen;
use crate::notify::{notify, watchdog};

type LogHandle = reload::Handle<EnvFilter, tracing_subscriber::Registry>;

/// How long another daemon's lock on the images is waited for, as after a restart.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Heaps that all threads share: with one, threads wait for each other; each more keeps what was freed
/// in it.
const HEAPS: i32 = 2;

/// How often freed memory is given back to the kernel.
const TRIM: Duration = Duration::from_secs(60);

/// Serves until a signal.
pub(crate) fn serve(file: Option<PathBuf>, level: Option<&str>) -> Result<()> {
    // Before anything here opens something that could have their numbers.
    let passed = sys::process::passed_descriptors();
    sys::idle::few_heaps(HEAPS);
    let config = Config::load(file.as_deref())?;
    let log = start_log(&config, level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.daemon.workers)
        .max_blocking_threads(config.daemon.blocking_threads)
        .thread_name("hulld")
        .enable_all()
        .build()
        .context("start the asynchronous runtime")?;
    let result = runtime.block_on(run(config, file, log, passed));
    // Threads in calls that block for ever must not keep the program.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn start_log(config: &Config, level: Option<&str>) -> Result<LogHandle> {
    let filter = EnvFilter::try_new(level.unwrap_or(&config.daemon.log)).context("daemon.log")?;
    let (filter, handle) = reload::Layer::new(filter);
    let layers = tracing_subscriber::registry().with(filter);
    let to = std::io::stderr;
    match config.daemon.log_format {
        LogFormat::Text => layers
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(to)
                    .with_ansi(false),
            )
            .init(),
        LogFormat::Json => layers
            .with(tracing_subscriber::fmt::layer().json().with_writer(to))
            .init(),
    }
    Ok(handle)
}

/// What is served, and what a reload changes.
struct Daemon {
    engine: Engine,
    images: ImageApi,
    audit: Arc<Audit>,
    tls: Option<Tls>,
    config: Mutex<Arc<Config>>,
    file: Option<PathBuf>,
    log: LogHandle,
}

async fn run(
    config: Config,
    file: Option<PathBuf>,
    log: LogHandle,
    passed: Vec<OwnedFd>,
) -> Result<()> {
    let (listener, own) = listen(&config, passed)?;
    let metrics = Arc::new(web::Metrics::default());
    let (engine, _watch) = open_engine(&config, &metrics).await?;
    let audit = Arc::new(open_audit(&config)?);
    let images = ImageApi::new(
        Arc::clone(engine.images()),
        Access::system()?,
        Arc::clone(engine.operations()),
        Arc::clone(&audit),
    );
    images.pin(config.images.pinned.clone()).await;
    let streams = TcpListener::bind(config.streaming.listen).await;
    let streams = streams
        .with_context(|| format!("bind({}) of streaming.listen", config.streaming.listen))?;
    let tls = tls(&config)?;
    let server = StreamServer::new(
        Pods(engine.clone()),
        stream_config(&config, tls.clone()),
        streams.local_addr()?,
    );
    let listen_metrics = match config.metrics.listen {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("bind({address}) of metrics.listen"))?,
        ),
        None => None,
    };
    let pages = pages(&config).await?;
    let grace = Duration::from_secs(config.daemon.shutdown_seconds);
    let daemon = Arc::new(Daemon {
        engine,
        images,
        audit,
        tls,
        config: Mutex::new(Arc::new(config)),
        file,
        log,
    });
    let sockets = Sockets {
        api: listener,
        streams,
        metrics: listen_metrics,
        pages,
    };
    let ended = attend(&daemon, server, sockets, metrics).await;
    notify("STOPPING=1");
    // A new daemon may take its place from now on.
    if let Some(socket) = own {
        let _ = fs::remove_file(socket);
    }
    ended?;
    finish(&daemon, grace).await;
    Ok(())
}

fn open_audit(config: &Config) -> Result<Audit> {
    let Some(options) = config.audit() else {
        return Ok(Audit::default());
    };
    let opened = Audit::open(&options);
    opened.with_context(|| format!("open({}) of audit.file", options.file.display()))
}

/// What is listened on.
struct Sockets {
    api: UnixListener,
    streams: TcpListener,
    metrics: Option<TcpListener>,
    pages: Vec<web::Listener>,
}

/// The listeners of the status page.
async fn pages(config: &Config) -> Result<Vec<web::Listener>> {
    web::status::begin();
    let socket = config.status_socket();
    let what = || format!("listen({}) of status.socket", socket.display());
    match fs::remove_file(&socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(what),
        _ => {}
    }
    let listener = UnixListener::bind(&socket).with_context(what)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o660)).with_context(what)?;
    let mut listeners = vec![web::Listener::Unix(listener)];
    if let Some(address) = config.status.listen {
        let tcp = TcpListener::bind(address).await;
        let tcp = tcp.with_context(|| format!("bind({address}) of status.listen"))?;
        listeners.push(web::Listener::Tcp(tcp));
    }
    Ok(listeners)
}

/// Serves on all sockets until a signal.
async fn attend(
    daemon: &Arc<Daemon>,
    server: StreamServer<Pods>,
    sockets: Sockets,
    metrics: Arc<web::Metrics>,
) -> Result<()> {
    let (stop, stopping) = watch::channel(false);
    let ends = |mut stopping: watch::Receiver<bool>| async move {
        // An end of the sender is an end, too.
        let _ = stopping.wait_for(|&stop| stop).await;
    };
    let streaming = server.clone();
    let end = ends(stopping.clone());
    tokio::spawn(async move { streaming.serve(sockets.streams, end).await });
    if let Some(listener) = sockets.metrics {
        let end = ends(stopping.clone());
        let (listener, engine) = (web::Listener::Tcp(listener), daemon.engine.clone());
        let metrics = Arc::clone(&metrics);
        tokio::spawn(web::serve(
            listener,
            web::Shown::Metrics,
            metrics,
            engine,
            end,
        ));
    }
    for listener in sockets.pages {
        let (end, engine) = (ends(stopping.clone()), daemon.engine.clone());
        let metrics = Arc::clone(&metrics);
        tokio::spawn(web::serve(listener, web::Shown::All, metrics, engine, end));
    }
    let api = grpc(Arc::clone(daemon), server, sockets.api, ends(stopping));
    let mut api = tokio::spawn(api);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving the CRI");
    notify("READY=1");
    if let Some(every) = watchdog() {
        tokio::spawn(beat(every));
    }
    tokio::spawn(rest());
    let ended = wait_for_end(daemon, &mut api).await;
    // Its receivers may be gone already.
    let _ = stop.send(true);
    ended
}

async fn open_engine(config: &Config, metrics: &Arc<web::Metrics>) -> Result<(Engine, net::Watch)> {
    let state = config.daemon.state.clone();
    let store = tokio::task::spawn_blocking(move || {
        Store::open_with(
            &state,
            &StoreOptions {
                wait: LOCK_WAIT,
                kept: true,
                ..StoreOptions::default()
            },
        )
    });
    let store = store.await.context("open the images")??;
    let state = config.daemon.run.join("network");
    let network = Arc::new(net::Network::open(config.network()?, &state).context("[network]")?);
    let watch = network.watch(report_network).context("watch the network")?;
    let observer: Arc<dyn pods::operation::Observer> = Arc::<web::Metrics>::clone(metrics);
    let parts = Parts {
        places: config.places()?,
        settings: config.settings()?,
        images: Arc::new(store),
        network,
        observer: Some(observer),
    };
    let engine = Engine::open(parts).await.context("open the state")?;
    Ok((engine, watch))
}

/// What was put back after somebody else's change.
fn report_network(event: net::WatchEvent) {
    match event {
        net::WatchEvent::Restored(what) => tracing::warn!(?what, "network put back"),
        net::WatchEvent::Failed(error) => tracing::error!(%error, "network not put back"),
    }
}

fn tls(config: &Config) -> Result<Option<Tls>> {
    let s = &config.streaming;
    if s.tls_certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    let files = TlsFiles {
        certificate: s.tls_certificate.clone(),
        key: s.tls_key.clone(),
        only_1_3: s.tls_only_1_3,
        client_ca: Some(s.tls_client_ca.clone()).filter(|p| !p.as_os_str().is_empty()),
    };
    Ok(Some(Tls::load(files).context("streaming.tls-certificate")?))
}

fn stream_config(config: &Config, tls: Option<Tls>) -> streaming::server::Config {
    let s = &config.streaming;
    streaming::server::Config {
        advertise: s.advertise,
        tls,
        idle: (s.idle_seconds > 0).then(|| Duration::from_secs(s.idle_seconds)),
        ..streaming::server::Config::default()
    }
}

async fn grpc(
    daemon: Arc<Daemon>,
    streams: StreamServer<Pods>,
    listener: UnixListener,
    end: impl Future<Output = ()>,
) -> Result<()> {
    let described = Arc::clone(&daemon);
    let describe = Arc::new(move || described.describe());
    let runtime = RuntimeApi::new(
        daemon.engine.clone(),
        Arc::clone(&daemon.audit),
        env!("CARGO_PKG_VERSION"),
        describe,
        streams,
    );
    let runtime = RuntimeServiceServer::new(runtime)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let images = ImageServiceServer::new(daemon.images.clone())
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let connections = UnixListenerStream::new(listener).map(|c| c.map(Peer::new));
    Server::builder()
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming_shutdown(connections, end)
        .await
        .context("serve the CRI")
}

/// Waits for a signal that ends the daemon; reloads at others.
async fn wait_for_end(
    daemon: &Arc<Daemon>,
    api: &mut tokio::task::JoinHandle<Result<()>>,
) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    loop {
        tokio::select! {
            _ = hangup.recv() => daemon.reload().await,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            ended = &mut *api => return ended.context("serve the CRI")?,
        }
    }
}

/// Lets running operations end; a second signal does not wait for them.
async fn finish(daemon: &Daemon, grace: Duration) {
    let quiet = async {
        while !daemon.engine.operations().running().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let again = async {
        match (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            }
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = quiet => tracing::info!("ended; pods run on"),
        () = again => tracing::warn!("ended at once; what was being made is undone at the next start"),
        () = tokio::time::sleep(grace) => tracing::warn!("some operations have not ended in time; the next start undoes them"),
    }
}

/// Gives memory back that a burst of work has left.
async fn rest() {
    loop {
        tokio::time::sleep(TRIM).await;
        let _ = tokio::task::spawn_blocking(sys::idle::trim).await;
    }
}

/// Tells systemd that the runtime still takes turns.
async fn beat(every: Duration) {
    loop {
        notify("WATCHDOG=1");
        tokio::time::sleep(every).await;
    }
}

impl Daemon {
    fn describe(&self) -> String {
        let config = Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner));
        serde_json::to_string(&*config).unwrap_or_default()
    }

    /// Reads the configuration again. A bad one changes nothing.
    async fn reload(&self) {
        notify("RELOADING=1");
        match self.try_reload().await {
            Ok(()) => tracing::info!("configuration read again"),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "configuration not changed")
            }
        }
        notify("READY=1");
    }

    async fn try_reload(&self) -> Result<()> {
        let config = Config::load(self.file.as_deref())?;
        let settings = config.settings()?;
        let access = Access::system()?;
        let filter = EnvFilter::try_new(&config.daemon.log).context("daemon.log")?;
        if let Some(tls) = &self.tls {
            tls.reload().context("streaming.tls-certificate")?;
        }
        self.log.reload(filter).context("daemon.log")?;
        self.engine.reload(settings);
        self.images.reload(access);
        self.images.pin(config.images.pinned.clone()).await;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon")
            .field("file", &self.file.as_deref().map(Path::display))
            .finish_non_exhaustive()
    }
}
