//! Whether a restored layer is still what the cache says: nothing of it, nor a mark above it, is in the overlay's upper.

use std::path::Path;

/// The mark that hides everything below a folder (overlayfs with `userxattr`).
const OPAQUE: &str = "user.overlay.opaque";

/// Whether the folder `place` (relative: `ESC/NAME`) of the layers is as it was restored.
pub(super) fn is_untouched(upper: &Path, place: &Path) -> bool {
    if upper.join(place).symlink_metadata().is_ok() {
        return false;
    }
    let above = place.ancestors().skip(1);
    above.map(|parent| upper.join(parent)).all(|parent| match parent.symlink_metadata() {
        Ok(metadata) => metadata.is_dir() && !is_opaque(&parent),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    })
}

fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(folder, OPAQUE, &mut value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_entry_or_a_mark_above_means_touched() {
        let upper = tempfile::tempdir_in("/dev/shm").unwrap();
        let place = Path::new("a_b/layer");
        assert!(is_untouched(upper.path(), place));
        fs::create_dir(upper.path().join("a_b")).unwrap();
        fs::write(upper.path().join("a_b/layer.toml"), "").unwrap();
        assert!(is_untouched(upper.path(), place));
        rustix::fs::lsetxattr(upper.path().join("a_b"), OPAQUE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        assert!(!is_untouched(upper.path(), place));
        rustix::fs::lremovexattr(upper.path().join("a_b"), OPAQUE).unwrap();
        fs::create_dir(upper.path().join("a_b/layer")).unwrap();
        assert!(!is_untouched(upper.path(), place));
        assert!(!is_untouched(upper.path(), Path::new("a_b/layer.toml/x")), "its parent is no folder any more");
    }
}
