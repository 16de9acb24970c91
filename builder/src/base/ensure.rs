//! The base that a build needs: found if it is there, made if it is not.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::fs::flock;

use crate::base::assemble::Assembly;
use crate::base::assemble::assemble;
use crate::base::config::image_config;
use crate::base::error::BaseError;
use crate::base::flavour::Flavour;
use crate::base::lock::Lock;
use crate::base::mirror::Fetcher;
use crate::base::mirror::Mirrors;
use crate::base::place::Lease;
use crate::base::place::Unfinished;
use crate::base::record;
use crate::base::record::Current;
use crate::base::record::Record;
use crate::base::resolve::resolve;
use crate::base::sink::LayerSink;
use crate::events::Cancel;
use crate::events::Event;
use crate::events::Events;
use crate::events::Watcher;
use crate::http::client::Client;
use crate::model::descriptor::LayerDescriptor;
use crate::model::digest::Digest;
use crate::model::owners::Owners;
use crate::model::timestamp::Timestamp;

/// After this many days a build says that the base is old.
pub const STALE_AFTER_DAYS: i64 = 30;
/// How often one that waits for another process's base looks again.
const WAIT: Duration = Duration::from_millis(100);

/// Begins a layer; it is asked for only when a base is really made.
pub type BeginLayer = Box<dyn Fn() -> io::Result<Box<dyn LayerSink>> + Send + Sync>;

/// Which base is wanted.
pub struct BaseRequest {
    /// What it is for.
    pub flavour: Flavour,
    /// The architecture in Debian's words: `amd64`.
    pub architecture: String,
    /// The data directory; the base is made in `bases/`, and packages are kept in `blobs/sha256/`.
    pub data_directory: PathBuf,
    /// Where packages come from.
    pub mirrors: Mirrors,
    /// Exactly these packages; none: the lock in force, or what the archive has when there is none.
    pub lock: Option<Lock>,
    /// The time.
    pub now: Timestamp,
    /// How owners are kept on disk, when they can be given at all.
    pub owners: Owners,
    /// Makes a layer of the base too.
    pub begin_layer: Option<BeginLayer>,
}

/// A base that is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// What it is for.
    pub flavour: Flavour,
    /// Its identity.
    pub lock_digest: Digest,
    /// Its tree.
    pub root: PathBuf,
    /// The newest time in it.
    pub created: Timestamp,
    /// Its image configuration, without layers.
    pub config: serde_json::Value,
    /// Its layer, if one was asked for.
    pub layer: Option<LayerDescriptor>,
    /// How old the state of the archive is that it was made from.
    pub stale_days: i64,
    /// As long as one of these is held, the tree stays.
    pub lease: Lease,
}

/// The base of `request`. At once if it is there; else it is fetched and made. Nothing that is there is refreshed.
pub async fn ensure(
    request: BaseRequest,
    client: &Client,
    watcher: &Watcher,
    cancel: &Cancel,
) -> Result<Base, BaseError> {
    if let Some(base) = find(&request)? {
        tell_age(&base, &**watcher);
        return Ok(base);
    }
    let _guard = Guard::take(&request.data_directory, cancel).await?;
    // Another process may have made it while this one waited.
    if let Some(base) = find(&request)? {
        return Ok(base);
    }
    let lock = match in_force(&request)? {
        Some(current) if request.lock.is_none() => record::read_lock(&request.data_directory, current.lock)?,
        _ => match request.lock.clone() {
            Some(lock) => lock,
            None => renew(&request, client, watcher, cancel).await?,
        },
    };
    make(request, lock, client, watcher, cancel).await
}

/// Puts what the archive has now in force, whether or not a lock was: `base update`. The bases themselves are made by
/// the next [`ensure`].
pub async fn update(
    request: &BaseRequest,
    client: &Client,
    watcher: &Watcher,
    cancel: &Cancel,
) -> Result<Lock, BaseError> {
    let _guard = Guard::take(&request.data_directory, cancel).await?;
    renew(request, client, watcher, cancel).await
}

