//! Places of images, the local store included.

use anyhow::{Result, bail};
use clap::ArgMatches;
use image::Reference;
use image::copy::{Options, Which};
use image::registry::Access;
use image::store::PullOptions;
use image::transport::{Source, TransportRef};

use super::options::{self, SRC, access, find};
use super::progress::Show;

/// A place to read from.
pub struct Opened(Box<dyn Source>);

impl Opened {
    /// To read from.
    pub fn as_source(&self) -> &dyn Source {
        self.0.as_ref()
    }

    /// To keep.
    pub fn into_source(self) -> Box<dyn Source> {
        self.0
    }
}

/// Opens a place to read from.
pub fn source(m: &ArgMatches, from: &TransportRef, access: &Access) -> Result<Opened> {
    if let TransportRef::Store(name) = from {
        super::own_root()?;
        let store = options::store_to_read(m)?;
        return Ok(Opened(Box::new(store.export(&find(&store, name)?.id)?)));
    }
    Ok(Opened(from.source(access)?))
}

/// Copies into the store: a pull.
pub fn into_store(
    m: &ArgMatches,
    from: &TransportRef,
    name: &str,
    options: &Options<'_>,
    show: &Show,
) -> Result<()> {
    if options.which != Which::Platform {
        bail!("copy: the store holds images, not indexes: leave --all out");
    }
    super::own_root()?;
    let store = options::store(m)?;
    let source = source(m, from, &access(m, &SRC)?)?;
    let progress = |event: image::store::Event<'_>| show.event(&event);
    let pull = PullOptions {
        platform: Some(&options.platform),
        parallel: options.parallel,
        progress: Some(&progress),
        ..PullOptions::default()
    };
    let (rules, scope) = &options.policy;
    let reference = Reference::parse(name)?;
    let record = image::pull::pull(
        &store,
        source.as_source(),
        (rules, scope),
        &reference,
        &pull,
    )?;
    println!("{}", record.id);
    Ok(())
}
