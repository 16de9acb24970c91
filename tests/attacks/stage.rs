//! What an attack is aimed at, all of it made by the test: a tree, a process, servers, IPC; and jobs beside it.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use packhorse::model::limits::Limits;
use packhorse::sandbox::directory::JobDirectory;
use packhorse::sandbox::ladder::Ground;
use packhorse::sandbox::spec::Bind;
use packhorse::sandbox::spec::BindMode;
use packhorse::sandbox::spec::JobSpec;
use packhorse::sandbox::spec::LayersState;
use packhorse::sandbox::spec::Network;
use packhorse::sandbox::spec::User;
use tempfile::TempDir;

use crate::attacks::expectation::Column;
use crate::attacks::ground;
use crate::attacks::programs::PRELOAD;
use crate::support::home::succeed;
use crate::support::image::digest_of;

/// What only a victim knows.
const CANARY: &str = "canary-of-the-victim";
/// Where the servers listen.
pub(super) const PORT: u16 = 7411;
const ABSTRACT: &str = "packhorse-attacks-victim";
/// The key of what the machine has of System V's IPC.
const IPC_KEY: u32 = 7_411_911;
/// What the limits of a job that uses too much are.
pub(super) const MEBIBYTES: u64 = 64;
pub(super) const PROCESSES: u64 = 64;

/// The victims, and what jobs are made of.
pub(super) struct Stage {
    place: TempDir,
    programs: PathBuf,
    ground: Option<Ground>,
    own_processes: bool,
    /// Folders of the machine that jobs see.
    shown: Vec<PathBuf>,
    process: Child,
    before: Vec<String>,
    jobs: AtomicU32,
}

impl Stage {
    /// Makes the victims. `column` is none where there is to be no sandbox.
    pub(super) fn new(programs: &Path, column: Option<Column>) -> Self {
        let mut stage = Self::quiet(programs, column);
        serve(&stage.path("outside/socket"));
        stage.before = stage.look_at_victims();
        stage
    }

    /// Without servers, so that there can be more than one.
    pub(super) fn quiet(programs: &Path, column: Option<Column>) -> Self {
        let ground = column.map(ground);
        let place = tempfile::Builder::new()
            .prefix("packhorse-stage-")
            .tempdir()
            .unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| place.path().join(name);
        for folder in [
            "store/jobs",
            "outside",
            "readonly",
            "workspace",
            "layers",
            "base/etc",
            "base/usr",
        ] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        for (file, mode) in [
            ("outside/canary", 0o644),
            ("outside/private", 0o600),
            ("readonly/canary", 0o666),
            ("store/canary", 0o644),
            ("store/jobs/canary", 0o644),
        ] {
            write(&path(file), CANARY, mode);
        }
        fs::set_permissions(path("readonly"), fs::Permissions::from_mode(0o777)).unwrap();
        // A copy, which belongs to whoever runs it, as after `cargo install`.
        fs::copy(env!("CARGO_BIN_EXE_packhorse"), path("packhorse")).unwrap();
        let on_disk = |id: u32| ground.map_or(0, |ground| ground.owners().on_disk(id));
        make_image(&path("base"), programs, &on_disk);
        Self {
            place,
            programs: programs.to_owned(),
            ground,
            own_processes: column.is_some_and(Column::has_own_processes),
            shown: if column.is_some_and(|column| !column.has_binds()) {
                // The programs are static, and all of it would be copied for each job.
                Vec::new()
            } else {
                vec!["/usr".into()]
            },
            process: start_victim(),
            before: Vec::new(),
            jobs: AtomicU32::new(0),
        }
    }