/// The identity of the lock in force; none before a base was made.
pub fn current_lock_digest(data_directory: &Path, architecture: &str) -> Result<Option<Digest>, BaseError> {
    Ok(record::read_current(data_directory, architecture)?.map(|current| current.lock))
}

/// The lock in force, for `base inspect` and `base create`; none before a base was made.
pub fn current_lock(data_directory: &Path, architecture: &str) -> Result<Option<Lock>, BaseError> {
    let current = record::read_current(data_directory, architecture)?;
    current
        .map(|current| record::read_lock(data_directory, current.lock))
        .transpose()
}

/// Puts a lock in force for all builds that name none: `base create --lock FILE`.
pub fn put_in_force(data_directory: &Path, lock: &Lock) -> Result<(), BaseError> {
    record::write_current(data_directory, lock)
}

/// Nothing refreshes a base silently; but it is said that it is old.
fn tell_age(base: &Base, watcher: &dyn Events) {
    if base.stale_days > STALE_AFTER_DAYS {
        let days = base.stale_days;
        let text =
            format!("the Debian base is {days} days old; `packhorse base update` takes the newest packages");
        watcher.tell(Event::Warning { text });
    }
}

fn in_force(request: &BaseRequest) -> Result<Option<Current>, BaseError> {
    match &request.lock {
        Some(lock) => Ok(Some(Current {
            lock: lock.digest(),
            date: lock.date,
        })),
        None => record::read_current(&request.data_directory, &request.architecture),
    }
}

fn find(request: &BaseRequest) -> Result<Option<Base>, BaseError> {
    let Some(current) = in_force(request)? else {
        return Ok(None);
    };
    let folder = record::base_folder(
        &request.data_directory,
        current.lock,
        request.flavour,
        request.owners,
    );
    let Some(lease) = Lease::take(&folder).map_err(BaseError::file("lock", &folder))? else {
        return Ok(None);
    };
    let record = record::read_record(&folder)?;
    let fits = |record: &Record| {
        record.layout == record::LAYOUT && (request.begin_layer.is_none() || has_layer(request, record))
    };
    Ok(record
        .filter(fits)
        .map(|record| base_of(request, current, &folder, record, lease)))
}

/// Whether the base's layer is known and still in the blob store.
fn has_layer(request: &BaseRequest, record: &Record) -> bool {
    let blobs = request.data_directory.join("blobs/sha256");
    record.layer.as_ref().is_some_and(|layer| {
        let found = std::fs::metadata(blobs.join(layer.blob.digest.hex()));
        found.is_ok_and(|found| found.len() == layer.blob.size)
    })
}

/// The blobs that the bases in force count on; eviction must spare them.
pub fn blobs_in_force(data_directory: &Path, architecture: &str) -> Result<BTreeSet<Digest>, BaseError> {
    let mut blobs = BTreeSet::new();
    if let Some(current) = record::read_current(data_directory, architecture)? {
        for flavour in Flavour::ALL {
            for owners in Owners::ALL {
                let folder = record::base_folder(data_directory, current.lock, flavour, owners);
                let layer = record::read_record(&folder)?.and_then(|record| record.layer);
                blobs.extend(layer.map(|layer| layer.blob.digest));
            }
        }
    }
    Ok(blobs)
}

fn base_of(request: &BaseRequest, current: Current, folder: &Path, record: Record, lease: Lease) -> Base {
    Base {
        flavour: request.flavour,
        lock_digest: current.lock,
        root: folder.join("fs"),
        created: record.created,
        config: record.config,
        layer: record.layer,
        stale_days: (request.now.0 - current.date.0).max(0) / 86_400,
        lease,
    }
}

