//! The layers above the run image, in the order of the specification (cnb §5.1), each written or found unchanged.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::identifier::escape_id;

use crate::buildpack::layers::LayerOnDisk;
use crate::buildpack::metadata::LayerDigests;
use crate::buildpack::metadata::process_types;
use crate::events::Event;
use crate::events::Moving;
use crate::model::descriptor::LayerDescriptor;
use crate::model::digest::DiffId;
use crate::model::receipt::LayerOutcome;
use crate::oci::layer::LayerTar;
use crate::oci::overlay::marks::touches;
use crate::oci::slices::divide;
use crate::oci::tree;
use crate::oci::tree::TreeError;
use crate::phases::export::ExportError;
use crate::phases::export::earlier;
use crate::phases::export::fixed;
use crate::phases::export::late;
use crate::phases::export::leak::Leak;
use crate::phases::handover::Finished;
use crate::phases::handover::ImageLayer;
use crate::phases::handover::Tools;
use crate::phases::handover::USER_ID;
use crate::sandbox::job::Job as _;
use crate::store::caches::record::CachedLayer;
use crate::store::directory_layer::tree_of_user;

/// What a layer of the image is called by its place in the lifecycle label.
pub(super) struct Layers {
    /// All layers above the run image, the lowest first.
    pub(super) all: Vec<ImageLayer>,
    /// The buildpacks' layers that have contents.
    pub(super) digests: LayerDigests,
    pub(super) sbom: DiffId,
    pub(super) app: Vec<DiffId>,
    pub(super) launcher: DiffId,
    pub(super) config: DiffId,
    pub(super) process_types: Option<DiffId>,
}

/// Writes all layers into the store, lowest first.
pub(super) fn write(finished: &Finished, tools: &Tools<'_>) -> Result<Layers, ExportError> {
    let mut writer = Writer {
        finished,
        tools,
        all: Vec::new(),
    };
    let mut digests = LayerDigests::new();
    for layer in &finished.built.layers {
        if let Some(diff_id) = writer.buildpack_layer(layer)? {
            digests.insert((layer.buildpack.clone(), layer.name.clone()), diff_id);
        }
    }
    let sbom = writer.below_layers("sbom", Path::new("sbom/launch"))?;
    let app = writer.app()?;
    let launcher = writer.launcher()?;
    let config = writer.below_layers("config", Path::new("config"))?;
    let types = process_types(&finished.built)?;
    let process_types = if types.is_empty() {
        None
    } else {
        Some(writer.write("process-types", |tar| fixed::append_process_types(tar, &types))?)
    };
    Ok(Layers {
        all: writer.all,
        digests,
        sbom,
        app,
        launcher,
        config,
        process_types,
    })
}

struct Writer<'a> {
    finished: &'a Finished,
    tools: &'a Tools<'a>,
    all: Vec<ImageLayer>,
}

