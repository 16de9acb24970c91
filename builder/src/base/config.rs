//! The configuration of a base as an image (OCI image spec, image configuration; CNB spec, labels of base images).

use serde_json::Value;
use serde_json::json;

use crate::base::accounts::USER_ID;
use crate::base::flavour::Flavour;
use crate::model::digest::Digest;
use crate::model::timestamp::Timestamp;

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The distribution's version, as `VERSION_ID` of its os-release.
const VERSION: &str = "13";

/// The configuration of a base of `flavour`, without its layers: `rootfs.diff_ids` and `history` are empty.
pub(super) fn image_config(flavour: Flavour, architecture: &str, lock: Digest, created: Timestamp) -> Value {
    let mut environment = vec![format!("PATH={PATH}")];
    if flavour == Flavour::Build {
        environment.push(format!("CNB_USER_ID={USER_ID}"));
        environment.push(format!("CNB_GROUP_ID={USER_ID}"));
    }
    json!({
        "architecture": architecture,
        "config": {
            "Cmd": ["/bin/bash"],
            "Env": environment,
            "Labels": {
                "io.buildpacks.base.distro.name": "debian",
                "io.buildpacks.base.distro.version": VERSION,
                "io.buildpacks.base.homepage": "https://www.debian.org/",
                "io.buildpacks.base.id": format!("packhorse.debian{VERSION}.{flavour}"),
                "io.buildpacks.base.maintainer": "packhorse",
                "io.buildpacks.base.released": created.to_string(),
                "io.packhorse.base.lock": lock.to_string(),
            },
            "User": format!("{USER_ID}:{USER_ID}"),
        },
        "created": created.to_string(),
        "history": [],
        "os": "linux",
        "rootfs": { "diff_ids": [], "type": "layers" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_build_flavour_names_the_user_in_its_environment() {
        let config = |flavour| image_config(flavour, "amd64", Digest::of(b""), Timestamp(1_790_000_000));
        let build = config(Flavour::Build);
        assert_eq!(build["config"]["Env"][1], "CNB_USER_ID=1000");
        assert_eq!(
            build["config"]["Labels"]["io.buildpacks.base.id"],
            "packhorse.debian13.build"
        );
        let run = config(Flavour::Run);
        assert_eq!(run["config"]["Env"].as_array().unwrap().len(), 1);
        assert_eq!(run["config"]["User"], "1000:1000");
    }
}