async fn renew(
    request: &BaseRequest,
    client: &Client,
    watcher: &Watcher,
    cancel: &Cancel,
) -> Result<Lock, BaseError> {
    let folder = record::bases(&request.data_directory);
    let blobs = blobs(&request.data_directory)?;
    let fetcher = Fetcher {
        client,
        mirrors: &request.mirrors,
        blobs: &blobs,
        watcher: &**watcher,
        cancel,
    };
    let lock = resolve(fetcher, &folder, &request.architecture, request.now).await?;
    let (count, date) = (lock.packages.len(), lock.date);
    watcher.tell(Event::Decision {
        text: format!("the Debian base is made of {count} packages as of {date}"),
    });
    record::write_current(&request.data_directory, &lock)?;
    Ok(lock)
}

async fn make(
    request: BaseRequest,
    lock: Lock,
    client: &Client,
    watcher: &Watcher,
    cancel: &Cancel,
) -> Result<Base, BaseError> {
    let data = request.data_directory.as_path();
    record::keep_lock(data, &lock)?;
    let blobs = blobs(data)?;
    let fetcher = Fetcher {
        client,
        mirrors: &request.mirrors,
        blobs: &blobs,
        watcher: &**watcher,
        cancel,
    };
    let packages = lock.of_flavour(request.flavour);
    let debs = fetcher.packages(&packages, lock.date).await?;
    let layer = request.begin_layer.as_ref().map(|begin| begin()).transpose();
    let assembly = Assembly {
        packages,
        debs,
        architecture: lock.architecture.clone(),
        owners: request.owners,
        layer: layer.map_err(BaseError::file("begin a layer in", data))?,
    };
    let current = Current {
        lock: lock.digest(),
        date: lock.date,
    };
    let folder = record::base_folder(data, current.lock, request.flavour, request.owners);
    let flavour = request.flavour;
    let work = {
        let (folder, watcher, cancel) = (folder.clone(), watcher.clone(), cancel.clone());
        move || {
            let unfinished = Unfinished::beside(&folder)?;
            let assembled = assemble(assembly, &unfinished.path().join("fs"), &*watcher, &cancel)?;
            let config = image_config(flavour, &lock.architecture, current.lock, assembled.newest);
            let record = Record {
                layout: record::LAYOUT,
                created: assembled.newest,
                config,
                layer: assembled.layer,
            };
            record::write_record(unfinished.path(), &record)?;
            Ok::<_, BaseError>((record, unfinished.keep_as(&folder)?))
        }
    };
    let (record, lease) = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| BaseError::BrokeOff(error.to_string()))??;
    Ok(base_of(&request, current, &folder, record, lease))
}

fn blobs(data_directory: &Path) -> Result<PathBuf, BaseError> {
    let blobs = data_directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(BaseError::file("make", &blobs))?;
    Ok(blobs)
}

/// One process at a time makes bases.
struct Guard {
    _file: File,
}

