//! The long form of the network tests (`scripts/try-network`): real tools of this machine in the sandbox, each against
//! its own package registry, through the gateway under the public policy. Prints a table.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use packhorse::events::Silence;
use packhorse::http::dialler::Dialler;
use packhorse::http::dialler::proxy::UpstreamProxy;
use packhorse::http::dialler::resolver::SystemResolver;
use packhorse::model::limits::Limits;
use packhorse::model::policy::NetworkPolicy;
use packhorse::model::policy::PublicPolicy;
use packhorse::model::rung::RungChoice;
use packhorse::network::Sockets;
use packhorse::network::gateway::Gateway;
use packhorse::network::gateway::GatewayLimits;
use packhorse::network::gateway::GatewaySetup;
use packhorse::sandbox;
use packhorse::sandbox::command::Command;
use packhorse::sandbox::command::Exit;
use packhorse::sandbox::command::RunAs;
use packhorse::sandbox::directory::JobDirectory;
use packhorse::sandbox::identity::Surroundings;
use packhorse::sandbox::job::Job as _;
use packhorse::sandbox::ladder;
use packhorse::sandbox::ladder::Ground;
use packhorse::sandbox::native::NativeJob;
use packhorse::sandbox::probe::Found;
use packhorse::sandbox::spec::Bind;
use packhorse::sandbox::spec::BindMode;
use packhorse::sandbox::spec::JobSpec;
use packhorse::sandbox::spec::LayersState;
use packhorse::sandbox::spec::Network;
use packhorse::sandbox::spec::User;

use crate::support::git::GitServer;
use crate::support::git::Work;

const UID: u32 = 1001;
/// What this machine trusts, as an operator's bundle.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// For one tool.
const TIMEOUT: Duration = Duration::from_secs(240);
/// Folders of this machine that the job sees, where they are there; what is in a home folder goes below `/opt`.
const SEEN: [(&str, &str); 9] = [
    ("/usr", "/usr"),
    ("/etc/alternatives", "/etc/alternatives"),
    ("/etc/ssl", "/etc/ssl"),
    ("/etc/apt", "/etc/apt"),
    ("/etc/maven", "/etc/maven"),
    ("/etc/java-17-openjdk", "/etc/java-17-openjdk"),
    ("/root/.cargo", "/opt/cargo"),
    ("/root/.rustup", "/opt/rustup"),
    ("/root/.pyenv/versions", "/opt/python"),
];
/// A tool: its program, and what it is asked to do. No host is named here: each asks the registry that it is set up for.
const TOOLS: [(&str, &str, &str); 14] = [
    (
        "curl",
        "curl",
        "curl -fsS -o /dev/null $(npm config get registry)is-number",
    ),
    (
        "wget",
        "wget",
        "wget -q -O /dev/null $(npm config get registry)is-number",
    ),
    ("npm", "npm", "npm init -y && npm install is-number"),
    (
        "Node's fetch",
        "node",
        "node -e 'fetch(process.argv[1]).then(async (a) => { if (!a.ok) throw a.status; await a.text() })' \
         $(npm config get registry)is-number",
    ),
    ("pip", "python3", "python3 -m pip download --no-deps -d . six"),
    (
        "uv",
        "python3",
        "python3 -m pip install -q --target uv uv && uv/bin/uv pip install --python $(command -v python3) --target t six",
    ),
    ("Go", "go", "go mod init x && go get rsc.io/quote@v1.5.2"),
    (
        "Cargo",
        "cargo",
        "cargo init -q --name x && cargo add -q itoa && cargo fetch",
    ),
    (
        "Maven",
        "mvn",
        "mvn -q -B dependency:get -Dartifact=junit:junit:4.13.2 -Dmaven.repo.local=m2",
    ),
    (
        "apt",
        "apt-get",
        "mkdir -p s/lists/partial c/archives/partial && apt-get -o Dir::State=$PWD/s -o Dir::Cache=$PWD/c \
         -o Dir::State::status=/dev/null -o APT::Sandbox::User= update && apt-get -o Dir::State=$PWD/s \
         -o Dir::Cache=$PWD/c -o Dir::State::status=/dev/null -o APT::Sandbox::User= download hostname",
    ),
    ("Gradle", "gradle", "gradle --version"),
    ("Bundler", "bundle", "bundle init && bundle add rake"),
    ("Composer", "composer", "composer require psr/log"),
    ("git over http", "git", "git clone -q $GIT_URL it"),
];
/// The key lies in the folder in which git is started.
const SSH: &str =
    "ssh -i $PWD/k -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes";

