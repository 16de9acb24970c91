//! Takes the `.deb`s apart on a few threads: regular files go to disk at once, everything else is remembered.
//!
//! While the threads run, the tree on disk has no symbolic link in it; so no path can lead out of it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use deb822_fast::Deb822;
use debversion::Version;

use crate::base::deb::Control;
use crate::base::deb::Visitor;
use crate::base::deb::read_deb;
use crate::base::disk::Disk;
use crate::base::disk::place;
use crate::base::error::BaseError;
use crate::base::lock::LockedPackage;
use crate::base::paths::is_left_out;
use crate::base::paths::merged;
use crate::base::relation;
use crate::base::relation::Relation;
use crate::base::sink::EntryHeader;
use crate::base::sink::EntryKind;
use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::events::Unit;

/// How many packages are taken apart at once.
const THREADS: usize = 2;

/// A package, taken apart.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// What it is.
    pub(super) package: LockedPackage,
    /// Its control files.
    pub(super) control: Control,
    /// Every path that it has, as dpkg lists them, what is left out included.
    pub(super) listed: Vec<Vec<u8>>,
    /// The entries that are kept and are this package's own, in its order.
    pub(super) entries: Vec<EntryHeader>,
}

/// Takes `packages` apart, whose `.deb`s are `debs`, and writes their regular files to `disk`.
pub(super) fn unpack(
    packages: Vec<LockedPackage>,
    debs: &[PathBuf],
    disk: &Disk,
    watcher: &dyn Events,
    cancel: &Cancel,
) -> Result<Vec<Unpacked>, BaseError> {
    let claims = Claims {
        names: packages.iter().map(|package| package.name.clone()).collect(),
        ..Claims::default()
    };
    let claims = Claims {
        replaced: packages.iter().map(|_| OnceLock::new()).collect(),
        ..claims
    };
    let next = AtomicUsize::new(0);
    let finished = AtomicU64::new(0);
    let total = Some(packages.len() as u64);
    let work = || {
        let mut done = Vec::new();
        loop {
            cancel.check()?;
            let position = next.fetch_add(1, Ordering::Relaxed);
            let (Some(package), Some(deb)) = (packages.get(position), debs.get(position)) else {
                return Ok(done);
            };
            let mut taker = Taker {
                position,
                package,
                claims: &claims,
                disk,
                folders: HashSet::new(),
                taken: Taken::default(),
            };
            read_deb(deb, &package.name, &mut taker)?;
            done.push((position, taker.taken));
            let what = "unpacking the Debian base".to_owned();
            watcher.tell(Event::Progress {
                what,
                done: finished.fetch_add(1, Ordering::Relaxed) + 1,
                total,
                unit: Unit::Packages,
            });
        }
    };
    let results: Vec<Result<Vec<_>, BaseError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(BaseError::BrokeOff("an unpacking thread panicked".to_owned())))
        };
        threads.into_iter().map(join).collect()
    });
    let mut taken = HashMap::new();
    for result in results {
        taken.extend(result?);
    }
    let owners = claims.owners.into_inner().unwrap_or_else(PoisonError::into_inner);
    let finish = |(position, package)| {
        let Taken {
            control,
            listed,
            mut entries,
        } = taken.remove(&position).unwrap_or_default();
        entries.retain(|entry| owners.get(&entry.path).is_none_or(|owner| *owner == position));
        Unpacked {
            package,
            control,
            listed,
            entries,
        }
    };
    Ok(packages.into_iter().enumerate().map(finish).collect())
}

/// Which package has which path. A path of two packages is the one's that says that it replaces the other.
#[derive(Default)]
struct Claims {
    names: Vec<String>,
    replaced: Vec<OnceLock<(Version, Vec<Relation>)>>,
    owners: Mutex<HashMap<Vec<u8>, usize>>,
}