impl Guard {
    async fn take(data_directory: &Path, cancel: &Cancel) -> Result<Self, BaseError> {
        let folder = record::bases(data_directory);
        std::fs::create_dir_all(&folder).map_err(BaseError::file("make", &folder))?;
        let path = folder.join(".lock");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(BaseError::file("open", &path))?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) => cancel.check()?,
                Err(error) => {
                    return Err(BaseError::File {
                        what: "lock",
                        path,
                        source: error.into(),
                    });
                }
            }
            tokio::time::sleep(WAIT).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::deb::tests::make_deb;
    use crate::base::lock::Archive;
    use crate::base::lock::LockedPackage;
    use crate::base::sink::EntryHeader;
    use crate::base::sink::EntryKind;
    use crate::base::sink::EntrySink;
    use crate::events::Silence;
    use crate::http::settings::Mirror;
    use crate::http::settings::Settings;
    use crate::model::failure::Failure as _;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::Arc;
    use std::sync::Mutex;

    const ROOT: &str = "http://archive.example/debian";

    /// An archive of two packages in a folder, a client that finds it there, and a lock of it.
    fn small_archive(folder: &Path) -> (Client, Lock) {
        let file = || EntryKind::File { size: 0 };
        let master = "root:*:0:0:root:/root:/bin/bash\n";
        let files = make_deb(
            &[("control", "Package: base-files\nVersion: 1\nArchitecture: all\n")],
            &[
                ("./", EntryKind::Directory, ""),
                ("./usr/", EntryKind::Directory, ""),
                (
                    "./bin",
                    EntryKind::Symlink {
                        target: b"usr/bin".to_vec(),
                    },
                    "",
                ),
                ("./usr/bin/", EntryKind::Directory, ""),
                ("./bin/zz", file(), "hello"),
                (
                    "./bin/aa",
                    EntryKind::Hardlink {
                        target: b"./bin/zz".to_vec(),
                    },
                    "",
                ),
                ("./var/run/", EntryKind::Directory, ""),
                ("./usr/share/man/man1/zz.1", file(), "manual"),
            ],
        );
        let passwd = make_deb(
            &[
                ("control", "Package: base-passwd\nVersion: 1\nArchitecture: all\n"),
                ("postinst", "#!/bin/sh\n"),
            ],
            &[
                ("./usr/share/base-passwd/passwd.master", file(), master),
                (
                    "./usr/share/base-passwd/group.master",
                    file(),
                    "root:*:0:\nshadow:*:42:\nmail:*:8:\n",
                ),
            ],
        );
        let mut packages = Vec::new();
        for (name, deb) in [("base-files", files), ("base-passwd", passwd)] {
            std::fs::create_dir_all(folder.join("pool")).unwrap();
            std::fs::write(folder.join(format!("pool/{name}.deb")), &deb).unwrap();
            packages.push(LockedPackage {
                name: name.to_owned(),
                version: "1".to_owned(),
                architecture: "all".to_owned(),
                archive: Archive::Main,
                filename: format!("pool/{name}.deb"),
                size: deb.len() as u64,
                digest: Digest::of(&deb),
                flavours: vec![Flavour::Run],
            });
        }
        let mirror = Mirror {
            prefix: ROOT.to_owned(),
            target: folder.to_str().unwrap().to_owned(),
        };
        let client = Client::new(&Settings {
            mirrors: vec![mirror],
            ..Settings::default()
        })
        .unwrap();
        (
            client,
            Lock::new("trixie", "amd64", Timestamp(1_790_000_000), packages),
        )
    }

    fn request(data_directory: &Path, lock: Option<Lock>) -> BaseRequest {
        BaseRequest {
            flavour: Flavour::Run,
            architecture: "amd64".to_owned(),
            data_directory: data_directory.to_owned(),
            mirrors: Mirrors {
                main: ROOT.to_owned(),
                snapshot: None,
                ..Mirrors::default()
            },
            lock,
            now: Timestamp(1_790_000_000 + 31 * 86_400),
            owners: Owners::Natural,
            begin_layer: None,
        }
    }

    async fn ensured(request: BaseRequest, client: &Client) -> Result<Base, BaseError> {
        let watcher: Watcher = Arc::new(Silence);
        ensure(request, client, &watcher, &Cancel::default()).await
    }

    struct Lines(Arc<Mutex<Vec<String>>>);

    impl EntrySink for Lines {
        fn entry(&mut self, header: &EntryHeader, contents: &mut dyn Read) -> io::Result<()> {
            let mut bytes = Vec::new();
            contents.read_to_end(&mut bytes)?;
            let path = String::from_utf8_lossy(&header.path).into_owned();
            let kind = match &header.kind {
                EntryKind::File { size } if *size != bytes.len() as u64 => " of another length".to_owned(),
                EntryKind::File { .. } => String::new(),
                EntryKind::Directory => "/".to_owned(),
                EntryKind::Symlink { target } => format!(" -> {}", String::from_utf8_lossy(target)),
                EntryKind::Hardlink { target } => format!(" = {}", String::from_utf8_lossy(target)),
            };
            self.0.lock().unwrap().push(format!(
                "{path}{kind} {:o} {}:{}",
                header.mode, header.uid, header.gid
            ));
            Ok(())
        }
    }

    impl LayerSink for Lines {
        fn finish(self: Box<Self>) -> io::Result<LayerDescriptor> {
            let digest = Digest::of(b"layer");
            let blob = crate::model::descriptor::Descriptor {
                media_type: String::new(),
                digest,
                size: 5,
            };
            Ok(LayerDescriptor {
                blob,
                diff_id: crate::model::digest::DiffId(digest),
            })
        }
    }

    #[tokio::test]
    async fn a_base_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let (client, lock) = small_archive(&folder.path().join("archive"));
        let data = folder.path().join("data");
        let base = ensured(request(&data, Some(lock.clone())), &client)
            .await
            .unwrap();
        assert_eq!(base.stale_days, 31);
        assert_eq!(base.lock_digest, lock.digest());
        assert_eq!(
            std::fs::read_to_string(base.root.join("bin/zz")).unwrap(),
            "hello"
        );
        let inode = |path: &str| std::fs::metadata(base.root.join(path)).unwrap().ino();
        assert_eq!(inode("usr/bin/aa"), inode("usr/bin/zz"));
        assert_eq!(
            std::fs::read_link(base.root.join("var/run")).unwrap(),
            Path::new("/run")
        );
        assert!(!base.root.join("usr/share/man/man1").exists());
        let passwd = std::fs::read_to_string(base.root.join("etc/passwd")).unwrap();
        assert!(passwd.contains("cnb:x:1000:1000:"), "{passwd}");
        let list = std::fs::read_to_string(base.root.join("var/lib/dpkg/info/base-files.list")).unwrap();
        assert!(list.starts_with("/.\n/usr\n/bin\n"), "{list}");

        // Without the archive the second call can only find what is there.
        std::fs::remove_dir_all(folder.path().join("archive")).unwrap();
        assert_eq!(
            ensured(request(&data, Some(lock.clone())), &client)
                .await
                .unwrap(),
            base
        );
        put_in_force(&data, &lock).unwrap();
        assert_eq!(ensured(request(&data, None), &client).await.unwrap(), base);
        assert_eq!(current_lock(&data, "amd64").unwrap(), Some(lock));
    }

    #[tokio::test]
    async fn a_lock_in_force_that_cannot_be_read_is_an_error_and_no_new_base() {
        let folder = tempfile::tempdir().unwrap();
        let (client, lock) = small_archive(&folder.path().join("archive"));
        put_in_force(folder.path(), &lock).unwrap();
        let path = folder.path().join("bases/amd64.current.json");
        for broken in ["", "{\"lock\":\"sha25", "{}"] {
            std::fs::write(&path, broken).unwrap();
            let error = ensured(request(folder.path(), None), &client).await.unwrap_err();
            assert_eq!(error.facts().code, "base_record_invalid", "{error}");
            let error = blobs_in_force(folder.path(), "amd64").unwrap_err();
            assert!(error.to_string().contains("amd64.current.json"), "{error}");
        }
        put_in_force(folder.path(), &lock).unwrap();
        assert!(ensured(request(folder.path(), None), &client).await.is_ok());
    }

    #[tokio::test]
    async fn a_base_that_a_build_uses_stays_when_it_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (client, lock) = small_archive(&folder.path().join("archive"));
        let used = ensured(request(folder.path(), Some(lock.clone())), &client)
            .await
            .unwrap();
        let tree = std::fs::File::open(&used.root).unwrap();
        let has_file = || {
            rustix::fs::accessat(
                &tree,
                "bin/zz",
                rustix::fs::Access::EXISTS,
                rustix::fs::AtFlags::empty(),
            )
        };
        // As a program before this one left it.
        let place = record::base_folder(folder.path(), lock.digest(), Flavour::Run, Owners::Natural);
        let mut record = record::read_record(&place).unwrap().unwrap();
        record.layout -= 1;
        record::write_record(&place, &record).unwrap();
        let made = ensured(request(folder.path(), Some(lock)), &client)
            .await
            .unwrap();
        assert_eq!(made.root, used.root);
        assert!(has_file().is_ok());
    }

    struct Warnings(Mutex<Vec<String>>);

    impl Events for Warnings {
        fn tell(&self, event: Event) {
            if let Event::Warning { text } = event {
                self.0.lock().unwrap().push(text);
            }
        }
    }

    #[tokio::test]
    async fn an_old_base_is_used_and_its_age_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (client, lock) = small_archive(&folder.path().join("archive"));
        let made = ensured(request(folder.path(), Some(lock.clone())), &client)
            .await
            .unwrap();
        let warnings = Arc::new(Warnings(Mutex::default()));
        let watcher: Watcher = warnings.clone();
        let wanted = request(folder.path(), Some(lock.clone()));
        assert_eq!(
            ensure(wanted, &client, &watcher, &Cancel::default())
                .await
                .unwrap(),
            made
        );
        assert!(warnings.0.lock().unwrap()[0].contains("31 days old"));
        let mut wanted = request(folder.path(), Some(lock));
        wanted.now.0 -= 86_400;
        ensure(wanted, &client, &watcher, &Cancel::default())
            .await
            .unwrap();
        assert_eq!(warnings.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_layer_has_the_same_entries_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (client, lock) = small_archive(&folder.path().join("archive"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let mut request = request(&folder.path().join("data"), Some(lock));
        request.begin_layer = Some(Box::new(move || Ok(Box::new(Lines(sink.clone())))));
        let base = ensured(request, &client).await.unwrap();
        assert!(base.layer.is_some());
        let lines = lines.lock().unwrap();
        let paths: Vec<_> = lines
            .iter()
            .map(|line| line.split(' ').next().unwrap().trim_end_matches('/'))
            .collect();
        assert!(paths.is_sorted(), "{paths:?}");
        for line in [
            "bin -> usr/bin 777 0:0",
            "usr/bin/aa 644 0:0",
            "usr/bin/zz = usr/bin/aa 644 0:0",
            "etc/shadow 640 0:42",
            "home/cnb/ 755 1000:1000",
            "var/mail/ 2775 0:8",
            "tmp/ 1777 0:0",
            "var/run -> /run 777 0:0",
        ] {
            assert!(
                lines.iter().any(|found| found == line),
                "{line} is not in {lines:#?}"
            );
        }
    }

    #[tokio::test]
    async fn a_damaged_or_missing_package_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive");
        let (client, lock) = small_archive(&archive);
        let data = folder.path().join("data");
        let path = archive.join("pool/base-passwd.deb");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = ensured(request(&data, Some(lock.clone())), &client)
            .await
            .unwrap_err();
        assert_eq!(error.facts().code, "base_hash_mismatch", "{error}");
        std::fs::remove_file(path).unwrap();
        let error = ensured(request(&data, Some(lock.clone())), &client)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("base-passwd"), "{error}");
        assert!(!record::base_folder(&data, lock.digest(), Flavour::Run, Owners::Natural).exists());
        let blobs = std::fs::read_dir(data.join("blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), 1);
    }

    #[tokio::test]
    #[ignore = "fetches 136 MB from the package archive"]
    async fn both_flavours_are_made_from_the_real_archive() {
        let now = std::fs::metadata("/proc/self").unwrap().mtime();
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let client = Client::new(&Settings::default()).unwrap();
        for flavour in Flavour::ALL {
            let mut request = request(folder.path(), None);
            (request.flavour, request.mirrors, request.now) = (flavour, Mirrors::default(), Timestamp(now));
            let base = ensured(request, &client).await.unwrap();
            assert!(base.stale_days < 10, "{}", base.stale_days);
            let release = std::fs::read_to_string(base.root.join("etc/os-release")).unwrap();
            assert!(release.contains("VERSION_CODENAME=trixie"), "{release}");
            let status = std::fs::read_to_string(base.root.join("var/lib/dpkg/status")).unwrap();
            assert!(status.matches("Status: install ok installed").count() > 50);
            assert_eq!(
                base.root.join("usr/bin/cc").is_symlink(),
                flavour == Flavour::Build
            );
        }
    }
}
