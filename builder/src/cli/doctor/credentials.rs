//! Where credentials for registries are, and whether they can be used; never what they are.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;

use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::registry::credential_survey::Held;
use crate::registry::credential_survey::Source;

/// Whether a program of that name is on the search path.
pub(super) fn is_on_path(program: &str, search_path: Option<&OsStr>) -> bool {
    let folders = search_path.map(std::env::split_paths).into_iter().flatten();
    folders.map(|folder| folder.join(program)).any(|path| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// A row for each source that is there; one if there is none.
pub(super) fn rows(held: &[Held], has_program: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let there: Vec<Row> = held
        .iter()
        .filter_map(|held| Some(row(held, held.registries.as_ref()?, has_program)))
        .collect();
    if !there.is_empty() {
        return there;
    }
    let looked: Vec<String> = held.iter().map(|held| place(&held.source)).collect();
    let found = format!(
        "none: registries are asked anonymously (looked at {})",
        looked.join(", ")
    );
    vec![Row::new("credentials", State::Info, found).cure(
        "credentials for a registry",
        "docker login REGISTRY    # or podman, skopeo, crane: each writes a file that packhorse reads",
    )]
}

fn row(held: &Held, registries: &[String], has_program: &dyn Fn(&str) -> bool) -> Row {
    let name = "credentials";
    let place = place(&held.source);
    if !held.wrong.is_empty() {
        let found = format!("{place}: {}", held.wrong.join("; "));
        return Row::new(name, State::Fail, found).cure(
            "credentials that can be used",
            "docker logout REGISTRY; docker login REGISTRY",
        );
    }
    let missing: Vec<String> = held
        .helpers
        .iter()
        .map(|helper| format!("docker-credential-{helper}"))
        .filter(|program| !has_program(program))
        .collect();
    if !missing.is_empty() {
        let found = format!("{place} names {}, not found on PATH", missing.join(" and "));
        return Row::new(name, State::Fail, found).cure(
            "the helper that keeps the credentials",
            format!(
                "# install {}, or take it out of `credsStore` or `credHelpers` in {place}",
                missing.join(" and ")
            ),
        );
    }
    let registries = match registries {
        [] => "for no registry".to_owned(),
        some => format!("for {}", some.join(", ")),
    };
    let helpers = if held.helpers.is_empty() {
        String::new()
    } else {
        let names: Vec<&str> = held.helpers.iter().map(String::as_str).collect();
        format!("; helpers: {}", names.join(", "))
    };
    Row::new(name, State::Ok, format!("{place}: {registries}{helpers}"))
}

fn place(source: &Source) -> String {
    match source {
        Source::Variable => "CNB_REGISTRY_AUTH".to_owned(),
        Source::File(path) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(registries: Option<&[&str]>, helpers: &[&str], wrong: &[&str]) -> Held {
        let owned = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
        Held {
            source: Source::File("/home/anna/.docker/config.json".into()),
            registries: registries.map(owned),
            helpers: owned(helpers).into_iter().collect(),
            wrong: owned(wrong),
        }
    }

    #[test]
    fn each_state_of_a_file_has_its_row() {
        let nothing = rows(&[held(None, &[], &[])], &|_| true);
        assert_eq!((nothing.len(), nothing[0].state), (1, State::Info));
        let good = rows(&[held(Some(&["r.example"]), &["pass"], &[])], &|_| true);
        assert_eq!(good[0].state, State::Ok);
        assert_eq!(
            good[0].found,
            "/home/anna/.docker/config.json: for r.example; helpers: pass"
        );
        let lost = rows(&[held(Some(&[]), &["desktop"], &[])], &|_| false);
        assert_eq!(lost[0].state, State::Fail);
        assert!(lost[0].found.contains("docker-credential-desktop"), "{lost:?}");
        let broken = rows(
            &[held(Some(&[]), &[], &["it is not valid JSON at line 3"])],
            &|_| true,
        );
        assert_eq!(broken[0].state, State::Fail);
    }

    #[test]
    fn a_program_must_be_executable_to_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker-credential-x");
        let is_there = || is_on_path("docker-credential-x", Some(folder.path().as_os_str()));
        assert!(!is_there());
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!is_there());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_there());
    }
}
