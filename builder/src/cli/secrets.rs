//! Reads the secrets that the command line names, from files and from the environment.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::cli::arguments::build::BuildArguments;
use crate::cli::config::Config;
use crate::model::secret::Delivery;
use crate::model::secret::SECRET_BYTES_MAX;
use crate::model::secret::Secret;
use crate::model::secret::SecretError;
use crate::model::secret::SecretOrigin;
use crate::model::secret::SecretSpec;
use crate::model::secret::check_together;

/// The secrets of `--secret` and `--secret-env`.
pub fn read(arguments: &BuildArguments, config: &Config) -> Result<Vec<Secret>, SecretError> {
    let bindings = arguments.secret.iter().map(|text| (text, Delivery::Binding));
    let variables = arguments.secret_env.iter().map(|text| (text, Delivery::Variable));
    let mut secrets = Vec::new();
    for (text, delivery) in bindings.chain(variables) {
        let spec = SecretSpec::parse(text, delivery)?;
        let bytes = bytes_of(&spec, config)?;
        secrets.push(spec.with(bytes)?);
    }
    check_together(&secrets)?;
    Ok(secrets)
}

fn bytes_of(spec: &SecretSpec, config: &Config) -> Result<Vec<u8>, SecretError> {
    let unreadable = |why: String| SecretError::Unreadable {
        name: spec.name.clone(),
        why,
    };
    match &spec.origin {
        SecretOrigin::Variable(variable) => match config.environment.get(variable) {
            Some(value) => Ok(value.as_bytes().to_vec()),
            None => Err(unreadable(format!("there is no variable `{variable}` here"))),
        },
        SecretOrigin::File(path) => read_file(path).map_err(|error| {
            unreadable(match error.kind() {
                // It may be the secret itself, written where its file belongs.
                io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename => {
                    "there is no file of the name behind its `=`".to_owned()
                }
                _ => format!("cannot read `{}`: {error}", path.display()),
            })
        }),
    }
}

/// No more than a secret may have, and one byte to see that it has more. A pipe is as good as a file: `<(pass show npm)`.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
