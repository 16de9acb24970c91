//! From `.deb`s to a base on disk, and on the way to a layer.

use std::path::Path;
use std::path::PathBuf;

use crate::base::disk::Disk;
use crate::base::error::BaseError;
use crate::base::lock::LockedPackage;
use crate::base::made;
use crate::base::scripts;
use crate::base::sink::LayerSink;
use crate::base::tree::Tree;
use crate::base::unpack::unpack;
use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::model::descriptor::LayerDescriptor;
use crate::model::owners::Owners;
use crate::model::timestamp::Timestamp;

/// What a base is assembled from.
pub(super) struct Assembly {
    pub(super) packages: Vec<LockedPackage>,
    /// Their `.deb`s, in the same order.
    pub(super) debs: Vec<PathBuf>,
    pub(super) architecture: String,
    /// How owners are kept on disk.
    pub(super) owners: Owners,
    /// Takes the same entries for a layer.
    pub(super) layer: Option<Box<dyn LayerSink>>,
}

/// What came of it.
pub(super) struct Assembled {
    /// The newest time in the tree.
    pub(super) newest: Timestamp,
    /// The layer, if one was made.
    pub(super) layer: Option<LayerDescriptor>,
}

/// Assembles a base at `root`, which does not exist yet. The packages are decompressed once; the layer is read from the
/// tree, in its order.
pub(super) fn assemble(
    assembly: Assembly,
    root: &Path,
    watcher: &dyn Events,
    cancel: &Cancel,
) -> Result<Assembled, BaseError> {
    std::fs::create_dir_all(root).map_err(BaseError::file("make", root))?;
    let owners = rustix::process::geteuid().is_root().then_some(assembly.owners);
    let mut disk = Disk {
        root: root.to_owned(),
        owners,
    };
    let unpacked = unpack(assembly.packages, &assembly.debs, &disk, watcher, cancel)?;
    let mut tree = Tree::merge(&unpacked)?;
    let mut odd = made::make(&mut tree, root, &unpacked, &assembly.architecture)?;
    let unseen = scripts::not_looked_at(&unpacked);
    if !unseen.is_empty() {
        odd.push(format!(
            "the Debian base has maintainer scripts that packhorse does not know: {}",
            unseen.join(", ")
        ));
    }
    for text in odd {
        watcher.tell(Event::Warning { text });
    }
    tree.complete(&mut disk)?;
    cancel.check()?;
    let layer = assembly.layer.map(|mut sink| {
        tree.feed(root, &mut *sink, cancel)?;
        sink.finish().map_err(BaseError::file("write the layer of", root))
    });
    Ok(Assembled {
        newest: Timestamp(tree.newest()),
        layer: layer.transpose()?,
    })
}
