//! Random histories of builds on real overlay mounts, held against plain folders; needs root, as mounting does.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use rustix::mount::MountFlags;
use rustix::mount::UnmountFlags;

use super::*;

/// One thing that a buildpack does. Paths are below the `/layers` folder.
#[derive(Debug, Clone)]
enum Step {
    Write(PathBuf, u8),
    Remove(PathBuf),
    MakeFolder(PathBuf),
    Remake(PathBuf, PathBuf),
    Move(PathBuf, PathBuf),
    ChangeMode(PathBuf, u32),
    Link(PathBuf),
}

#[derive(Debug, Clone)]
enum Event {
    Build { steps: Vec<Step>, fails: bool },
    Flatten,
}

fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(prop::sample::select(vec!["x", "y", "z"]), 1..4)
        .prop_map(|parts| parts.iter().collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, byte)| Step::Write(path, byte)),
        3 => path().prop_map(Step::Remove),
        2 => path().prop_map(Step::MakeFolder),
        2 => (path(), path()).prop_map(|(path, inside)| Step::Remake(path, inside)),
        2 => (path(), path()).prop_map(|(from, to)| Step::Move(from, to)),
        1 => (path(), prop::sample::select(vec![0o700, 0o755])).prop_map(|(path, mode)| Step::ChangeMode(path, mode)),
        1 => path().prop_map(Step::Link),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let build = (prop::collection::vec(step(), 0..8), prop::bool::weighted(0.2));
    prop_oneof![
        5 => build.prop_map(|(steps, fails)| Event::Build { steps, fails }),
        1 => Just(Event::Flatten),
    ]
}

/// A step may fail, as buildpacks' steps do: then it fails in both places or the trees differ.
fn take(step: &Step, root: &Path) {
    let _may_fail = match step {
        Step::Write(path, byte) => {
            let path = root.join(path);
            let _may_be_new = fs::remove_file(&path);
            parent_of(&path).and_then(|()| fs::write(&path, [*byte]))
        }
        Step::Remove(path) => remove(&root.join(path)),
        Step::MakeFolder(path) => fs::create_dir_all(root.join(path)),
        Step::Remake(path, inside) => {
            let path = root.join(path);
            let _may_be_new = remove(&path);
            fs::create_dir_all(&path)
                .and_then(|()| parent_of(&path.join(inside)))
                .and_then(|()| fs::write(path.join(inside), b"remade"))
        }
        Step::Move(from, to) => move_as_mv_does(&root.join(from), &root.join(to)),
        Step::ChangeMode(path, mode) => fs::symlink_metadata(root.join(path)).and_then(|metadata| {
            let is_link = metadata.is_symlink();
            if is_link {
                Ok(())
            } else {
                fs::set_permissions(root.join(path), fs::Permissions::from_mode(*mode))
            }
        }),
        Step::Link(path) => symlink("somewhere", root.join(path)),
    };
}

fn parent_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

fn move_as_mv_does(from: &Path, to: &Path) -> io::Result<()> {
    if to.starts_with(from) || fs::symlink_metadata(to).is_ok() {
        return Ok(());
    }
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy(from, to).and_then(|()| remove(from))
        }
        other => other,
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if !metadata.is_dir() {
        return fs::copy(from, to).map(|_| ());
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    fs::set_permissions(to, metadata.permissions())
}

fn shown(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut entries = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let contents = if metadata.is_dir() {
                waiting.push(path.clone());
                b"folder".to_vec()
            } else if metadata.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                assert!(
                    metadata.is_file(),
                    "{} is neither file nor folder nor link",
                    path.display()
                );
                fs::read(&path).unwrap()
            };
            entries.insert(
                path.strip_prefix(root).unwrap().to_owned(),
                (metadata.permissions().mode(), contents),
            );
        }
    }
    entries
}

struct Mount(PathBuf);

