//! What the source is: its content, its labels, its time; and everything else that is input to the build.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::events::Moving;
use crate::git::work_tree::work_tree;
use crate::model::build_key::KeyInputs;
use crate::model::digest::Digest;
use crate::model::named_by::NamedBy;
use crate::model::output::Output;
use crate::model::request::BuildRequest;
use crate::model::source::GitUrl;
use crate::model::source::SourceSpec;
use crate::model::timestamp::Timestamp;
use crate::phases::handover::Guard;
use crate::phases::handover::Origin;
use crate::phases::handover::Source;
use crate::phases::handover::SourceIdentity;
use crate::phases::handover::Tools;
use crate::phases::source::SourceError;
use crate::secrets::search::Search;
use crate::store::embedded;
use crate::store::error::StoreError;
use crate::store::stat_cache::HashRules;

/// The source as far as it is known without asking any output.
pub(super) fn describe(request: &BuildRequest, tools: &Tools<'_>) -> Result<Source, SourceError> {
    let known = match &request.source {
        SourceSpec::Directory { path, subdirectory } => {
            directory(path, subdirectory.as_deref(), request, tools)?
        }
        SourceSpec::Git(url) => repository(url, tools)?,
    };
    let key = KeyInputs {
        program: [embedded::PROGRAM, embedded::DIGEST],
        source: known.content,
        remote: known.identity.remote.clone(),
        revision: known.identity.revision.clone(),
        name: known.identity.name.clone(),
        created: request.created.unwrap_or(known.time),
        buildpacks: request
            .buildpacks
            .iter()
            .map(|path| buildpack(path, tools))
            .collect::<Result<_, _>>()?,
        environment: request.environment.clone(),
        secrets: presence_of(request, tools)?,
        options: [request.keep_git, request.submodules],
        network: tools.builder.network.key_text(),
    };
    let app = app_of(request, known.app);
    Ok(Source {
        origin: known.origin,
        identity: known.identity,
        app,
        key,
        previous: None,
        guard: Guard {
            search: Search::of(&request.secrets)?,
            width: request.search_width,
        },
    })
}

/// What of the secrets is input: a changed one builds again, and no receipt says what it is.
fn presence_of(request: &BuildRequest, tools: &Tools<'_>) -> Result<Vec<(String, String)>, StoreError> {
    if request.secrets.is_empty() {
        return Ok(Vec::new());
    }
    let key = tools.store.secret_key()?;
    let presence = request.secrets.iter().map(|secret| {
        // The hash is of the name too: two secrets of the same bytes do not look alike.
        let bytes = [secret.name.as_bytes(), b"=", secret.value.bytes()].concat();
        (secret.presence(), key.hash(&bytes))
    });
    let mut presence: Vec<_> = presence.collect();
    presence.sort();
    Ok(presence)
}

struct Known {
    origin: Origin,
    identity: SourceIdentity,
    /// What is the same for the same files.
    content: String,
    time: Timestamp,
    /// What the cache belongs to where no output names a repository.
    app: String,
}

fn directory(
    path: &Path,
    subdirectory: Option<&str>,
    request: &BuildRequest,
    tools: &Tools<'_>,
) -> Result<Known, SourceError> {
    let missing = |why: String| SourceError::NoDirectory {
        path: path.to_owned(),
        why,
    };
    let top = fs::canonicalize(path).map_err(|error| missing(error.to_string()))?;
    let directory = subdirectory.map_or_else(|| top.clone(), |below| top.join(below));
    if !directory.is_dir() {
        return Err(match subdirectory {
            Some(below) => SourceError::NoSubdirectory {
                path: path.to_owned(),
                subdirectory: below.to_owned(),
            },
            None => missing("it is not a directory".to_owned()),
        });
    }
    let leave_out = left_out(&directory, request);
    let content = hash_folder(&directory, &leave_out, tools).map_err(|error| match error {
        StoreError::File { path, source, .. } if path.starts_with(&directory) => {
            SourceError::Unreadable { path, source }
        }
        other => other.into(),
    })?;
    let app = format!("directory {}", directory.display());
    let tree = work_tree(&directory).filter(|tree| tree.clean);
    let time = tree.as_ref().map_or(Timestamp::BUILDPACKS, |tree| tree.time);
    let identity = tree.map_or_else(SourceIdentity::default, |tree| SourceIdentity {
        remote: tree.canonical,
        revision: Some(tree.commit),
        name: None,
    });
    Ok(Known {
        origin: Origin::Directory {
            path: directory,
            leave_out,
        },
        identity,
        content: content.to_string(),
        time,
        app,
    })
}

