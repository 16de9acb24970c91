//! Words for npm commands that fail; npm's own output stands above them in the log.

use super::Message;
use super::disk_full;
use crate::lockfile::Lockfile;
use crate::npm::RunNpmError;
use std::os::unix::process::ExitStatusExt;

/// npm exits with the low byte of the negative errno: -28, ENOSPC.
const NPM_DISK_FULL: i32 = 228;
const SIGKILL: i32 = 9;
const DIFFERENCES_MAX: usize = 10;

pub(super) fn install_message(error: &RunNpmError, lockfile: Lockfile, differences: &[String]) -> Message {
    let place = match lockfile.file_name() {
        Some(name) => format!("package.json and {name}"),
        None => "package.json".to_string(),
    };
    let hint = if differences.is_empty() {
        "run the same command in a clean checkout; it must succeed there first"
    } else {
        "run `npm install` and commit both files"
    };
    let shown = differences
        .iter()
        .take(DIFFERENCES_MAX)
        .map(|difference| difference.escape_debug().to_string());
    let more = differences.len().saturating_sub(DIFFERENCES_MAX);
    let why: Vec<String> = std::iter::once(format!("{error}; npm's own error is above"))
        .chain(shown)
        .chain((more > 0).then(|| format!("and {more} more")))
        .collect();
    let why = why.join("\n       ");
    let title = if differences.is_empty() {
        "the dependencies could not be installed"
    } else {
        "the dependencies could not be installed: package.json and the lock file do not agree"
    };
    npm_message(error, title, place, why, hint)
}

pub(super) fn build_script_message(error: &RunNpmError) -> Message {
    npm_message(
        error,
        "the app's build script failed",
        "`scripts.build` in package.json".to_string(),
        format!("{error}; its own output is above"),
        "run `npm ci` and `npm run build` in a clean checkout; they must succeed there first",
    )
}

pub(super) fn prune_message(error: &RunNpmError) -> Message {
    npm_message(
        error,
        "the development dependencies could not be removed",
        "node_modules".to_string(),
        format!("{error}; npm's own error is above"),
        "run `npm prune --omit=dev` in a clean checkout; NODE_ENV=development for the build skips this step",
    )
}

fn npm_message(error: &RunNpmError, title: &str, place: String, why: String, hint: &str) -> Message {
    let RunNpmError::Failed { status, .. } = error else {
        return Message {
            title: "npm could not be started".to_string(),
            place: "the layer `node`".to_string(),
            why: error.to_string(),
            hint: "the build image must have /usr/bin/env, a shell and glibc; an Alpine image has no glibc"
                .to_string(),
        };
    };
    if status.code() == Some(NPM_DISK_FULL) {
        return disk_full(&why);
    }
    let hint = match status.signal() {
        Some(SIGKILL) => "most often the build ran out of memory; give it more",
        _ => hint,
    };
    Message {
        title: title.to_string(),
        place,
        why,
        hint: hint.to_string(),
    }
}
