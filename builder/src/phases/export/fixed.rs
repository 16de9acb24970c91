//! The layers that do not come from buildpacks: the launcher and the links for its process types (cnb §5.5).

use std::io;
use std::path::PathBuf;

use packhorse_spec::identifier::ProcessType;

use crate::model::timestamp::Timestamp;
use crate::oci::layer::LayerTar;
use crate::oci::tar::header::Header;
use crate::oci::tar::header::Kind;
use crate::oci::tree::TreeError;
use crate::phases::export::ExportError;
use crate::store::embedded;

/// Where the launcher is in every image.
pub(super) const LAUNCHER: &str = "/cnb/lifecycle/launcher";
/// Where the process types are links to it.
pub(super) const PROCESSES: &str = "/cnb/process";

/// The launcher's bytes.
pub(super) struct Launcher(Vec<u8>);

/// Reads the launcher.
pub(super) fn launcher() -> Result<Launcher, ExportError> {
    embedded::launcher().map(Launcher).map_err(|source| {
        TreeError::Read {
            path: PathBuf::from(LAUNCHER),
            source,
        }
        .into()
    })
}

impl Launcher {
    pub(super) fn append(&self, tar: &mut LayerTar<'_>) -> Result<(), TreeError> {
        folder(tar, "/cnb")?;
        folder(tar, "/cnb/lifecycle")?;
        let size = self.0.len() as u64;
        tar.append(
            &header(LAUNCHER, Kind::File { size }),
            &mut io::Cursor::new(&self.0),
        )?;
        Ok(())
    }
}

/// One link for each process type, in the order given.
pub(super) fn append_process_types(tar: &mut LayerTar<'_>, types: &[ProcessType]) -> Result<(), TreeError> {
    folder(tar, "/cnb")?;
    folder(tar, PROCESSES)?;
    for name in types {
        let target = LAUNCHER.as_bytes().to_vec();
        let link = format!("{PROCESSES}/{}", name.as_str());
        tar.append_empty(&header(&link, Kind::Symlink { target }))?;
    }
    Ok(())
}

fn folder(tar: &mut LayerTar<'_>, path: &str) -> Result<(), TreeError> {
    Ok(tar.append_empty(&header(path, Kind::Directory))?)
}

fn header(path: &str, kind: Kind) -> Header {
    Header {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timestamp::BUILDPACKS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::layer::diff_id_of;

    /// The digests of cnb §C.2.
    #[test]
    fn the_fixed_layers_have_the_references_bytes() {
        let of = |types: &[&str]| {
            let types: Vec<ProcessType> = types.iter().map(|name| name.parse().unwrap()).collect();
            diff_id_of(|tar| append_process_types(tar, &types))
                .unwrap()
                .0
                .to_string()
        };
        assert_eq!(
            of(&["web"]),
            "sha256:83d85471d9f8a3834b4e27cf701e3f0aef220cc816d9c173c7d32cd73909a590"
        );
        assert_eq!(
            of(&["web", "worker"]),
            "sha256:c32b6c6d08c5d84a980a518d1dd9093c22b9e003f2b6b468f12fe1e7cd918b3f"
        );
        let launcher = Launcher(b"launcher-content".to_vec());
        let diff_id = diff_id_of(|tar| launcher.append(tar)).unwrap().0.to_string();
        assert_eq!(
            diff_id,
            "sha256:eb8cd01c7ae3cc4b516ccee89832066897b6728ba2b43044bf4c0fcb34826ba3"
        );
    }
}
