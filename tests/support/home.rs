//! A machine that packhorse runs on: a data directory, a home folder, and of the environment only what it needs.

use std::fs;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::fs::flock;
use tempfile::TempDir;

use crate::support::run::Invocation;
use crate::support::run::Run;

/// How long the first assembly of the base may take on a slow network.
const ASSEMBLY: Duration = Duration::from_secs(1200);
/// What the surroundings say about the network, which holds for packhorse too.
const SURROUNDINGS: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A machine that packhorse runs on.
pub(crate) struct Machine {
    store: PathBuf,
    folder: TempDir,
}

impl Machine {
    /// A user of the store that all tests share, which has the base; home folder and temporary folder are their own.
    pub(crate) fn new() -> Self {
        Self::with_store(shared_store().to_owned())
    }

    /// A store of its own, with nothing in it.
    pub(crate) fn bare() -> Self {
        let machine = Self::with_store(PathBuf::new());
        let store = machine.folder.path().join("store");
        fs::DirBuilder::new().mode(0o700).create(&store).unwrap();
        Self { store, ..machine }
    }

    /// A store of its own that has the base, as hard links to the shared one's files.
    pub(crate) fn alone() -> Self {
        let machine = Self::bare();
        copy_store(&machine.store, "-al");
        machine
    }

    /// A store of its own that has a copy of the base.
    pub(crate) fn copied() -> Self {
        let machine = Self::bare();
        copy_store(&machine.store, "-a");
        machine
    }

    /// A user of `store`.
    pub(crate) fn with_store(store: PathBuf) -> Self {
        // Beside the shared store where that is possible, so that hard links can be made.
        let folder = tempfile::Builder::new()
            .prefix("machine-")
            .tempdir_in(target())
            .unwrap();
        for name in ["home", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { store, folder }
    }

    /// `PACKHORSE_HOME`.
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// `HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// `TMPDIR`.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a file of the user's home folder.
    pub(crate) fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.home().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// packhorse with arguments, not yet started.
    pub(crate) fn packhorse(&self, arguments: &[&str]) -> Invocation {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packhorse"));
        command.args(arguments).env_clear().current_dir(self.home());
        command.envs(environment());
        command
            .env("HOME", self.home())
            .env("TMPDIR", self.temporary())
            .env("PACKHORSE_HOME", &self.store);
        Invocation::new(command, self.store.clone(), self.temporary())
    }

    /// Runs packhorse to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.packhorse(arguments).run()
    }
}

/// Of the surroundings: where programs are, and how the network is reached.
pub(crate) fn environment() -> Vec<(String, String)> {
    let kept = std::env::vars().filter(|(name, _)| SURROUNDINGS.contains(&name.as_str()));
    let path = (
        "PATH".to_owned(),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    );
    kept.chain([path]).collect()
}

/// Cargo's target directory.
pub(crate) fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap()
}

/// The data directory that all tests share. It begins with the base alone.
pub(crate) fn shared_store() -> &'static Path {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| store_with_base("e2e-home"))
}

/// A data directory that has the base and in which no test builds, so that it can be copied at any time.
pub(crate) fn base_store() -> &'static Path {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| store_with_base("e2e-base"))
}

/// The data directory of this name below `target/`. Whoever comes first assembles its base.
fn store_with_base(name: &str) -> PathBuf {
    let store = target().join(name);
    let guard = File::create(target().join(format!("{name}.lock"))).unwrap();
    flock(&guard, FlockOperation::LockExclusive).unwrap();
    let machine = Machine::with_store(store.clone());
    machine
        .packhorse(&["base", "create"])
        .patience(ASSEMBLY)
        .run()
        .ok();
    store
}

/// Gives `store` the base.
pub(crate) fn copy_store(store: &Path, how: &str) {
    for folder in ["bases", "layers", "blobs"] {
        let from = base_store().join(folder);
        if from.exists() {
            succeed(Command::new("cp").arg(how).arg(from).arg(store));
        }
    }
}

/// Runs a program that must succeed, and gives its output.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{errors}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
