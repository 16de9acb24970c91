//! Words for what is wrong with the app's own files.

use super::Message;
use crate::json::JsonError;
use crate::lockfile::OtherPackageManager;
use crate::node_request::InvalidVersionError;
use crate::node_request::Origin;
use crate::node_request::WhyInvalid;
use crate::package_json::PACKAGE_JSON;
use crate::project::ReadProjectError;
use crate::release_lines::lts_names;

pub(super) fn message(error: &ReadProjectError) -> Message {
    match error {
        ReadProjectError::Json(error) => json_message(error),
        ReadProjectError::File(error) => Message {
            title: "a file of the app could not be read".to_string(),
            place: "the app's folder".to_string(),
            why: error.to_string(),
            hint: "the file must be plain UTF-8 text that the build's user may read".to_string(),
        },
        ReadProjectError::NoPackageJson => Message {
            title: "package.json is gone".to_string(),
            place: "the app's folder".to_string(),
            why: "it was there when the buildpacks were chosen".to_string(),
            hint: "look for a buildpack before this one that removes it".to_string(),
        },
        ReadProjectError::OtherPackageManager(error) => other_package_manager_message(error.manager),
        ReadProjectError::Version(error) => version_message(error),
        ReadProjectError::Registry(error) => Message {
            title: "the address of the npm registry is not valid".to_string(),
            place: error.place.to_string(),
            why: error.to_string(),
            hint: "write it like `https://registry.example/npm`".to_string(),
        },
    }
}

fn json_message(error: &JsonError) -> Message {
    let hint = if error.file == PACKAGE_JSON {
        format!("correct that line, then run `npm pkg get name`; it reads {PACKAGE_JSON} and must succeed")
    } else {
        format!(
            "do not repair it by hand: remove {0} and conflict markers (`<<<<<<<`), run `npm install`, commit {0}",
            error.file
        )
    };
    Message {
        title: format!("{} is not valid", error.file),
        place: format!("{}, line {}, column {}", error.file, error.line, error.column),
        why: error.why.clone(),
        hint,
    }
}

fn other_package_manager_message(manager: OtherPackageManager) -> Message {
    let (name, lockfile) = (manager.name(), manager.lockfile());
    Message {
        title: format!("{name} is not supported yet, only npm"),
        place: lockfile.to_string(),
        why: format!(
            "the app has {lockfile} and no package-lock.json, and other versions would be installed with npm"
        ),
        hint: "run `npm install` and commit package-lock.json".to_string(),
    }
}

fn version_message(error: &InvalidVersionError) -> Message {
    let (tool, example) = match error.origin {
        Origin::EnginesNpm => ("npm", r#"`"engines": { "npm": "11.x" }`"#),
        Origin::EnginesNode => ("Node.js", r#"`"engines": { "node": "24.x" }`"#),
        Origin::Nvmrc | Origin::NodeVersionFile | Origin::Default => ("Node.js", "`24` or `lts/krypton`"),
    };
    let known = match error.why {
        WhyInvalid::UnknownLts => format!("; known are {}", lts_names().join(", ")),
        WhyInvalid::NotARange | WhyInvalid::NotAVersion | WhyInvalid::LocalAlias => String::new(),
    };
    Message {
        title: format!("the wanted version of {tool} cannot be understood"),
        place: error.origin.to_string(),
        why: format!("{error}{known}"),
        hint: format!("write something like {example}"),
    }
}
