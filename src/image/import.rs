//! Import: layers bottom up, each a clone of the one below with its tar applied, then the image, a
//! sealed clone of the topmost. Everything is `building` until one `Pool::finish` makes all of it
//! real at once; whatever ends it before, a failure or a crash, takes all of it away.

use super::apply::Applier;
use super::building::Building;
use super::config::{CONFIG_MAX, ImageConfig};
use super::digest::{Algorithm, Digest, chain_id, short};
use super::directory::Walk;
use super::listing::LayerRecord;
use super::made::{add_history, made_config, made_manifest};
use super::members::Members;
use super::name::{from_file, full_name};
use super::oci::{Choice, Found, Layer, Platform};
use super::pump::{Compression, Pump, Sums};
use super::source::{Content, Source, Stream, detect};
use super::tar::{Feed, Walker, bad};
use super::{Progress, Step, docker, listing, oci, stopped};
use crate::base::{Error, Result, Time, VolumeId};
use crate::fs::Fs;
use crate::pool::{Kind, Pool, VolumeInfo};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// The image's configuration as it came.
pub const BLOB_CONFIG: &str = "config";
/// The image's OCI manifest as it came, or made for it.
pub const BLOB_MANIFEST: &str = "manifest";
/// A list of `LayerRecord`, JSON, lowest first.
pub const BLOB_LAYERS: &str = "layers";

/// Bytes between two reports of progress.
const REPORT: u64 = 1 << 20;

#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// `NAME[:TAG]` for the image. Without it: the name in the archive, else the file's. Also
    /// chooses among several images of an archive if one is called so.
    pub name: Option<String>,
    /// Which of an archive's images: its name or digest there.
    pub image: Option<String>,
    /// `OS/ARCHITECTURE[/VARIANT]` instead of this machine's.
    pub platform: Option<String>,
    /// Where a stream may be kept meanwhile, instead of `$TMPDIR` or /var/tmp.
    pub temp: Option<PathBuf>,
    /// An image of that name goes; else it is an error (unless it is the same image).
    pub replace: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Imported {
    pub image: VolumeInfo,
    /// Image ID: digest of its configuration.
    pub id: Digest,
    pub layers: usize,
    /// Layers that were not in the pool before.
    pub new_layers: usize,
    /// The very same image was there under this name.
    pub existed: bool,
    /// Set when the image is made for another platform than this machine's.
    pub foreign: Option<Platform>,
}

/// Imports a source into a pool. All or nothing.
///
/// # Errors
/// `Invalid`: not an archive of a kind we read, damaged, or several images to choose from;
/// `Exists`: another image has the name; `Denied`: a directory that may not be read; and whatever
/// the pool fails with.
pub fn import(
    pool: &Arc<Pool>,
    source: Source,
    options: &ImportOptions,
    progress: &dyn Progress,
) -> Result<Imported> {
    let display = source.display().to_string();
    let job = Import {
        pool,
        options,
        progress,
        display: &display,
    };
    job.run(&source).map_err(|e| {
        let shown = if display == "-" {
            "standard input".into()
        } else {
            short(&display)
        };
        match e {
            Error::Invalid(what) => Error::Invalid(format!("{shown}: {what}")),
            Error::Denied(what) => Error::Denied(format!("{shown}: {what}")),
            Error::Io { what, source } => Error::Io {
                what: format!("{shown}: {what}"),
                source,
            },
            Error::Posix(_) => Error::Invalid(format!("{shown}: {e}")),
            e => e,
        }
    })
}

struct Import<'a> {
    pool: &'a Arc<Pool>,
    options: &'a ImportOptions,
    progress: &'a dyn Progress,
    display: &'a str,
}

/// An image complete but for its volume.
struct Complete {
    name: String,
    config: Vec<u8>,
    parsed: ImageConfig,
    manifest: Vec<u8>,
    records: Vec<LayerRecord>,
    top: Option<VolumeId>,
    /// We wrote the configuration ourselves: it says nothing of its own.
    made_up: bool,
}