struct World {
    place: tempfile::TempDir,
    ground: Ground,
}

impl World {
    fn new() -> Self {
        let surroundings = Surroundings::read(None, None);
        let nothing_refused = Found::NOTHING_REFUSED;
        let climbed = ladder::climb(&surroundings, &nothing_refused);
        let world = Self {
            place: tempfile::tempdir().unwrap(),
            ground: ladder::choose(&climbed, RungChoice::default()).unwrap(),
        };
        for folder in ["base/usr", "base/etc", "workspace", "layers"] {
            fs::create_dir_all(world.path(folder)).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), world.path("base").join(link)).unwrap();
        }
        fs::write(world.path("base/etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        world.give("workspace");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn give(&self, name: &str) {
        let owner = self.ground.owners().on_disk(UID);
        std::os::unix::fs::chown(self.path(name), Some(owner), Some(owner)).unwrap();
    }

    fn start(&self, ports: Vec<u16>) -> NativeJob {
        let seen = SEEN.iter().filter(|(source, _)| Path::new(source).is_dir());
        let binds = seen.map(|(source, target)| Bind {
            source: source.into(),
            target: target.into(),
            mode: BindMode::ReadOnly,
        });
        sandbox::start(JobSpec {
            directory: JobDirectory::create(&self.path("jobs"), "tools").unwrap(),
            program: env!("CARGO_BIN_EXE_packhorse").into(),
            ground: self.ground,
            root_layers: vec![self.path("base")],
            layers: LayersState {
                lowers: Vec::new(),
                directory: self.path("layers"),
                volatile: true,
            },
            workspace: self.path("workspace"),
            binds: binds.collect(),
            user: User {
                uid: UID,
                gid: UID,
                name: "cnb".to_owned(),
                home: "/home/cnb".into(),
            },
            limits: Limits {
                timeout: Duration::from_secs(3000),
                ..Limits::default()
            },
            hostname: "tools".to_owned(),
            network: Network::Listeners { ports },
            environment_ca: Some(PathBuf::from(CA_BUNDLE)).filter(|bundle| bundle.is_file()),
            grace: Duration::from_secs(1),
        })
        .unwrap()
    }
}

/// Where the newest Python is, inside; none: the one of `/usr`.
fn python() -> String {
    let versions = fs::read_dir("/root/.pyenv/versions")
        .into_iter()
        .flatten()
        .flatten();
    let names = versions.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let newest = names.max_by_key(|name| {
        name.split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect::<Vec<u32>>()
    });
    newest.map_or_else(|| "/usr".to_owned(), |name| format!("/opt/python/{name}"))
}

fn shell(script: &str, variables: &[(&str, &str)]) -> Command {
    let folder = "mkdir -p /tmp/t && cd $(mktemp -d -p /tmp/t)";
    let python = python();
    let path = format!("{python}/bin:/usr/local/go/bin:/opt/cargo/bin:/usr/local/bin:/usr/bin:/usr/sbin");
    let libraries = format!("{python}/lib");
    let fixed = [
        ("PATH", path.as_str()),
        ("LD_LIBRARY_PATH", libraries.as_str()),
        ("HOME", "/home/cnb"),
        ("RUSTUP_HOME", "/opt/rustup"),
        ("CARGO_HOME", "/tmp/cargo"),
        ("RUSTUP_TOOLCHAIN", "stable"),
        ("GOFLAGS", "-mod=mod"),
        ("GIT_TERMINAL_PROMPT", "0"),
    ];
    Command {
        name: script.to_owned(),
        arguments: ["/bin/bash", "-ec", &format!("{folder} && {script}")]
            .map(OsString::from)
            .into(),
        environment: fixed
            .iter()
            .chain(variables)
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        working_directory: "/tmp".into(),
        run_as: RunAs::User,
        timeout: Some(TIMEOUT),
    }
}

fn run(job: &NativeJob, command: &Command) -> (Exit, String) {
    let said = Mutex::new(Vec::new());
    let exit = job.run(command, &|_, bytes| said.lock().unwrap().extend_from_slice(bytes));
    let said = String::from_utf8_lossy(&said.into_inner().unwrap()).into_owned();
    (exit.unwrap(), said)
}

/// An sshd on loopback that lets one key in; none where the machine has no sshd.
struct Sshd {
    child: Child,
    port: u16,
}

