//! What maintainer scripts would have made: links, accounts, certificates, small files. Each line has a script behind it
//! (`builder/data/debian-maintainer-scripts.tsv`) or is something that every Debian system has.

use std::path::Path;

use crate::base::accounts::USER;
use crate::base::accounts::USER_ID;
use crate::base::accounts::accounts;
use crate::base::accounts::group_id;
use crate::base::alternatives;
use crate::base::error::BaseError;
use crate::base::paths::MERGED;
use crate::base::paths::merged;
use crate::base::status;
use crate::base::tree::Dress;
use crate::base::tree::Tree;
use crate::base::unpack::Unpacked;

const FOLDER: Dress = Dress::root(0o755);
const FILE: Dress = Dress::root(0o644);

const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\nff02::1\t\tip6-allnodes\nff02::2\t\tip6-allrouters\n";
const NETWORKS: &str = "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n";
const SHELLS: &str = "# /etc/shells: valid login shells\n/bin/sh\n/usr/bin/sh\n/bin/bash\n/usr/bin/bash\n/bin/rbash\n/usr/bin/rbash\n/bin/dash\n/usr/bin/dash\n";

/// Files that are copied when their package is there: from, to.
const COPIES: &[(&str, &str)] = &[
    ("usr/share/base-files/dot.profile", "root/.profile"),
    ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
    ("usr/share/base-files/profile", "etc/profile"),
    ("usr/share/base-files/motd", "etc/motd"),
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
    ("usr/share/readline/inputrc", "etc/inputrc"),
];

/// Adds to `tree`, whose regular files are under `root`, what the scripts would have made. Gives back sentences on what
/// nobody has looked at yet.
pub(super) fn make(
    tree: &mut Tree,
    root: &Path,
    packages: &[Unpacked],
    architecture: &str,
) -> Result<Vec<String>, BaseError> {
    for folder in MERGED {
        if tree.has(&format!("usr/{folder}")) {
            tree.make_link(folder, &format!("usr/{folder}"));
        }
    }
    make_layout(tree);
    make_accounts(tree, root)?;
    for (from, to) in COPIES {
        if tree.has(from) {
            tree.make_file(to, FILE, read(root, from)?);
        }
    }
    make_small_files(tree);
    make_certificates(tree, root)?;
    make_python(tree, packages);
    let odd = make_alternatives(tree, packages);
    for (path, contents) in status::database(packages, architecture) {
        tree.make_file(&format!("var/lib/dpkg/{path}"), FILE, contents);
    }
    for folder in ["parts", "updates", "alternatives"] {
        tree.make_folder(&format!("var/lib/dpkg/{folder}"), FOLDER);
    }
    Ok(odd)
}

/// base-files: the folders and links of every system.
fn make_layout(tree: &mut Tree) {
    for path in [
        "mnt", "srv", "opt", "etc/opt", "var/opt", "media", "home", "proc", "sys", "dev", "run",
    ] {
        tree.make_folder(path, FOLDER);
    }
    let local = [
        "bin",
        "sbin",
        "etc",
        "games",
        "include",
        "lib",
        "libexec",
        "share",
        "share/man",
        "src",
    ];
    for path in local {
        tree.make_folder(&format!("usr/local/{path}"), FOLDER);
    }
    tree.make_link("usr/local/man", "share/man");
    for path in ["tmp", "var/tmp", "run/lock"] {
        tree.make_folder(path, Dress::root(0o1777));
    }
    tree.make_folder("root", Dress::root(0o700));
    tree.turn_into_link("var/run", "/run");
    tree.turn_into_link("var/lock", "/run/lock");
    tree.make_link("var/spool/mail", "../mail");
    if tree.has("etc/dpkg/origins/debian") {
        tree.make_link("etc/dpkg/origins/default", "debian");
    }
}

/// base-passwd, and the shadow files that the package passwd would make.
fn make_accounts(tree: &mut Tree, root: &Path) -> Result<(), BaseError> {
    let passwd = read_text(root, "usr/share/base-passwd/passwd.master")?;
    let group = read_text(root, "usr/share/base-passwd/group.master")?;
    let made = accounts(&passwd, &group, tree.newest() / 86_400);
    let shadow = Dress {
        mode: 0o640,
        uid: 0,
        gid: group_id(&group, "shadow").unwrap_or(0),
    };
    tree.make_file("etc/passwd", FILE, made.passwd);
    tree.make_file("etc/group", FILE, made.group);
    tree.make_file("etc/shadow", shadow, made.shadow);
    tree.make_file("etc/gshadow", shadow, made.gshadow);
    tree.make_file("etc/subuid", FILE, "");
    tree.make_file("etc/subgid", FILE, "");
    tree.make_folder(
        &format!("home/{USER}"),
        Dress {
            mode: 0o755,
            uid: USER_ID,
            gid: USER_ID,
        },
    );
    tree.make_folder(
        "var/mail",
        Dress {
            mode: 0o2775,
            uid: 0,
            gid: group_id(&group, "mail").unwrap_or(0),
        },
    );
    Ok(())
}

