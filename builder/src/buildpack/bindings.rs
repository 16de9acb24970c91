//! What one buildpack gets of a build's secrets: bindings as the Service Binding specification for Kubernetes has them
//! (<https://servicebinding.io/spec/core/1.1.0/>, "Workload Projection"), and variables.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::path::PathBuf;

use packhorse_spec::identifier::BuildpackId;

use crate::model::secret::Delivery;
use crate::model::secret::Secret;

/// The folder of bindings in the platform's folder.
pub const BINDINGS: &str = "bindings";
/// The `type` of a secret's binding, by which buildpacks tell bindings apart.
const TYPE: &[u8] = b"secret";
/// The entry that has the secret's bytes.
const VALUE: &str = "value";

/// The files below the folder of bindings that a buildpack gets: of each binding its `type`, and `value`.
pub fn files_for<'a>(secrets: &'a [Secret], buildpack: &BuildpackId) -> Vec<(PathBuf, &'a [u8])> {
    given(secrets, buildpack, Delivery::Binding)
        .flat_map(|secret| {
            let folder = Path::new(&secret.name);
            [
                (folder.join("type"), TYPE),
                (folder.join(VALUE), secret.value.bytes()),
            ]
        })
        .collect()
}

/// The variables that a buildpack gets.
pub fn variables_for(secrets: &[Secret], buildpack: &BuildpackId) -> Vec<(OsString, OsString)> {
    given(secrets, buildpack, Delivery::Variable)
        .map(|secret| {
            let value = OsString::from_vec(secret.value.without_line_end().to_vec());
            (OsString::from(&secret.name), value)
        })
        .collect()
}

fn given<'a>(
    secrets: &'a [Secret],
    buildpack: &BuildpackId,
    delivery: Delivery,
) -> impl Iterator<Item = &'a Secret> {
    let id = buildpack.as_str().to_owned();
    secrets
        .iter()
        .filter(move |secret| secret.delivery == delivery && secret.is_for(&id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::SecretSpec;

    fn secret(text: &str, delivery: Delivery) -> Secret {
        let spec = SecretSpec::parse(text, delivery).unwrap();
        spec.with(b"0123456789\n".to_vec()).unwrap()
    }

    #[test]
    fn a_secret_is_for_the_buildpack_that_it_names() {
        let secrets = [
            secret("all", Delivery::Binding),
            secret("one@a/one", Delivery::Binding),
            secret("TOKEN@a/one", Delivery::Variable),
        ];
        let files = |id: &str| {
            let files = files_for(&secrets, &id.parse().unwrap());
            files
                .into_iter()
                .map(|(path, bytes)| format!("{}={}", path.display(), String::from_utf8_lossy(bytes)))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            files("a/one"),
            [
                "all/type=secret",
                "all/value=0123456789\n",
                "one/type=secret",
                "one/value=0123456789\n"
            ]
        );
        assert_eq!(files("a/two"), ["all/type=secret", "all/value=0123456789\n"]);
        let variables = |id: &str| variables_for(&secrets, &id.parse().unwrap());
        assert_eq!(
            variables("a/one"),
            [("TOKEN".into(), "0123456789".into())],
            "without the line's end"
        );
        assert!(variables("a/two").is_empty());
    }
}