impl Writer<'_> {
    /// A buildpack's launch layer: as the cache knows it, as the previous image has it, or written now.
    fn buildpack_layer(&mut self, layer: &LayerOnDisk) -> Result<Option<DiffId>, ExportError> {
        if !layer.types.launch {
            return Ok(None);
        }
        let name = format!("{}:{}", layer.buildpack, layer.name);
        if !layer.has_directory {
            self.keep_previous(&name, layer);
            return Ok(None);
        }
        let place = Path::new(&escape_id(&layer.buildpack)).join(&layer.name);
        let sandbox = &self.finished.plan.sandbox;
        let upper = sandbox.pending.upper();
        let known = sandbox.state.as_ref().and_then(|state| {
            let is_it =
                |cached: &&CachedLayer| cached.buildpack == layer.buildpack && cached.name == layer.name;
            state.layers().iter().find(is_it)?.layer.clone()
        });
        if let Some(descriptor) = known
            && self.tools.store.blobs()?.contains(&descriptor.blob)
            && !touches(upper, &place).unwrap_or(true)
        {
            earlier::search(&name, &descriptor, &self.finished.plan.source.guard, self.tools)?;
            return Ok(Some(self.keep(&name, descriptor)));
        }
        let early = self
            .finished
            .early
            .iter()
            .find(|early| early.buildpack == layer.buildpack && early.name == layer.name);
        if let Some(early) = early {
            if !late::changed_after(&upper.join(&place), early.exited) {
                return Ok(Some(self.keep(&name, early.descriptor.clone())));
            }
            let text = format!(
                "layer {} of {} was changed by a later buildpack and is made again",
                layer.name, layer.buildpack
            );
            self.tools.watcher.tell(Event::Warning { text });
        }
        self.below_layers(&name, &place).map(Some)
    }

    /// A layer without contents is the previous image's. Whether there is one is for the metadata to say.
    fn keep_previous(&mut self, name: &str, layer: &LayerOnDisk) {
        let previous = self.finished.plan.source.previous.as_ref();
        if let Some((diff_id, blob)) =
            previous.and_then(|image| image.buildpack_layer(&layer.buildpack, &layer.name))
        {
            self.keep(
                name,
                LayerDescriptor {
                    blob: blob.clone(),
                    diff_id,
                },
            );
        }
    }

    /// A folder of `/layers` as a layer.
    fn below_layers(&mut self, name: &str, directory: &Path) -> Result<DiffId, ExportError> {
        let layers = &self.finished.plan.setting.paths.layers;
        let root = self.finished.plan.sandbox.job.open_directory(layers)?;
        let tree = tree_of_user(root.as_fd(), layers, USER_ID, self.tools.cancel.flag());
        self.write(name, |tar| tree::append_layer_directory(tar, &tree, directory))
    }

    /// The app, in one layer for each slice and one for the rest.
    fn app(&mut self) -> Result<Vec<DiffId>, ExportError> {
        let app = &self.finished.plan.setting.paths.app;
        let root = self.finished.plan.sandbox.job.open_directory(app)?;
        let tree = tree_of_user(root.as_fd(), app, USER_ID, self.tools.cancel.flag());
        let slices: Vec<Vec<String>> = self
            .finished
            .built
            .slices
            .iter()
            .map(|slice| slice.paths.clone())
            .collect();
        let parts: Vec<Vec<PathBuf>> = divide(&tree::list(&tree)?, &slices)?;
        let count = parts.len();
        let mut diff_ids = Vec::with_capacity(count);
        for (position, paths) in parts.iter().enumerate() {
            let name = if count == 1 {
                "app".to_owned()
            } else {
                format!("app slice {}", position + 1)
            };
            diff_ids.push(self.write(&name, |tar| tree::append_app_slice(tar, &tree, paths))?);
        }
        Ok(diff_ids)
    }

    /// The launcher's layer, compressed by this program once.
    fn launcher(&mut self) -> Result<DiffId, ExportError> {
        if let Some(known) = self.tools.store.launcher_layer()? {
            return Ok(self.keep("launcher", known));
        }
        let launcher = fixed::launcher()?;
        let diff_id = self.write("launcher", |tar| launcher.append(tar))?;
        if let Some(written) = self.all.last() {
            self.tools.store.keep_launcher_layer(&written.descriptor)?;
        }
        Ok(diff_id)
    }

    fn write(
        &mut self,
        name: &str,
        produce: impl FnOnce(&mut LayerTar<'_>) -> Result<(), TreeError>,
    ) -> Result<DiffId, ExportError> {
        self.tools.cancel.check()?;
        let mut moving = Moving::if_slow(self.tools.watcher.as_ref(), &format!("write layer {name}"));
        let mut done = 0;
        let mut passed = |bytes| {
            done = bytes;
            moving.tell(bytes);
        };
        let guard = &self.finished.plan.source.guard;
        let written = self.tools.store.blobs()?.write_layer(&mut passed, |tar| {
            guard.watch(tar);
            produce(tar)
        });
        // What failed since it was told to end was interrupted.
        self.tools.cancel.check()?;
        let descriptor = written.map_err(|error| match Leak::of(name, &error) {
            Some(leak) => ExportError::Leak(leak),
            None => error.into(),
        })?;
        moving.end(done);
        Ok(self.keep(name, descriptor))
    }

    fn keep(&mut self, name: &str, descriptor: LayerDescriptor) -> DiffId {
        let previous = self.finished.plan.source.previous.as_ref();
        let is_known = previous.is_some_and(|image| image.layers.contains_key(&descriptor.diff_id));
        let outcome = if is_known {
            LayerOutcome::Reused
        } else {
            LayerOutcome::Added
        };
        let diff_id = descriptor.diff_id;
        self.tools.watcher.tell(Event::Layer {
            name: name.to_owned(),
            outcome,
            diff_id,
            size: descriptor.blob.size,
        });
        self.all.push(ImageLayer {
            name: name.to_owned(),
            outcome,
            descriptor,
        });
        diff_id
    }
}