impl Sshd {
    fn start(world: &World) -> Option<Self> {
        let program = Path::new("/usr/sbin/sshd");
        if !program.is_file() {
            return None;
        }
        let key = |name: &str| {
            let status = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(world.path(name))
                .status();
            assert!(status.unwrap().success());
        };
        key("host_key");
        key("workspace/key");
        fs::copy(world.path("workspace/key.pub"), world.path("authorized_keys")).unwrap();
        world.give("workspace/key");
        fs::set_permissions(world.path("workspace/key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = std::process::Command::new(program)
            .args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string()])
            .args([
                "-o",
                "ListenAddress=127.0.0.1",
                "-o",
                "StrictModes=no",
                "-o",
                "UsePAM=no",
            ])
            .args(["-o", "PermitRootLogin=prohibit-password", "-o", "PidFile=none"])
            .arg(format!("-oHostKey={}", world.path("host_key").display()))
            .arg(format!(
                "-oAuthorizedKeysFile={}",
                world.path("authorized_keys").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self { child, port })
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The way out under the public policy, and to servers of the test's own at these ports of loopback.
fn open_gateway(job: &NativeJob, own_ports: Vec<u16>) -> Gateway {
    let sockets = job.take_sockets().unwrap();
    let setup = GatewaySetup {
        policy: NetworkPolicy::Public(PublicPolicy {
            trusted_addresses: vec!["127.0.0.1".parse().unwrap()],
            ports: PublicPolicy::default()
                .ports
                .into_iter()
                .chain(own_ports)
                .collect(),
            ..PublicPolicy::default()
        }),
        dialler: Arc::new(Dialler::new(
            Arc::new(SystemResolver::default()),
            UpstreamProxy::default(),
        )),
        watcher: Arc::new(Silence),
        limits: GatewayLimits::default(),
    };
    let sockets = Sockets {
        tcp: sockets.tcp,
        dns: sockets.dns,
        attempts: sockets.attempts,
    };
    Gateway::start(sockets, setup).unwrap()
}

/// What came of each tool.
struct Table<'a> {
    job: &'a NativeJob,
    rows: Vec<String>,
    failures: Vec<String>,
}

impl Table<'_> {
    fn try_tool(&mut self, name: &str, program: &str, script: &str, variables: &[(&str, &str)]) {
        let began = Instant::now();
        let (is_here, _) = run(self.job, &shell(&format!("command -v {program}"), &[]));
        if is_here != Exit::Code(0) {
            return self.add(name, "not here", began);
        }
        let (exit, said) = run(self.job, &shell(script, variables));
        if exit == Exit::Code(0) {
            return self.add(name, "ok", began);
        }
        self.failures.push(format!("{name}: {exit:?}\n{said}"));
        self.add(name, "failed", began);
    }

    fn add(&mut self, name: &str, result: &str, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        self.rows.push(format!("{name:<16} {result:<10} {seconds:>7.1}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks the package registries; scripts/try-network runs it"]
async fn the_tools_of_this_machine_reach_their_registries() {
    let world = World::new();
    let work = Work::new();
    work.commit("hello.txt", "1");
    let forge = GitServer::start(work.folder.path(), None);
    let git_url = format!("{}/app/.git", forge.url());
    let git_port: u16 = git_url
        .split([':', '/'])
        .find_map(|part| part.parse().ok())
        .unwrap();
    let sshd = Sshd::start(&world);
    let ports: Vec<u16> = sshd.iter().map(|sshd| sshd.port).chain([git_port]).collect();
    let job = world.start(ports.clone());
    let gateway = open_gateway(&job, ports);
    let mut table = Table {
        job: &job,
        rows: vec![format!("{:<16} {:<10} {:>7}", "tool", "result", "seconds")],
        failures: Vec::new(),
    };
    tokio::task::block_in_place(|| {
        for (name, program, script) in TOOLS {
            table.try_tool(name, program, script, &[("GIT_URL", &git_url)]);
        }
        if let Some(sshd) = &sshd {
            let url = format!(
                "ssh://root@127.0.0.1:{}{}/app",
                sshd.port,
                work.folder.path().display()
            );
            let script = "cp /workspace/key k && git clone -q $GIT_URL it";
            let variables = [("GIT_URL", url.as_str()), ("GIT_SSH_COMMAND", SSH)];
            table.try_tool("git over ssh", "ssh", script, &variables);
        } else {
            table.add("git over ssh", "no sshd", Instant::now());
        }
    });
    let refused: Vec<String> = gateway.refusals().iter().map(ToString::to_string).collect();
    eprintln!("{}\nrefused or failed: {refused:#?}", table.rows.join("\n"));
    assert!(table.failures.is_empty(), "{}", table.failures.join("\n"));
    gateway.stop().await;
}