impl Mount {
    fn new(at: PathBuf, lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Self {
        let lowers: Vec<_> = lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
        let above = upper.map_or_else(String::new, |(upper, work)| {
            format!(
                ",volatile,upperdir={},workdir={}",
                upper.display(),
                work.display()
            )
        });
        let options = format!("lowerdir={},userxattr{above}", lowers.join(":"));
        fs::create_dir_all(&at).unwrap();
        let options = CString::new(options).unwrap();
        rustix::mount::mount(
            "overlay",
            &at,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .unwrap();
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// tmpfs takes an upper with `user.*` marks; the disk of a test machine may be an overlay itself.
fn scratch() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() {
        tempfile::tempdir_in(shared_memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn run(events: &[Event]) {
    let folder = scratch();
    let cache = Store::open(&folder.path().join("store"))
        .unwrap()
        .caches()
        .unwrap()
        .cache("app", "own")
        .unwrap();
    let plain = folder.path().join("plain");
    let (empty, mounted) = (folder.path().join("empty"), folder.path().join("mounted"));
    fs::create_dir(&plain).unwrap();
    fs::create_dir(&empty).unwrap();
    for event in events {
        match event {
            Event::Flatten => {
                cache.flatten(1).unwrap();
            }
            Event::Build { steps, fails } => {
                let state = cache.open().unwrap();
                let pending = cache.begin(state.as_ref()).unwrap();
                let mount = Mount::new(
                    mounted.clone(),
                    pending.lowers(),
                    Some((pending.upper(), pending.work())),
                );
                for step in steps {
                    take(step, &mounted);
                }
                drop(mount);
                if !fails {
                    for step in steps {
                        take(step, &plain);
                    }
                    cache.commit(pending, Vec::new()).unwrap();
                }
            }
        }
        let Some(state) = cache.open().unwrap() else {
            continue;
        };
        let lowers = [state.lowers(), std::slice::from_ref(&empty)].concat();
        let mount = Mount::new(mounted.clone(), &lowers, None);
        assert_eq!(shown(&mounted), shown(&plain), "after {event:?}");
        drop(mount);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "needs root, for overlays"]
    fn a_history_of_builds_leaves_what_plain_folders_would_hold(events in prop::collection::vec(event(), 1..9)) {
        run(&events);
    }
}

fn commit_with(cache: &Cache, state: Option<&State>, name: &str) {
    let pending = cache.begin(state).unwrap();
    fs::write(pending.upper().join(name), name).unwrap();
    cache.commit(pending, Vec::new()).unwrap();
}

#[test]
fn of_two_builds_at_once_the_later_one_s_whole_state_wins() {
    let folder = scratch();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let cache = store.caches().unwrap().cache("app", "own").unwrap();
    commit_with(&cache, None, "base");
    let state = cache.open().unwrap();
    let (first, second) = (
        cache.begin(state.as_ref()).unwrap(),
        cache.begin(state.as_ref()).unwrap(),
    );
    fs::write(first.upper().join("first"), "").unwrap();
    fs::write(second.upper().join("second"), "").unwrap();
    cache.commit(second, Vec::new()).unwrap();
    let between = cache.open().unwrap().unwrap();
    cache.commit(first, Vec::new()).unwrap();
    // What was leased between the two stays until nobody holds it.
    assert!(between.lowers()[0].join("second").exists());
    let last = cache.open().unwrap().unwrap();
    assert_eq!(last.lowers().len(), 2);
    assert!(last.lowers()[0].join("first").exists() && last.lowers()[1].join("base").exists());
    let abandoned = between.lowers()[0].clone();
    drop((between, last, state));
    commit_with(&cache, None, "new");
    assert!(!abandoned.exists());
    assert_eq!(cache.open().unwrap().unwrap().lowers().len(), 1);
}

#[test]
fn a_failed_or_killed_build_changes_nothing_and_leaves_nothing() {
    let folder = scratch();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let cache = store.caches().unwrap().cache("app", "own").unwrap();
    commit_with(&cache, None, "base");
    let before = cache.open().unwrap().unwrap();
    let pending = cache.begin(Some(&before)).unwrap();
    fs::write(pending.upper().join("half"), "").unwrap();
    drop(pending);
    assert_eq!(
        fs::read_dir(cache.directory.path.join("pending"))
            .unwrap()
            .count(),
        0
    );
    // A killed build drops nothing, but its lock is free.
    fs::create_dir_all(cache.directory.path.join("pending/77/upper")).unwrap();
    let pending = cache.begin(Some(&before)).unwrap();
    cache.commit(pending, Vec::new()).unwrap();
    assert_eq!(
        fs::read_dir(cache.directory.path.join("pending"))
            .unwrap()
            .count(),
        0
    );
    let after = cache.open().unwrap().unwrap();
    assert_eq!(after.lowers(), before.lowers(), "an empty upper adds no tree");
}

#[test]
fn builds_that_end_while_trees_are_flattened_stay_on_top() {
    let folder = scratch();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let cache = store.caches().unwrap().cache("app", "own").unwrap();
    for name in ["one", "two", "three"] {
        let state = cache.open().unwrap();
        commit_with(&cache, state.as_ref(), name);
    }
    assert!(!cache.flatten(3).unwrap());
    assert!(cache.flatten(2).unwrap());
    let state = cache.open().unwrap().unwrap();
    let names = shown(&state.lowers()[0]).into_keys().collect::<Vec<_>>();
    assert_eq!(
        (state.lowers().len(), names),
        (1, ["one", "three", "two"].map(PathBuf::from).to_vec())
    );
    let damaged = cache.directory.path.join("state.json");
    fs::write(damaged, "{").unwrap();
    assert!(cache.open().unwrap().is_none(), "a damaged state is no state");
}