fn repository(url: &GitUrl, tools: &Tools<'_>) -> Result<Known, SourceError> {
    // Git's client blocks and must not see the runtime, so it gets a thread of its own.
    let resolved = std::thread::scope(|scope| {
        let resolving = scope.spawn(|| {
            tools
                .git
                .resolve(url, NamedBy::User, tools.watcher.as_ref(), tools.cancel)
        });
        resolving
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let subdirectory = url.subdirectory.as_deref().unwrap_or_default();
    let app = format!(
        "{} {subdirectory}",
        resolved
            .canonical
            .clone()
            .unwrap_or_else(|| url.location.to_string())
    );
    let identity = SourceIdentity {
        remote: resolved.canonical.clone(),
        revision: Some(resolved.commit.clone()),
        name: resolved.name.clone(),
    };
    let content = format!("commit {} tree {}", resolved.commit, resolved.tree);
    Ok(Known {
        content,
        identity,
        time: resolved.commit_time,
        app,
        origin: Origin::Git(Box::new(resolved)),
    })
}

/// What of a directory is no part of the source: git's own folder, and what a build writes into it. Relative to it.
fn left_out(directory: &Path, request: &BuildRequest) -> Vec<PathBuf> {
    let written = request.outputs.iter().filter_map(|output| match output {
        Output::Layout { directory, .. } => Some(directory),
        Output::Registry(_) | Output::Local(_) => None,
    });
    let inside = |path: &PathBuf| {
        let (parent, name) = (path.parent()?, path.file_name()?);
        // What is not there yet has a parent that is.
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        let whole =
            fs::canonicalize(path).or_else(|_| Ok::<_, std::io::Error>(fs::canonicalize(parent)?.join(name)));
        let below = whole.ok()?.strip_prefix(directory).ok()?.to_owned();
        (!below.as_os_str().is_empty()).then_some(below)
    };
    let mut all: Vec<PathBuf> = written
        .chain(&request.report_directory)
        .filter_map(inside)
        .collect();
    if !request.keep_git {
        all.push(".git".into());
    }
    all
}

/// The content of a buildpack that the command line names.
fn buildpack(path: &Path, tools: &Tools<'_>) -> Result<Digest, SourceError> {
    if !path.join("buildpack.toml").is_file() {
        let why = if path.is_dir() {
            "it has no buildpack.toml"
        } else {
            "there is no such directory"
        };
        return Err(SourceError::NoBuildpack {
            path: path.to_owned(),
            why: why.to_owned(),
        });
    }
    Ok(hash_folder(path, &[".git".into()], tools)?)
}

/// The hash of a folder's content; told as progress if it takes long.
fn hash_folder(folder: &Path, leave_out: &[PathBuf], tools: &Tools<'_>) -> Result<Digest, StoreError> {
    let mut moving = Moving::if_slow(tools.watcher.as_ref(), &format!("hash {}", folder.display()));
    let mut read = 0;
    let mut passed = |bytes| {
        read = bytes;
        moving.tell(bytes);
    };
    let rules = HashRules {
        leave_out,
        now: tools.now(),
        stop: tools.cancel.flag(),
    };
    let digest = tools.store.hash_folder(folder, rules, &mut passed)?;
    moving.end(read);
    Ok(digest)
}

/// A cache belongs to the output's repository, else to the source; never to a folder's base name.
fn app_of(request: &BuildRequest, otherwise: String) -> String {
    let repository = request.outputs.iter().find_map(|output| match output {
        Output::Registry(reference) => Some(reference.name()),
        Output::Layout { .. } | Output::Local(_) => None,
    });
    repository.unwrap_or(otherwise)
}