impl Import<'_> {
    fn run(&self, source: &Source) -> Result<Imported> {
        // Before hours of work.
        if let Some(name) = &self.options.name {
            full_name(name)?;
        }
        let platform = self
            .options
            .platform
            .as_deref()
            .map(Platform::parse)
            .transpose()?;
        let name = self
            .options
            .image
            .as_deref()
            .or(self.options.name.as_deref());
        let choice = Choice {
            name,
            platform: platform.as_ref(),
        };
        match detect(source, self.options.temp.as_deref(), self.progress)? {
            Content::Oci(members) => {
                let found = oci::find(&members, &choice)?;
                self.image(&members, found)
            }
            Content::Docker(members) => {
                let found = docker::find(&members, &choice)?;
                self.image(&members, found)
            }
            Content::RootTar { stream, total } => self.root_tar(stream, total),
            Content::RootDirectory(fd) => self.root_directory(&fd),
        }
    }

    fn building(&self) -> Building<'_> {
        Building {
            pool: self.pool,
            layers: Vec::new(),
            image: None,
            prefix: format!("importing-{}", uuid::Uuid::new_v4()),
        }
    }

    /// An image with layers.
    fn image(&self, members: &Members, found: Found) -> Result<Imported> {
        let config = ImageConfig::parse(&found.config)?;
        if !matches!(config.rootfs.kind.as_str(), "layers" | "") {
            return Err(bad(format!(
                "its root file system is of unknown type '{}'",
                short(&config.rootfs.kind)
            )));
        }
        if config.rootfs.diff_ids.len() != found.layers.len() {
            return Err(bad(format!(
                "its configuration names {} layers, its manifest {}",
                config.rootfs.diff_ids.len(),
                found.layers.len()
            )));
        }
        let name = self.name(found.name.as_deref())?;
        let mut plan: Vec<(Layer, Digest, Digest)> = Vec::new();
        for (layer, diff_id) in found.layers.into_iter().zip(&config.rootfs.diff_ids) {
            let diff_id = Digest::parse(diff_id)?;
            let chain = chain_id(plan.last().map(|(.., chain)| chain), &diff_id);
            plan.push((layer, diff_id, chain));
        }
        // What is there need not be made again, nor anything below it.
        let mut below = None;
        let mut present = 0;
        for (at, (.., chain)) in plan.iter().enumerate().rev() {
            if let Some(id) = self.layer_volume(chain)? {
                (below, present) = (Some(id), at + 1);
                break;
            }
        }
        // A missing blob is told of before the first layer's minutes, not after.
        for (layer, ..) in plan.iter().skip(present) {
            self.open_layer(members, layer)?;
        }
        let of = plan.len();
        let mut building = self.building();
        let mut records = Vec::new();
        for (at, (layer, diff_id, chain)) in plan.iter().enumerate() {
            let number = at + 1;
            let (digest, media_type, size) = if at < present {
                self.progress.step(&Step::Present {
                    number,
                    of,
                    id: chain.as_str(),
                });
                self.known_blob(members, layer, diff_id)?
            } else {
                self.progress.step(&Step::Layer {
                    number,
                    of,
                    id: chain.as_str(),
                });
                let (id, sums) = self
                    .layer(&mut building, below, members, layer, diff_id)
                    .map_err(|e| in_layer(e, number, of, layer))?;
                building.named(id, chain);
                below = Some(id);
                (
                    sums.blob.clone(),
                    media_type(layer, sums.compression),
                    sums.blob_size,
                )
            };
            let (digest, diff_id, chain_id) =
                (digest.to_string(), diff_id.to_string(), chain.to_string());
            records.push(LayerRecord {
                digest,
                diff_id,
                chain_id,
                media_type,
                size,
                history: None,
            });
        }
        let manifest = if found.manifest.is_empty() {
            made_manifest(&found.config, &records)?
        } else {
            found.manifest
        };
        let complete = Complete {
            name,
            config: found.config,
            parsed: config,
            manifest,
            records,
            top: below,
            made_up: false,
        };
        self.finish(building, complete)
    }

    fn layer_volume(&self, chain: &Digest) -> Result<Option<VolumeId>> {
        Ok(self
            .pool
            .find(chain.as_str())?
            .filter(|v| v.kind == Kind::Layer && v.sealed && !v.building && !v.removing)
            .map(|v| v.id))
    }

    fn open_layer(&self, members: &Members, layer: &Layer) -> Result<super::members::Stretch> {
        match &layer.digest {
            Some(digest) => oci::blob(members, digest, layer.size, "layer"),
            None => members.open(&layer.member)?.ok_or_else(|| {
                bad(format!(
                    "layer '{}' is missing from it",
                    short(&layer.member)
                ))
            }),
        }
    }

    /// One layer from its blob onto a clone of the one below.
    fn layer(
        &self,
        building: &mut Building<'_>,
        below: Option<VolumeId>,
        members: &Members,
        layer: &Layer,
        diff_id: &Digest,
    ) -> Result<(VolumeId, Sums)> {
        let blob = self.open_layer(members, layer)?;
        let total = Some(blob.len());
        let algorithm = layer
            .digest
            .as_ref()
            .map_or(Algorithm::Sha256, Digest::algorithm);
        let stream = Stream::new(Pump::start(Box::new(blob), algorithm, diff_id.algorithm())?);
        let (id, fs) = building.volume(Kind::Layer, below)?;
        let (sums, _) = self.apply(fs, below.is_none(), stream, total)?;
        if let Some(digest) = &layer.digest
            && sums.blob != *digest
        {
            return Err(bad(format!("damaged: its digest is {}", sums.blob)));
        }
        if sums.diff != *diff_id {
            return Err(bad(format!(
                "damaged: its content's digest is {}, the configuration says {diff_id}",
                sums.diff
            )));
        }
        Ok((id, sums))
    }

    /// All entries of a tar; answers with the sums and whether the tar had entries and its end.
    fn apply(
        &self,
        fs: Arc<Fs>,
        fresh: bool,
        stream: Stream,
        total: Option<u64>,
    ) -> Result<(Sums, TarEnd)> {
        let watched = Watched {
            stream,
            progress: self.progress,
            total,
            reported: 0,
        };
        let mut walker = Walker::new(watched);
        let mut applier = Applier::new(fs, fresh);
        let mut entries = 0u64;
        while let Some(entry) = walker.next()? {
            applier.entry(&entry, &mut walker)?;
            entries += 1;
        }
        applier.finish()?;
        let end = TarEnd {
            entries,
            marked: walker.ended_marked(),
        };
        let sums = walker.into_feed().stream.finish()?;
        Ok((sums, end))
    }

    /// Digest, media type and size of a blob that need not be read.
    fn known_blob(
        &self,
        members: &Members,
        layer: &Layer,
        diff_id: &Digest,
    ) -> Result<(Digest, String, u64)> {
        if let Some(digest) = &layer.digest {
            return Ok((digest.clone(), layer.media_type.clone(), layer.size));
        }
        let mut head = [0u8; 8];
        let mut blob = self.open_layer(members, layer)?;
        let n =
            std::io::Read::read(&mut blob, &mut head).map_err(|e| Error::io("cannot read", e))?;
        let compression = super::pump::sniff(head.get(..n).unwrap_or_default())?;
        if compression == Compression::None {
            return Ok((diff_id.clone(), media_type(layer, compression), layer.size));
        }
        let mut hasher = super::digest::Hasher::new(Algorithm::Sha256);
        hasher.update(head.get(..n).unwrap_or_default());
        let mut buf = vec![0u8; 256 << 10];
        loop {
            let n = std::io::Read::read(&mut blob, &mut buf)
                .map_err(|e| Error::io("cannot read", e))?;
            if n == 0 {
                return Ok((hasher.finish(), media_type(layer, compression), layer.size));
            }
            hasher.update(buf.get(..n).unwrap_or_default());
        }
    }

    /// A root file system without a configuration: one layer.
    fn root_tar(&self, stream: Stream, total: Option<u64>) -> Result<Imported> {
        let name = self.name(None)?;
        let mut building = self.building();
        self.progress.step(&Step::Layer {
            number: 1,
            of: 1,
            id: "",
        });
        let (id, fs) = building.volume(Kind::Layer, None)?;
        let (sums, end) = self.apply(fs, true, stream, total)?;
        // No digest vouches for it.
        if !end.marked {
            return Err(bad(
                "cut off: the tar's end marker is missing; fetch or pack it again",
            ));
        }
        if end.entries == 0 {
            return Err(bad(
                "holds nothing: it is not a tar archive, or an empty one",
            ));
        }
        building.named(id, &sums.diff);
        let media_type = match sums.compression {
            Compression::None => OCI_TAR.to_string(),
            Compression::Gzip => format!("{OCI_TAR}+gzip"),
            Compression::Zstd => format!("{OCI_TAR}+zstd"),
        };
        let record = LayerRecord {
            digest: sums.blob.to_string(),
            diff_id: sums.diff.to_string(),
            chain_id: sums.diff.to_string(),
            media_type,
            size: sums.blob_size,
            history: None,
        };
        self.made_up(building, name, id, record)
    }

    fn root_directory(&self, fd: &OwnedFd) -> Result<Imported> {
        let name = self.name(None)?;
        let mut building = self.building();
        self.progress.step(&Step::Layer {
            number: 1,
            of: 1,
            id: "",
        });
        let (id, fs) = building.volume(Kind::Layer, None)?;
        let walked = Walk::new(Applier::new(fs, true), self.progress).run(fd)?;
        building.named(id, &walked.digest);
        let digest = walked.digest.to_string();
        let record = LayerRecord {
            digest: digest.clone(),
            diff_id: digest.clone(),
            chain_id: digest,
            media_type: OCI_TAR.to_string(),
            size: walked.bytes,
            history: None,
        };
        self.made_up(building, name, id, record)
    }

    fn made_up(
        &self,
        mut building: Building<'_>,
        name: String,
        id: VolumeId,
        record: LayerRecord,
    ) -> Result<Imported> {
        let parsed = made_config(self.display, &record.diff_id, Time::now());
        let config = serde_json::to_vec(&parsed)
            .map_err(|e| bad(format!("cannot write a configuration: {e}")))?;
        let mut top = id;
        // The same content may be there already: then this copy is not needed.
        if let Some(there) = self.layer_volume(&Digest::parse(&record.chain_id)?)? {
            top = there;
            building.layers.retain(|(layer, _)| *layer != id);
            self.pool.remove(id)?;
        }
        let manifest = made_manifest(&config, std::slice::from_ref(&record))?;
        let complete = Complete {
            name,
            config,
            parsed,
            manifest,
            records: vec![record],
            top: Some(top),
            made_up: true,
        };
        self.finish(building, complete)
    }

    /// What the image is to be called: as asked, as the archive says, as the file is called.
    fn name(&self, inside: Option<&str>) -> Result<String> {
        if let Some(name) = &self.options.name {
            return full_name(name);
        }
        let file = from_file(self.display);
        match (inside, file) {
            // Only a tag.
            (Some(tag), Some(file)) if !tag.contains([':', '/']) => {
                full_name(&format!("{file}:{tag}"))
            }
            (Some(name), _) => full_name(name),
            (None, Some(file)) => full_name(&file),
            (None, None) => Err(bad("the image has no name; give it one, NAME or NAME:TAG")),
        }
    }

    fn finish(&self, mut building: Building<'_>, mut complete: Complete) -> Result<Imported> {
        self.progress.step(&Step::Finishing);
        add_history(&complete.parsed, &mut complete.records);
        let id = Digest::of(&complete.config);
        let layers = complete.records.len();
        let platform = Platform {
            os: complete.parsed.os.clone(),
            architecture: complete.parsed.architecture.clone(),
            variant: complete.parsed.variant.clone(),
        };
        let host = Platform::host();
        let foreign = (platform.os != host.os || platform.architecture != host.architecture)
            .then_some(platform);
        let there = self.pool.find(&complete.name)?;
        if let Some(there) = &there {
            if there.kind == Kind::Image && self.same_image(there.id, &id, &complete)? {
                return Ok(Imported {
                    image: there.clone(),
                    id,
                    layers,
                    new_layers: 0,
                    existed: true,
                    foreign,
                });
            }
            if !self.options.replace || there.kind != Kind::Image {
                let name = &complete.name;
                return Err(Error::Exists(format!(
                    "{name} exists already; give another name, or remove it first with 'cowfs rm {name}'"
                )));
            }
        }
        let (image, fs) = building.volume(Kind::Image, complete.top)?;
        drop(fs);
        self.pool.put_blob(image, BLOB_CONFIG, &complete.config)?;
        self.pool
            .put_blob(image, BLOB_MANIFEST, &complete.manifest)?;
        let records = serde_json::to_vec(&complete.records)
            .map_err(|e| bad(format!("cannot write the list of layers: {e}")))?;
        if records.len() as u64 > CONFIG_MAX {
            return Err(bad("its history is too long"));
        }
        self.pool.put_blob(image, BLOB_LAYERS, &records)?;
        if self.progress.stopped() {
            return Err(stopped());
        }
        let mut kept = Vec::new();
        for (layer, chain) in &building.layers {
            match self.pool.rename(*layer, chain.as_str()) {
                Ok(()) => kept.push((*layer, true)),
                // Another import was faster: its layer serves as well, and this copy goes.
                Err(e) if e.errno() == libc::EEXIST => {}
                Err(e) => return Err(e),
            }
        }
        let new_layers = kept.len();
        kept.push((image, true));
        if there.is_none() {
            self.pool.rename(image, &complete.name)?;
        }
        self.pool.finish(&kept)?;
        building.image = None;
        building
            .layers
            .retain(|(id, _)| !kept.iter().any(|(k, _)| k == id));
        if let Some(there) = there {
            // Only now that the new one is safe.
            self.pool.remove(there.id)?;
            self.pool.rename(image, &complete.name)?;
        }
        Ok(Imported {
            image: self.pool.info(image)?,
            id,
            layers,
            new_layers,
            existed: false,
            foreign,
        })
    }

    fn same_image(&self, there: VolumeId, id: &Digest, complete: &Complete) -> Result<bool> {
        if complete.made_up {
            let known = match self.pool.blob(there, BLOB_LAYERS)? {
                Some(_) => listing::layers(self.pool, there)?,
                None => return Ok(false),
            };
            return Ok(known
                .iter()
                .map(|l| &l.chain_id)
                .eq(complete.records.iter().map(|l| &l.chain_id)));
        }
        Ok(self
            .pool
            .blob(there, BLOB_CONFIG)?
            .is_some_and(|config| Digest::of(&config) == *id))
    }
}

