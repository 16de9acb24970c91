//! Volumes: what `-v` says, and whether the process will be able to write to one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::owners::Owners;
use crate::sandbox::ladder::Ground;
use crate::sandbox::ladder::Walls;
use crate::sandbox::spec::Bind;
use crate::sandbox::spec::BindMode;
use crate::sandbox::spec::User;

/// What nothing may be put over, nor into.
const RESERVED: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// What it shows cannot be found.
    #[error("cannot show `{}` in the image: {source}; it is not made for you", path.display())]
    Source {
        /// As it was typed.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nothing can be mounted.
    #[error(
        "cannot show `{}` in the image: the sandbox of the rung `chroot`, which is all that this machine allows or \
         what was asked for, mounts nothing",
        path.display()
    )]
    NoMounts {
        /// The first that was asked for.
        path: PathBuf,
    },
}

impl Failure for VolumeError {
    fn facts(&self) -> Facts {
        match self {
            Self::Source { .. } => Facts::user("volume_unusable"),
            Self::NoMounts { .. } => Facts::platform("volume_without_mounts"),
        }
    }
}

/// Reads `SOURCE:TARGET[:ro|rw]`. The source is not looked at yet.
pub(super) fn parse(text: &str) -> Result<Bind, String> {
    let mut parts = text.split(':');
    let (Some(source), Some(target), mode, None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(format!(
            "`{text}` is no volume: write SOURCE:TARGET, with `:rw` to write to it"
        ));
    };
    let mode = match mode {
        None | Some("ro") => BindMode::ReadOnly,
        Some("rw") => BindMode::ReadWrite,
        Some(other) => {
            return Err(format!(
                "`{other}` is no way to show a volume: write `ro` or `rw`"
            ));
        }
    };
    let is_path =
        ["/", "./", "../"].iter().any(|start| source.starts_with(start)) || source == "." || source == "..";
    if !is_path {
        return Err(format!(
            "`{source}` is no path, and there are no volumes with names: write `./{source}` for what is here, or an \
             absolute path"
        ));
    }
    Ok(Bind {
        source: PathBuf::from(source),
        target: target_of(target)?,
        mode,
    })
}

/// A place in the image where something may be put.
fn target_of(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_plain {
        return Err(format!(
            "`{text}` is no place in the image: write an absolute path without `..`"
        ));
    }
    // Without the second of two slashes, and without one at the end.
    let path: PathBuf = path.components().collect();
    if path == Path::new("/") || RESERVED.iter().any(|reserved| path.starts_with(reserved)) {
        return Err(format!("nothing can be put at `{text}`: it is the sandbox's own"));
    }
    Ok(path)
}

/// All that `-v` says.
pub(super) fn parse_all(texts: &[String]) -> Result<Vec<Bind>, String> {
    let mut binds: Vec<Bind> = Vec::new();
    for text in texts {
        let bind = parse(text)?;
        if binds.iter().any(|other| other.target == bind.target) {
            return Err(format!("two volumes are to be at `{}`", bind.target.display()));
        }
        binds.push(bind);
    }
    Ok(binds)
}

/// Finds the sources, which must be there.
pub(super) fn find(binds: Vec<Bind>, ground: Ground) -> Result<Vec<Bind>, VolumeError> {
    if let Some(first) = binds.first().filter(|_| ground.walls == Walls::Chroot) {
        return Err(VolumeError::NoMounts {
            path: first.source.clone(),
        });
    }
    let found = |bind: Bind| match bind.source.canonicalize() {
        Ok(source) => Ok(Bind { source, ..bind }),
        Err(source) => Err(VolumeError::Source {
            path: bind.source,
            source,
        }),
    };
    binds.into_iter().map(found).collect()
}