    /// Where everything is.
    pub(super) fn place(&self) -> &Path {
        self.place.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// What every attack program is told.
    pub(super) fn environment(&self) -> Vec<(OsString, OsString)> {
        let path = |name: &str| self.path(name).display().to_string();
        let mut all = vec![
            ("PATH", "/usr/bin".to_owned()),
            ("ATTACK_OWN", "1".to_owned()),
            ("VICTIM_CANARY", CANARY.to_owned()),
            ("VICTIM_FILE", path("outside/canary")),
            ("VICTIM_PRIVATE", path("outside/private")),
            ("VICTIM_SOCKET", path("outside/socket")),
            ("VICTIM_STORE", path("store")),
            ("VICTIM_JOBS", path("store/jobs")),
            ("VICTIM_PID", self.process.id().to_string()),
            ("VICTIM_PORT", PORT.to_string()),
            ("VICTIM_ABSTRACT", ABSTRACT.to_owned()),
            ("VICTIM_KEY", IPC_KEY.to_string()),
            ("VICTIM_PROCESSES", PROCESSES.to_string()),
            ("VICTIM_MEMORY", MEBIBYTES.to_string()),
        ];
        if self.own_processes {
            all.push(("ATTACK_OWN_PROCESSES", "1".to_owned()));
        }
        all.into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    /// A job whose commands run as `uid`.
    pub(super) fn spec(&self, uid: u32, network: Network, limits: Limits) -> JobSpec {
        let number = self.jobs.fetch_add(1, Ordering::Relaxed);
        let ground = self.ground.unwrap();
        let workspace = self.path(&format!("workspace/{number}"));
        fs::create_dir(&workspace).unwrap();
        let (name, home) = if uid == 0 {
            ("root", "/root")
        } else {
            ("cnb", "/home/cnb")
        };
        give(
            &workspace,
            ground.owners().on_disk(uid),
            ground.owners().on_disk(uid),
        );
        let read_only = |source: PathBuf, target: &str| Bind {
            source,
            target: target.into(),
            mode: BindMode::ReadOnly,
        };
        JobSpec {
            directory: JobDirectory::create(&self.path("store/jobs"), "attacks").unwrap(),
            program: self.path("packhorse"),
            ground,
            root_layers: vec![self.path("base")],
            layers: LayersState {
                lowers: Vec::new(),
                directory: self.path(&format!("layers/{number}")),
                volatile: true,
            },
            workspace,
            binds: self
                .shown
                .iter()
                .map(|folder| read_only(folder.clone(), folder.to_str().unwrap()))
                .chain([
                    read_only(self.programs.clone(), "/attacks"),
                    read_only(self.path("readonly"), "/readonly"),
                ])
                .collect(),
            user: User {
                uid,
                gid: uid,
                name: name.to_owned(),
                home: home.into(),
            },
            limits,
            hostname: "job".to_owned(),
            network,
            environment_ca: None,
            grace: Duration::from_millis(300),
        }
    }

    /// What has changed of the victims, whatever the programs said.
    pub(super) fn harm(&mut self) -> Vec<String> {
        let now = self.look_at_victims();
        let changed = now.iter().filter(|line| !self.before.contains(line));
        let gone = self.before.iter().filter(|line| !now.contains(line));
        let dead = self
            .process
            .try_wait()
            .unwrap()
            .map(|_| "the victim is dead".to_owned());
        changed.chain(gone).cloned().chain(dead).collect()
    }

    fn look_at_victims(&self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut waiting: Vec<PathBuf> = [
            "outside",
            "readonly",
            "base",
            "packhorse",
            "store/canary",
            "store/jobs/canary",
        ]
        .iter()
        .map(|name| self.path(name))
        .collect();
        waiting.push(self.programs.clone());
        while let Some(path) = waiting.pop() {
            let status = fs::symlink_metadata(&path).unwrap();
            let content = if status.is_file() {
                digest_of(&fs::read(&path).unwrap())
            } else {
                String::new()
            };
            seen.push(format!(
                "{} {:o} {}:{} {content}",
                path.display(),
                status.mode(),
                status.uid(),
                status.gid()
            ));
            if status.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        for file in [
            "sys/kernel/hostname",
            "sys/net/ipv4/ip_forward",
            "net/route",
            "net/if_inet6",
        ] {
            seen.push(fs::read_to_string(Path::new("/proc").join(file)).unwrap_or_default());
        }
        for file in ["oom_score_adj", "limits", "comm"] {
            let text = fs::read_to_string(format!("/proc/{}/{file}", self.process.id()));
            seen.push(text.unwrap_or_default());
        }
        seen.sort();
        seen
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn give(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), uid, gid);
        }
    }
}

/// An image with accounts, and with programs that would give whoever starts them another id or a capability.
fn make_image(base: &Path, programs: &Path, on_disk: &dyn Fn(u32) -> u32) {
    for link in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{link}"), base.join(link)).unwrap();
    }
    let user = "root:x:0:0::/root:/bin/sh\n";
    for (name, text, mode) in [
        ("passwd", user, 0o644),
        ("group", "root:x:0:\n", 0o644),
        ("who", "base", 0o644),
        ("shadow", "root:*:19000::::::\n", 0o640),
        ("sudoers", "root ALL=(ALL) ALL\n", 0o440),
    ] {
        write(&base.join("etc").join(name), text, mode);
    }
    let privileged = [
        ("setuid-root", 0o4755),
        ("setgid-root", 0o2755),
        ("capable", 0o755),
    ];
    for (name, _) in privileged {
        fs::copy(programs.join("identity"), base.join(name)).unwrap();
    }
    give(base, on_disk(0), on_disk(0));
    for (name, mode) in privileged {
        // After the owner: a new one takes the bits away.
        fs::set_permissions(base.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    // Revision 2, effective: CAP_SYS_ADMIN permitted (linux/capability.h).
    let capability: [u8; 20] = [1, 0, 0, 2, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(
        base.join("capable"),
        "security.capability",
        &capability,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
}

fn start_victim() -> Child {
    std::process::Command::new("/usr/bin/sleep")
        .arg0("packhorse-victim")
        .arg("3600")
        .env("VICTIM_SECRET", CANARY)
        .spawn()
        .unwrap()
}

/// Servers that say the canary to everybody, in the test's own network namespace; and IPC in its own IPC namespace.
fn serve(socket: &Path) {
    for port in [PORT, 80, 2375, 25] {
        // Takes IPv4 as well.
        let listener = TcpListener::bind(("::", port)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut stream = stream;
                    // Who went away does not hear it.
                    drop(stream.write_all(CANARY.as_bytes()));
                });
            }
        });
    }
    for port in [PORT, 53] {
        let server = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        thread::spawn(move || {
            let mut question = [0; 2048];
            while let Ok((_, asker)) = server.recv_from(&mut question) {
                drop(server.send_to(CANARY.as_bytes(), asker));
            }
        });
    }
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o777)).unwrap();
    let name = SocketAddr::from_abstract_name(ABSTRACT).unwrap();
    let stream = UnixListener::bind_addr(&name).unwrap();
    for listener in [listener, stream] {
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                drop(stream.write_all(CANARY.as_bytes()));
            }
        });
    }
    let datagram = SocketAddr::from_abstract_name(format!("{ABSTRACT}-datagram")).unwrap();
    let datagram = UnixDatagram::bind_addr(&datagram).unwrap();
    thread::spawn(move || while datagram.recv(&mut [0; 64]).is_ok() {});
    let script = format!(
        "my $s = shmget({IPC_KEY}, 4096, 01666); defined $s or die $!; shmwrite($s, '{CANARY}', 0, 64) or die $!; \
         defined semget({IPC_KEY}, 1, 01666) or die $!; defined msgget({IPC_KEY}, 01666) or die $!; \
         my $q = 'packhorse-victim'; \
         syscall({MQ_OPEN}, $q, 0102, 0666, 0) >= 0 or die $!"
    );
    succeed(std::process::Command::new("/usr/bin/perl").args(["-e", &script]));
}

#[cfg(target_arch = "x86_64")]
const MQ_OPEN: u32 = 240;
#[cfg(not(target_arch = "x86_64"))]
const MQ_OPEN: u32 = 180;

/// The library that packhorse itself would load, where a job can read it.
pub(super) fn preload() -> String {
    format!("/attacks/{PRELOAD}")
}