/// netbase, debianutils, tzdata, libpam-modules; a container's runtime binds its own over hosts, hostname, resolv.conf.
fn make_small_files(tree: &mut Tree) {
    for (path, text) in [
        ("etc/hosts", HOSTS),
        ("etc/hostname", "localhost\n"),
        ("etc/resolv.conf", ""),
        ("etc/networks", NETWORKS),
        ("etc/shells", SHELLS),
        ("etc/environment", ""),
        ("etc/timezone", "Etc/UTC\n"),
    ] {
        tree.make_file(path, FILE, text);
    }
    tree.make_file("etc/security/opasswd", Dress::root(0o600), "");
    if tree.has("usr/share/zoneinfo/Etc/UTC") {
        tree.make_link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC");
    }
}

/// ca-certificates: the bundle, and the list of what is in it, for `update-ca-certificates`.
fn make_certificates(tree: &mut Tree, root: &Path) -> Result<(), BaseError> {
    let mut bundle = Vec::new();
    let mut names = String::new();
    for path in tree.files_in("usr/share/ca-certificates/mozilla", ".crt") {
        bundle.extend(read(root, &path)?);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        names += path.trim_start_matches("usr/share/ca-certificates/");
        names.push('\n');
    }
    if !bundle.is_empty() {
        tree.make_file("etc/ssl/certs/ca-certificates.crt", FILE, bundle);
        tree.make_file("etc/ca-certificates.conf", FILE, names);
        tree.make_folder("usr/local/share/ca-certificates", FOLDER);
    }
    Ok(())
}

/// python3 and python3.N-minimal: configuration, and the folder of the administrator's own packages. No byte code.
fn make_python(tree: &mut Tree, packages: &[Unpacked]) {
    let names = packages.iter().map(|unpacked| unpacked.package.name.as_str());
    for name in names {
        let version = name
            .strip_prefix("python")
            .and_then(|name| name.strip_suffix("-minimal"));
        if let Some(version) = version.filter(|version| version.contains('.')) {
            tree.make_folder(&format!("usr/local/lib/python{version}/dist-packages"), FOLDER);
            tree.make_file(&format!("var/lib/python/python{version}_installed"), FILE, "");
        }
        if name == "python3" {
            tree.make_file(
                "etc/python3/debian_config",
                FILE,
                "[DEFAULT]\nbyte-compile = standard\n",
            );
        }
        if name == "pkgconf-bin" {
            tree.make_folder("usr/lib/pkgconfig", FOLDER);
        }
    }
}

/// The links of alternatives, through `/etc/alternatives` as dpkg's are.
fn make_alternatives(tree: &mut Tree, packages: &[Unpacked]) -> Vec<String> {
    let mut all = Vec::new();
    let mut odd = Vec::new();
    for unpacked in packages {
        let postinst = unpacked
            .control
            .get("postinst")
            .map(|bytes| String::from_utf8_lossy(bytes));
        let (found, differs) =
            alternatives::of_package(&unpacked.package.name, &postinst.unwrap_or_default());
        all.extend(found);
        odd.extend(differs);
    }
    for alternative in alternatives::winners(all) {
        let link = merged(alternative.link.trim_start_matches('/').into());
        let middle = format!("etc/alternatives/{}", alternative.name);
        tree.make_link(&middle, &alternative.target);
        tree.make_link(&String::from_utf8_lossy(&link), &format!("/{middle}"));
    }
    odd
}

fn read(root: &Path, path: &str) -> Result<Vec<u8>, BaseError> {
    let path = root.join(path);
    std::fs::read(&path).map_err(BaseError::file("read", path))
}

fn read_text(root: &Path, path: &str) -> Result<String, BaseError> {
    let path = root.join(path);
    std::fs::read_to_string(&path).map_err(BaseError::file("read", path))
}
