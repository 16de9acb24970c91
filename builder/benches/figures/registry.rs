//! Debian's `docker-registry` on loopback, its data in memory, and the requests that its access log has seen.

use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::ensure;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A line is written after the answer was sent.
const LOG_DELAY: Duration = Duration::from_millis(200);

/// A registry; it ends when dropped.
pub(crate) struct Registry {
    child: Child,
    port: u16,
    log: PathBuf,
    _folder: TempDir,
}

impl Registry {
    /// Starts one. In memory, so that a registry's own syncs are in nobody's figure.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in("/dev/shm").context("/dev/shm is not there")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (config, log) = (folder.path().join("config.yml"), folder.path().join("log"));
        let data = folder.path().join("data");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    \
                 enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n",
                data.display()
            ),
        )?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(File::create(&log)?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start docker-registry; `scripts/setup tests` installs it")?;
        let registry = Self {
            child,
            port,
            log,
            _folder: folder,
        };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(start.elapsed() < START_TIMEOUT, "docker-registry does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests of `work`, in order and without their last parts: `HEAD …/manifests → 200`.
    pub(crate) fn requests_of(
        &self,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<String>> {
        let before = self.requests()?.len();
        work()?;
        thread::sleep(LOG_DELAY);
        Ok(self.requests()?.split_off(before))
    }

    fn requests(&self) -> anyhow::Result<Vec<String>> {
        let text = fs::read_to_string(&self.log)?;
        let request = |line: &str| {
            let (_, after) = line.split_once("] \"")?;
            let (request, after) = after.split_once(" HTTP/1.1\" ")?;
            let (method, path) = request.split_once(' ')?;
            let kind = ["uploads", "blobs", "manifests"]
                .into_iter()
                .find(|kind| path.contains(kind))?;
            Some(format!("{method} …/{kind} → {}", after.split(' ').next()?))
        };
        Ok(text.lines().filter_map(request).collect())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It has no children, and nothing that is worth saving.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
