//! What the sources of credentials hold, without asking any registry or helper, and without a secret.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::registry::credentials::CredentialSources;
use crate::registry::credentials::entries_of_variable;
use crate::registry::credentials::from_entry;
use crate::registry::credentials::from_value;
use crate::registry::credentials::read;
use crate::registry::error::RegistryError;

/// Where credentials may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The variable `CNB_REGISTRY_AUTH`.
    Variable,
    /// A file.
    File(PathBuf),
}

/// What one source holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which source.
    pub source: Source,
    /// For which registries, by the keys that are written there; none if it is not there.
    pub registries: Option<Vec<String>>,
    /// The helpers that it names: `NAME` of `docker-credential-NAME`.
    pub helpers: BTreeSet<String>,
    /// What of it cannot be used.
    pub wrong: Vec<String>,
}

impl CredentialSources {
    /// Reads every source as a build would, whichever registry it asks for.
    pub fn survey(&self) -> Vec<Held> {
        let variable = self
            .cnb_registry_auth
            .iter()
            .map(|text| held(Source::Variable, variable(text)));
        let files = self
            .files
            .iter()
            .map(|path| held(Source::File(path.clone()), self::file(path)));
        variable.chain(files).collect()
    }
}

/// Registries, helpers and faults; none: there is no such source.
type Read = Option<(Vec<String>, BTreeSet<String>, Vec<String>)>;

fn held(source: Source, read: Result<Read, RegistryError>) -> Held {
    let (registries, helpers, wrong) = match read {
        Ok(Some((registries, helpers, wrong))) => (Some(registries), helpers, wrong),
        Ok(None) => (None, BTreeSet::new(), Vec::new()),
        Err(error) => (Some(Vec::new()), BTreeSet::new(), vec![error.to_string()]),
    };
    Held {
        source,
        registries,
        helpers,
        wrong,
    }
}

fn variable(text: &str) -> Result<Read, RegistryError> {
    let entries = entries_of_variable(text)?;
    let faults = entries
        .iter()
        .filter_map(|(registry, value)| Some(format!("{registry}: {}", from_value(value).err()?)));
    let faults = faults.collect();
    Ok(Some((entries.into_keys().collect(), BTreeSet::new(), faults)))
}

fn file(path: &std::path::Path) -> Result<Read, RegistryError> {
    let Some(file) = read(path)? else { return Ok(None) };
    let faults = file
        .auths
        .iter()
        .filter_map(|(registry, entry)| Some(format!("{registry}: {}", from_entry(entry, path).err()?)));
    let faults = faults.collect();
    let helpers = file
        .cred_helpers
        .values()
        .chain(&file.creds_store)
        .filter(|name| !name.is_empty())
        .cloned()
        .collect();
    let registries: BTreeSet<String> = file
        .auths
        .into_keys()
        .chain(file.cred_helpers.into_keys())
        .collect();
    Ok(Some((registries.into_iter().collect(), helpers, faults)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_without_their_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"auths":{"a.example":{"auth":"dTpw"},"b.example":{"auth":"s3cret!"}},
            "credHelpers":{"c.example":"gcloud"},"credsStore":"desktop"}"#;
        std::fs::write(&path, text).unwrap();
        let absent = folder.path().join("absent");
        let sources = CredentialSources {
            cnb_registry_auth: Some(r#"{"d.example":"Basic dTpw","e.example":"s3cret"}"#.to_owned()),
            files: vec![path.clone(), absent.clone()],
            ..CredentialSources::default()
        };
        let found = sources.survey();
        assert_eq!(found[0].source, Source::Variable);
        assert_eq!(
            found[0].registries.as_deref(),
            Some(&["d.example".to_owned(), "e.example".to_owned()][..])
        );
        assert_eq!(found[0].wrong.len(), 1);
        assert_eq!(found[1].source, Source::File(path));
        assert_eq!(found[1].helpers.iter().collect::<Vec<_>>(), ["desktop", "gcloud"]);
        assert_eq!(found[1].registries.as_ref().unwrap().len(), 3);
        assert_eq!(found[1].wrong.len(), 1);
        assert_eq!(found[2].registries, None);
        let all = format!("{found:?}");
        assert!(!all.contains("s3cret") && !all.contains("dTpw"), "{all}");
    }

    #[test]
    fn a_variable_that_is_no_json_is_wrong() {
        let sources = CredentialSources {
            cnb_registry_auth: Some("s3cret".to_owned()),
            ..CredentialSources::default()
        };
        let found = sources.survey();
        assert_eq!(found[0].registries.as_deref(), Some(&[][..]));
        assert!(
            found[0].wrong[0].contains("not a JSON object") && !found[0].wrong[0].contains("s3cret"),
            "{found:?}"
        );
    }
}