/// Of those that are shown for writing: what is to be said where owner and mode do not let the process write. (A list of
/// access rights, ACL, may say otherwise.)
pub(super) fn warnings(binds: &[Bind], user: &User, ground: Ground) -> Vec<String> {
    let writable = binds.iter().filter(|bind| bind.mode == BindMode::ReadWrite);
    let warning = |bind: &Bind| {
        let file = Owned::of(&fs::metadata(&bind.source).ok()?);
        let owner = inside(file.uid, ground.owners(), user.uid);
        let group = inside(file.gid, ground.owners(), user.gid);
        if file.lets_write(owner, group, user) {
            return None;
        }
        let owner = match owner {
            Some(uid) => format!("it belongs to user {uid} there"),
            None => "its owner has no number there, where ids are others than here".to_owned(),
        };
        Some(format!(
            "`{}` is shown for writing, but the process is user {} and cannot write to it: {owner}; `chmod o+w` on \
             this machine would let it",
            bind.source.display(),
            user.uid
        ))
    };
    writable.filter_map(warning).collect()
}

/// Owner and mode of a file, as this process sees them.
struct Owned {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Owned {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            uid: metadata.uid(),
            gid: metadata.gid(),
            mode: metadata.mode(),
        }
    }

    /// Whether a user without capabilities may write; `owner` and `group` are what the job sees.
    fn lets_write(&self, owner: Option<u32>, group: Option<u32>, user: &User) -> bool {
        let bit = if owner == Some(user.uid) {
            0o200
        } else if group == Some(user.gid) {
            0o020
        } else {
            0o002
        };
        self.mode & bit != 0
    }
}

/// The number inside a job of one that this process sees; none: it has no number there. `own` is the job's user's.
fn inside(id: u32, owners: Owners, own: u32) -> Option<u32> {
    match owners {
        Owners::Natural => Some(id),
        // 0 is the user who started packhorse, who is not in the job; the others are one lower there.
        Owners::Shifted => id.checked_sub(1),
        // The job's user is the one who started packhorse, and there is nobody else.
        Owners::Single => (id == 0).then_some(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_read_only_unless_it_says_otherwise() {
        for (text, source, target, mode) in [
            ("/a:/b", "/a", "/b", BindMode::ReadOnly),
            ("./a:/b/c/", "./a", "/b/c", BindMode::ReadOnly),
            ("../a:/b:ro", "../a", "/b", BindMode::ReadOnly),
            (".:/workspace/x:rw", ".", "/workspace/x", BindMode::ReadWrite),
        ] {
            let expected = Bind {
                source: source.into(),
                target: target.into(),
                mode,
            };
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_volume_is_refused() {
        for (text, why) in [
            ("/a", "is no volume"),
            ("/a:/b:rw:z", "is no volume"),
            ("data:/b", "write `./data`"),
            (":/b", "is no path"),
            ("/a:b", "absolute path"),
            ("/a:/b/../c", "without `..`"),
            ("/a:/b:z", "write `ro` or `rw`"),
            ("/a:/", "sandbox's own"),
            ("/a://", "sandbox's own"),
            ("/a:/proc", "sandbox's own"),
            ("/a:/dev/x", "sandbox's own"),
            ("/a:/sys/", "sandbox's own"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse("/a:/process").is_ok());
        let twice = ["/a:/b", "/c:/b/"].map(str::to_owned);
        assert!(parse_all(&twice).is_err());
    }

    #[test]
    fn owner_group_and_mode_decide_who_writes() {
        let user = User {
            uid: 1000,
            gid: 1000,
            name: "cnb".to_owned(),
            home: "/home/cnb".into(),
        };
        let lets = |owners, uid, gid, mode| {
            let owned = Owned { uid, gid, mode };
            owned.lets_write(
                inside(uid, owners, user.uid),
                inside(gid, owners, user.gid),
                &user,
            )
        };
        assert!(lets(Owners::Natural, 1000, 1000, 0o755));
        assert!(!lets(Owners::Natural, 0, 0, 0o755));
        assert!(lets(Owners::Natural, 0, 1000, 0o775));
        assert!(lets(Owners::Natural, 0, 0, 0o777));
        // The owner's bit counts for the owner, whatever the others may.
        assert!(!lets(Owners::Natural, 1000, 1000, 0o577));
        assert!(!lets(Owners::Shifted, 0, 0, 0o755));
        assert!(lets(Owners::Shifted, 1001, 0, 0o755));
        assert!(lets(Owners::Single, 0, 0, 0o755));
        assert!(!lets(Owners::Single, 65534, 0, 0o755));
    }
}
