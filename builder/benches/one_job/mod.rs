//! One job on a root file system of nothing but busybox: started, asked for `true`, ended.

use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use packhorse::model::limits::Limits;
use packhorse::sandbox;
use packhorse::sandbox::command::Command;
use packhorse::sandbox::command::Exit;
use packhorse::sandbox::command::RunAs;
use packhorse::sandbox::directory::JobDirectory;
use packhorse::sandbox::job::Job;
use packhorse::sandbox::ladder::Ground;
use packhorse::sandbox::spec::JobSpec;
use packhorse::sandbox::spec::LayersState;
use packhorse::sandbox::spec::Network;
use packhorse::sandbox::spec::User;

/// Debian's statically linked one.
const BUSYBOX: &str = "/bin/busybox";
const USER_ID: u32 = 1000;

/// A data directory for jobs.
pub(crate) struct World {
    place: PathBuf,
    program: PathBuf,
    ground: Ground,
}

impl World {
    /// Makes it in the empty folder `place`; `program` is packhorse.
    pub(crate) fn new(place: &Path, program: &Path, ground: Ground) -> io::Result<Self> {
        let (root, user) = (ground.owners().on_disk(0), ground.owners().on_disk(USER_ID));
        make_root(&place.join("root"))?;
        give(&place.join("root"), root)?;
        for name in ["workspace", "layers"] {
            fs::create_dir(place.join(name))?;
        }
        lchown(place.join("workspace"), Some(user), Some(user))?;
        let (place, program) = (place.to_owned(), program.to_owned());
        Ok(Self {
            place,
            program,
            ground,
        })
    }

    /// Starts a job, runs `true` in it, and ends it.
    pub(crate) fn round(&self, network: Network) -> anyhow::Result<()> {
        let job = sandbox::start(self.spec(network)?)?;
        let exit = job.run(&truth(), &|_, _| {})?;
        ensure!(exit == Exit::Code(0), "true ended with {exit:?}");
        Ok(())
    }

    fn spec(&self, network: Network) -> anyhow::Result<JobSpec> {
        Ok(JobSpec {
            directory: JobDirectory::create(&self.place.join("jobs"), "bench")?,
            program: self.program.clone(),
            ground: self.ground,
            root_layers: vec![self.place.join("root")],
            layers: LayersState {
                lowers: Vec::new(),
                directory: self.place.join("layers"),
                volatile: true,
            },
            workspace: self.place.join("workspace"),
            binds: Vec::new(),
            user: User {
                uid: USER_ID,
                gid: USER_ID,
                name: "cnb".to_owned(),
                home: "/home/cnb".into(),
            },
            limits: Limits {
                timeout: Duration::from_secs(60),
                ..Limits::default()
            },
            hostname: "bench".to_owned(),
            network,
            environment_ca: None,
            grace: Duration::from_millis(300),
        })
    }
}

/// Makes a root file system in which `/bin/true` is busybox.
pub(crate) fn make_root(root: &Path) -> io::Result<()> {
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/true"))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n")
}

/// Gives a tree to root of the jobs.
fn give(path: &Path, owner: u32) -> io::Result<()> {
    lchown(path, Some(owner), Some(owner))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

fn truth() -> Command {
    Command {
        name: "true".to_owned(),
        arguments: vec!["/bin/true".into()],
        environment: Vec::new(),
        working_directory: "/".into(),
        run_as: RunAs::User,
        timeout: None,
    }
}
