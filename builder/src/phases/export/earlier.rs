//! Searches a layer that an earlier build has made: its own search did not know the secrets of this one.

use std::io::Read;

use crate::model::descriptor::LayerDescriptor;
use crate::oci::decode::DecodeLimits;
use crate::oci::decode::LayerReader;
use crate::oci::tar::header::Header;
use crate::oci::tar::header::Kind;
use crate::oci::tar::inspector::Inspector as _;
use crate::oci::tar::reader::TarReader;
use crate::phases::export::ExportError;
use crate::phases::export::leak::Leak;
use crate::phases::handover::Guard;
use crate::phases::handover::Tools;
use crate::secrets::search::LayerSearch;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// Looks through the blob of the layer that is called `name`. Nothing is done in a build without secrets.
pub(super) fn search(
    name: &str,
    layer: &LayerDescriptor,
    guard: &Guard,
    tools: &Tools<'_>,
) -> Result<(), ExportError> {
    let Some(search) = &guard.search else {
        return Ok(());
    };
    let failed = |why: String| ExportError::Unsearched {
        name: name.to_owned(),
        why,
    };
    let blob = tools.store.blobs()?.open(&layer.blob.digest)?;
    let reader = LayerReader::new(blob, &layer.blob, DecodeLimits::default());
    let mut tar = TarReader::new(reader.map_err(|error| failed(error.to_string()))?);
    let mut looking = LayerSearch::new(search.clone());
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Some(entry) = tar.next_entry().map_err(|error| failed(error.to_string()))? {
        tools.cancel.check()?;
        let target = target_of(&entry);
        let named = looking.name(&entry.path).and_then(|()| looking.name(target));
        named.map_err(|found| Leak::in_layer(name, "", found))?;
        loop {
            let count = tar.read(&mut buffer).map_err(|error| failed(error.to_string()))?;
            if count == 0 {
                break;
            }
            let path = || entry.path.escape_ascii().to_string();
            looking
                .contents(&buffer[..count])
                .map_err(|found| Leak::in_layer(name, &path(), found))?;
        }
    }
    // Only now is it known that these were the blob's bytes.
    let read = tar.into_inner().finish();
    read.map(drop).map_err(|error| failed(error.to_string()))
}

fn target_of(entry: &Header) -> &[u8] {
    match &entry.kind {
        Kind::Symlink { target } | Kind::Hardlink { target } => target,
        _ => &[],
    }
}