impl Claims {
    /// Whether the package at `claimant` wins against the one at `holder`.
    fn wins(&self, claimant: usize, holder: usize, path: &[u8]) -> Result<bool, BaseError> {
        let replaces = |one: usize, other: usize| {
            let relations = self.replaced[one]
                .get()
                .map_or(&[][..], |(_, relations)| relations);
            let version = self.replaced[other].get().map(|(version, _)| version);
            relations.iter().any(|relation| {
                relation.name == self.names[other] && version.is_some_and(|version| relation.admits(version))
            })
        };
        match (replaces(claimant, holder), replaces(holder, claimant)) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            _ => {
                let mut names = [self.names[claimant].clone(), self.names[holder].clone()];
                names.sort();
                let [first, second] = names;
                Err(BaseError::FileClash {
                    path: String::from_utf8_lossy(path).into_owned(),
                    first,
                    second,
                })
            }
        }
    }
}

#[derive(Debug, Default)]
struct Taken {
    control: Control,
    listed: Vec<Vec<u8>>,
    entries: Vec<EntryHeader>,
}

/// What became of a claim.
enum Claim {
    /// The path is another package's.
    Lost,
    /// It is this package's.
    Won,
    /// It is this package's, and here is its file.
    Opened(File),
}

struct Taker<'work> {
    position: usize,
    package: &'work LockedPackage,
    claims: &'work Claims,
    disk: &'work Disk,
    /// Folders that are there already.
    folders: HashSet<PathBuf>,
    taken: Taken,
}

impl Taker<'_> {
    fn invalid(&self, reason: impl Into<String>) -> BaseError {
        BaseError::PackageInvalid {
            package: self.package.name.clone(),
            reason: reason.into(),
        }
    }

    /// Makes the path this package's own, if it is, and opens its file.
    fn claim(&mut self, header: &EntryHeader) -> Result<Claim, BaseError> {
        let path = place(&self.disk.root, &header.path);
        if let Some(parent) = path.parent().filter(|parent| !self.folders.contains(*parent)) {
            std::fs::create_dir_all(parent).map_err(BaseError::file("make", parent))?;
            self.folders.insert(parent.to_owned());
        }
        // The file is made under the lock: a loser that comes late must not make it again.
        let mut owners = self.claims.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = owners.get(&header.path).copied() {
            if holder == self.position {
                return Err(self.invalid(format!("it has /{} twice", String::from_utf8_lossy(&header.path))));
            }
            if !self.claims.wins(self.position, holder, &header.path)? {
                return Ok(Claim::Lost);
            }
            // What is no regular file is not on disk yet.
            let _absent = std::fs::remove_file(&path);
        }
        owners.insert(header.path.clone(), self.position);
        match &header.kind {
            EntryKind::File { .. } => {
                let made = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path);
                Ok(Claim::Opened(made.map_err(BaseError::file("write", path))?))
            }
            EntryKind::Hardlink { target } => {
                let target = place(&self.disk.root, target);
                std::fs::hard_link(target, &path).map_err(BaseError::file("link", path))?;
                Ok(Claim::Won)
            }
            EntryKind::Directory | EntryKind::Symlink { .. } => Ok(Claim::Won),
        }
    }
}

impl Taker<'_> {
    fn write(&self, mut file: File, header: &EntryHeader, contents: &mut dyn Read) -> Result<(), BaseError> {
        let path = || place(&self.disk.root, &header.path);
        let written = std::io::copy(contents, &mut file).map_err(|error| {
            // Both a broken package and a full disk end here; only the disk has an error number.
            if error.raw_os_error().is_some() {
                BaseError::File {
                    what: "write",
                    path: path(),
                    source: error,
                }
            } else {
                self.invalid(error.to_string())
            }
        })?;
        if header.kind != (EntryKind::File { size: written }) {
            return Err(self.invalid("it ends too early"));
        }
        self.disk
            .dress_file(&file, header)
            .map_err(BaseError::file("set the mode of", path()))
    }
}