struct TarEnd {
    entries: u64,
    marked: bool,
}

/// Tells of progress while a tar is read, also inside a long file.
struct Watched<'a> {
    stream: Stream,
    progress: &'a dyn Progress,
    total: Option<u64>,
    reported: u64,
}

impl Feed for Watched<'_> {
    fn fill(&mut self) -> Result<&[u8]> {
        let taken = self.stream.taken();
        if taken.saturating_sub(self.reported) >= REPORT {
            self.reported = taken;
            self.progress.read(taken, self.total);
        }
        if self.progress.stopped() {
            return Err(stopped());
        }
        self.stream.fill()
    }

    fn consume(&mut self, n: usize) {
        self.stream.consume(n);
    }
}

const OCI_TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A manifest's media type stands; a docker-archive has none, so the bytes decide.
fn media_type(layer: &Layer, compression: Compression) -> String {
    match compression {
        _ if layer.digest.is_some() && layer.media_type != OCI_TAR => layer.media_type.clone(),
        Compression::None => layer.media_type.clone(),
        Compression::Gzip => format!("{OCI_TAR}+gzip"),
        Compression::Zstd => format!("{OCI_TAR}+zstd"),
    }
}

fn in_layer(e: Error, number: usize, of: usize, layer: &Layer) -> Error {
    let name = layer
        .digest
        .as_ref()
        .map_or_else(|| short(&layer.member), Digest::to_string);
    let place = format!("layer {number} of {of} ({name})");
    match e {
        Error::Invalid(what) => Error::Invalid(format!("{place}: {what}")),
        Error::Io { what, source } => Error::Io {
            what: format!("{place}: {what}"),
            source,
        },
        e => e,
    }
}
