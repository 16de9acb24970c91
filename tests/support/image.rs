//! Images as others read them: skopeo, umoci, bubblewrap.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::home::succeed;

/// An image as skopeo reads it.
pub(crate) struct Image {
    /// `docker://HOST/NAME:TAG` or `oci:DIRECTORY[:TAG]`.
    pub(crate) reference: String,
    pub(crate) manifest: Value,
    pub(crate) config: Value,
    pub(crate) digest: String,
}

impl Image {
    /// Reads `docker://…` or `oci:…`.
    pub(crate) fn read(reference: &str) -> Self {
        let manifest = inspect(reference, &["--raw"]);
        let config = inspect(reference, &["--config", "--raw"]);
        Self {
            reference: reference.to_owned(),
            digest: digest_of(manifest.as_bytes()),
            manifest: serde_json::from_str(&manifest).unwrap(),
            config: serde_json::from_str(&config).unwrap(),
        }
    }

    /// Whether there is an image that skopeo can read.
    pub(crate) fn try_read(reference: &str) -> bool {
        let inspected = Command::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--raw", reference])
            .output()
            .unwrap();
        inspected.status.success()
    }

    /// A label's text.
    #[track_caller]
    pub(crate) fn label(&self, name: &str) -> &str {
        let label = self.config["config"]["Labels"][name].as_str();
        label.unwrap_or_else(|| panic!("no label {name}: {}", self.config["config"]["Labels"]))
    }

    /// A label that holds JSON.
    #[track_caller]
    pub(crate) fn json_label(&self, name: &str) -> Value {
        serde_json::from_str(self.label(name)).unwrap()
    }

    /// The digests of the unpacked layers, from the base upwards.
    pub(crate) fn diff_ids(&self) -> Vec<String> {
        texts(&self.config["rootfs"]["diff_ids"])
    }

    /// Who made each layer.
    pub(crate) fn made_by(&self) -> Vec<String> {
        let history = self.config["history"].as_array().unwrap();
        history
            .iter()
            .map(|entry| entry["created_by"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The digests of the blobs that hold the layers.
    pub(crate) fn blobs(&self) -> Vec<String> {
        self.manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| layer["digest"].as_str().unwrap().to_owned())
            .collect()
    }

    /// A file of an image in a layout, from the topmost layer that has it; as tar reads it.
    pub(crate) fn file(&self, path: &str) -> Option<String> {
        let directory = self.reference.strip_prefix("oci:").unwrap();
        let directory = if Path::new(directory).is_dir() {
            directory
        } else {
            directory.rsplit_once(':').unwrap().0
        };
        self.blobs().iter().rev().find_map(|blob| {
            let blob = Path::new(directory).join("blobs").join(blob.replace(':', "/"));
            let read = Command::new("tar")
                .args(["--absolute-names", "-xOzf"])
                .arg(blob)
                .arg(format!("/{path}"))
                .output()
                .unwrap();
            read.status
                .success()
                .then(|| String::from_utf8_lossy(&read.stdout).into_owned())
        })
    }

    /// The variables that a container starts with.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let variables = texts(&self.config["config"]["Env"]);
        variables
            .iter()
            .filter_map(|one| one.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Unpacks it with umoci.
    pub(crate) fn unpack(&self) -> RootFilesystem {
        let folder = tempfile::tempdir().unwrap();
        // A program of the image, running as its user, must come through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let layout = format!("oci:{}:it", folder.path().join("layout").display());
        skopeo(&["copy", "--src-tls-verify=false", &self.reference, &layout]);
        let mut umoci = Command::new("umoci");
        umoci.args(["raw", "unpack"]);
        if !is_root() {
            umoci.arg("--rootless");
        }
        umoci
            .arg("--image")
            .arg(format!("{}:it", folder.path().join("layout").display()))
            .arg(folder.path().join("root"));
        succeed(&mut umoci);
        RootFilesystem {
            folder,
            config: self.config["config"].clone(),
            environment: self.environment(),
        }
    }
}

/// An image's files, unpacked by umoci.
pub(crate) struct RootFilesystem {
    folder: TempDir,
    config: Value,
    environment: BTreeMap<String, String>,
}

impl RootFilesystem {
    /// Where they are.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Starts the image with bubblewrap, as its configuration says. `entrypoint` and `environment` replace or add.
    pub(crate) fn command(
        &self,
        entrypoint: Option<&str>,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Command {
        // What whoever runs the tests has left open is not the image's to see.
        let close = "for path in /proc/self/fd/*; do number=${path##*/}; test $number -lt 3 || eval \"exec $number>&-\"; done";
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{close}; exec \"$@\""), "bash"]);
        if is_root() {
            command.args(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]);
        }
        command.arg("bwrap");
        command.args([
            "--die-with-parent",
            "--unshare-user",
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--unshare-pid",
            "--unshare-ipc",
        ]);
        command.arg("--bind").arg(self.path()).arg("/").args([
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "--tmpfs",
            "/tmp",
            "--clearenv",
        ]);
        let mut variables = self.environment.clone();
        variables.insert("HOME".to_owned(), "/home/cnb".to_owned());
        variables.extend(
            environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        for (name, value) in &variables {
            command.args(["--setenv", name, value]);
        }
        command.args(["--chdir", self.config["WorkingDir"].as_str().unwrap_or("/"), "--"]);
        let entrypoints =
            entrypoint.map_or_else(|| texts(&self.config["Entrypoint"]), |one| vec![one.to_owned()]);
        // The kernel looks programs up in the caller's PATH, a container's runtime in the image's.
        let found = self.find(&entrypoints[0], &variables["PATH"]);
        command.arg(found).args(&entrypoints[1..]).args(arguments);
        command
    }

    fn find(&self, program: &str, path: &str) -> String {
        if program.contains('/') {
            return program.to_owned();
        }
        let candidates = path.split(':').map(|folder| format!("{folder}/{program}"));
        let mut found = candidates
            .filter(|path| fs::symlink_metadata(self.path().join(path.trim_start_matches('/'))).is_ok());
        found.next().unwrap_or_else(|| program.to_owned())
    }
}

/// Runs skopeo, which must succeed.
pub(crate) fn skopeo(arguments: &[&str]) -> String {
    succeed(Command::new("skopeo").args(arguments))
}

fn inspect(reference: &str, how: &[&str]) -> String {
    skopeo(&[&["inspect", "--tls-verify=false"][..], how, &[reference]].concat())
}

/// `sha256:…` of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in sha2::Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// The strings of a JSON array; empty if there is none.
pub(crate) fn texts(array: &Value) -> Vec<String> {
    array
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a folder and everything below it holds `text` in a file or a name.
pub(crate) fn holds_text(folder: &Path, text: &str) -> Vec<PathBuf> {
    let found = Command::new("grep")
        .args(["-rlaF", "--", text])
        .arg(folder)
        .output()
        .unwrap();
    let in_files = String::from_utf8_lossy(&found.stdout)
        .lines()
        .map(PathBuf::from)
        .collect::<Vec<_>>();
    let names = Command::new("find")
        .arg(folder)
        .args(["-name", &format!("*{text}*")])
        .output()
        .unwrap();
    in_files
        .into_iter()
        .chain(String::from_utf8_lossy(&names.stdout).lines().map(PathBuf::from))
        .collect()
}