impl Visitor for Taker<'_> {
    fn control(&mut self, control: Control) -> Result<(), BaseError> {
        let text = control
            .get("control")
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        let fields: Option<Deb822> = text.and_then(|text| text.parse().ok());
        let fields = fields.and_then(|fields| fields.iter().next().cloned());
        let fields = fields.ok_or_else(|| self.invalid("its control file cannot be read"))?;
        if fields.get("Package") != Some(&self.package.name)
            || fields.get("Version") != Some(&self.package.version)
        {
            return Err(self.invalid("its control file names another package or version"));
        }
        let version = self
            .package
            .version
            .parse()
            .map_err(|_| self.invalid("its version cannot be read"))?;
        let replaces = relation::parse(fields.get("Replaces").unwrap_or_default());
        let replaces = replaces.ok_or_else(|| self.invalid("its field Replaces cannot be read"))?;
        // It is set once: no package is taken apart twice.
        let _first =
            self.claims.replaced[self.position].set((version, replaces.into_iter().flatten().collect()));
        self.taken.control = control;
        Ok(())
    }

    fn entry(&mut self, mut header: EntryHeader, contents: &mut dyn Read) -> Result<(), BaseError> {
        self.taken.listed.push(header.path.clone());
        header.path = merged(header.path);
        if let EntryKind::Hardlink { target } = &mut header.kind {
            *target = merged(std::mem::take(target));
        }
        if is_left_out(&header.path) {
            return Ok(());
        }
        if header.kind != EntryKind::Directory {
            match self.claim(&header)? {
                Claim::Lost => return Ok(()),
                Claim::Won => {}
                Claim::Opened(file) => self.write(file, &header, contents)?,
            }
        }
        self.taken.entries.push(header);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::deb::tests::make_deb;
    use crate::base::flavour::Flavour;
    use crate::base::lock::Archive;
    use crate::events::Silence;
    use crate::model::digest::Digest;

    fn package(name: &str) -> LockedPackage {
        LockedPackage {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            archive: Archive::Main,
            filename: "x".to_owned(),
            size: 0,
            digest: Digest::of(b""),
            flavours: vec![Flavour::Run],
        }
    }

    /// Takes apart two packages that both have `/usr/bin/tool`, and gives back whose it is.
    fn clash(first: &str, second: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut debs = Vec::new();
        for (name, extra) in [("a", first), ("b", second)] {
            let control = format!("Package: {name}\nVersion: 1\n{extra}");
            let data = [
                ("./usr/bin/tool", EntryKind::File { size: 0 }, name),
                ("./bin/own", EntryKind::File { size: 0 }, name),
            ];
            let data = if name == "a" { &data[..] } else { &data[..1] };
            debs.push(folder.path().join(name));
            std::fs::write(folder.path().join(name), make_deb(&[("control", &control)], data)).unwrap();
        }
        let disk = Disk {
            root: folder.path().join("fs"),
            owners: None,
        };
        let packages = vec![package("a"), package("b")];
        let unpacked = unpack(packages, &debs, &disk, &Silence, &Cancel::default())
            .map_err(|error| error.to_string())?;
        let counts: Vec<_> = unpacked
            .iter()
            .map(|package| package.entries.len().to_string())
            .collect();
        let own = std::fs::read_to_string(disk.root.join("usr/bin/own")).unwrap();
        let tool = std::fs::read_to_string(disk.root.join("usr/bin/tool")).unwrap();
        Ok(format!(
            "own of {own}, tool of {tool}, entries {}",
            counts.join(" ")
        ))
    }

    #[test]
    fn a_file_of_two_packages_is_the_replacers() {
        assert_eq!(
            clash("Replaces: b (<< 2)\n", "").unwrap(),
            "own of a, tool of a, entries 2 0"
        );
        assert_eq!(
            clash("", "Replaces: a\n").unwrap(),
            "own of a, tool of b, entries 1 1"
        );
        for error in [clash("", ""), clash("Replaces: b (<< 1)\n", "")] {
            let error = error.unwrap_err();
            assert!(
                error.contains("packages a and b both have /usr/bin/tool"),
                "{error}"
            );
        }
    }
}
