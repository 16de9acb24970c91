//! The same input gives the same digest: another home, path, user, time.

use std::process::Command;
use std::time::Duration;

use crate::support::app::Folder;
use crate::support::app::testdata;
use crate::support::home::Machine;
use crate::support::home::succeed;
use crate::support::image::Image;
use crate::support::image::is_root;
use crate::support::left_out::left_out;
use crate::support::run::Run;
use crate::support::user::PlainUser;

/// Makes a layer with every kind of entry, in an order and with times that differ each time, beside an app with modes.
const BUILD: &str = "rm -rf $1/layer; mkdir -p $1/layer/sub; cd $1/layer
for name in $(ls /usr/share | head -50 | sort -R); do echo $name > sub/$name; done
ln -s sub link; ln sub/$(ls sub | head -1) hard; chmod 4755 hard; chmod 700 sub
printf '[types]\\nlaunch = true\\ncache = true\\n' > $1/layer.toml
echo made-by-the-build > /workspace/made";

/// Makes what no exporter likes, with `testdata/attacks/tree.c`. What was restored of it goes first.
const HOSTILE: &str = "if test -e $1/hostile; then chmod -R u+rwx $1/hostile; rm -rf $1/hostile; fi
mkdir $1/hostile; $CNB_BUILDPACK_DIR/bin/tree $1/hostile/tree
printf '[types]\\nlaunch = true\\ncache = true\\n' > $1/hostile.toml
$CNB_BUILDPACK_DIR/bin/tree /workspace/tree";

/// A buildpack whose layer, and whose change to the app, is the hostile tree.
fn hostile() -> Folder {
    let buildpack = Folder::scripts("hostile", "exit 0", HOSTILE);
    succeed(
        Command::new("gcc")
            .args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(buildpack.path().join("bin/tree"))
            .arg(testdata("attacks/tree.c")),
    );
    buildpack
}

/// How an image is built on a rung: twice, unless its ids are those of the rung before.
fn ways(rung: &str) -> &'static [&'static str] {
    match rung {
        "outer-proc" | "no-overlay" | "no-user-namespace" => &["from nothing"],
        _ => &["from nothing", "with its own cache"],
    }
}

/// How long a base may take on a slow machine.
const ASSEMBLY: Duration = Duration::from_secs(900);

fn app() -> Folder {
    let app = Folder::new(&[("b/file", "1"), ("a", "2"), ("script", "#!/bin/sh\n")]);
    app.shell("chmod 755 script; ln -s a link; mkdir empty");
    app
}

fn build(machine: &Machine, app: &Folder, buildpack: &Folder) -> Run {
    let layout = format!("oci:{}", machine.folder().join("image").display());
    machine
        .run(&[
            "build",
            &app.text(),
            "--buildpack",
            &buildpack.text(),
            "-o",
            &layout,
            "--force",
        ])
        .ok()
}

#[test]
fn the_same_digest_from_two_homes_two_folders_and_at_any_time() {
    let buildpack = Folder::scripts("varied", "exit 0", BUILD);
    let (one, other) = (Machine::alone(), Machine::copied());
    let first = app();
    let digest = build(&one, &first, &buildpack).digest();
    assert_eq!(build(&one, &first, &buildpack).digest(), digest, "built again");
    let second = app();
    second.shell("find . -exec touch -h -d 2030-05-05 {} +");
    let elsewhere = Folder::scripts("varied", "exit 0", BUILD);
    elsewhere.shell("find . -exec touch -h -d 1999-09-09 {} +");
    assert_eq!(
        build(&other, &second, &elsewhere).digest(),
        digest,
        "from another home and folder"
    );
    let image = Image::read(&format!("oci:{}", one.folder().join("image").display()));
    assert_eq!(image.digest, digest);
    assert!(
        !image
            .config
            .to_string()
            .contains(&one.folder().display().to_string())
    );
}

#[test]
fn the_surroundings_do_not_show() {
    let buildpack = Folder::scripts("varied", "exit 0", BUILD);
    let machine = Machine::new();
    let app = app();
    let digest = build(&machine, &app, &buildpack).digest();
    let layout = format!("oci:{}", machine.folder().join("other").display());
    let invocation = machine.packhorse(&[
        "build",
        "--force",
        "--buildpack",
        &buildpack.text(),
        "-o",
        &layout,
    ]);
    let run = invocation
        .env("LANG", "de_DE.UTF-8")
        .env("TZ", "Asia/Tokyo")
        .env("USER", "x")
        .env("EDITOR", "ed")
        .within(&app.path());
    let run = run
        .through(&["sh", "-c", "umask 077; exec \"$@\"", "sh"])
        .run()
        .ok();
    assert_eq!(run.digest(), digest);
}

#[test]
fn the_same_digest_on_every_rung_as_root_and_as_a_plain_user() {
    if !is_root() {
        left_out("only root can be two users");
        return;
    }
    let buildpack = hostile();
    let machine = Machine::copied();
    let app = app();
    let lock = machine.run(&["base", "inspect", "--lock"]).ok().stdout;
    let mut digests = on_every_rung_of_root(&machine, &app, &buildpack, &lock);
    digests.extend(on_every_rung_of_a_plain_user(&machine, &app, &buildpack, &lock));
    let (_, first) = &digests[0];
    let others: Vec<_> = digests.iter().filter(|(_, digest)| digest != first).collect();
    assert!(others.is_empty(), "not {first}: {others:?}");
}

/// As in a container to which Docker gives what it gives by default, but for the filter.
#[test]
fn root_that_may_not_mount_is_root_of_a_namespace_and_gets_the_same_digest() {
    if !is_root() {
        left_out("only root can lack what root has");
        return;
    }
    let buildpack = Folder::scripts("varied", "exit 0", BUILD);
    let app = app();
    let digest = build(&Machine::copied(), &app, &buildpack).digest();
    let machine = Machine::bare();
    let lock = machine.write(
        "lock",
        &Machine::copied().run(&["base", "inspect", "--lock"]).ok().stdout,
    );
    let without = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    let packhorse = |arguments: &[&str]| {
        machine
            .packhorse(arguments)
            .through(&without)
            .patience(ASSEMBLY)
            .run()
    };
    packhorse(&["base", "create", "--lock", &lock.display().to_string()]).ok();
    let layout = format!("oci:{}", machine.folder().join("image").display());
    let run = packhorse(&[
        "build",
        &app.text(),
        "--buildpack",
        &buildpack.text(),
        "-o",
        &layout,
    ])
    .ok();
    assert!(
        run.stderr.contains("sandbox rootless: root of a container"),
        "{}",
        run.stderr
    );
    assert_eq!(run.digest(), digest);
}

/// Where an image was built, and its digest.
type Digests = Vec<(String, String)>;

fn on_every_rung_of_root(machine: &Machine, app: &Folder, buildpack: &Folder, locked: &str) -> Digests {
    let mut digests = Vec::new();
    for rung in [
        "full",
        "outer-proc",
        "no-overlay",
        "no-user-namespace",
        "chroot",
        "single-id",
    ] {
        // Its base has other owners on disk; what was downloaded is there.
        if rung == "single-id" {
            let lock = machine.folder().join("lock");
            std::fs::write(&lock, locked).unwrap();
            let lock = lock.display().to_string();
            let create = machine.packhorse(&["base", "create", "--lock", &lock, "--sandbox", rung]);
            create.patience(ASSEMBLY).run().ok();
        }
        let layout = format!("oci:{}", machine.folder().join(rung).display());
        let (app, buildpack) = (app.text(), buildpack.text());
        let arguments = ["build", &app, "--buildpack", &buildpack, "-o", &layout];
        for how in ways(rung) {
            let packhorse = machine.packhorse(&[&arguments[..], &["--force", "--sandbox", rung]].concat());
            let packhorse = match rung {
                // Other tests have processes of the same user.
                "chroot" => packhorse.through(&["unshare", "--pid", "--fork", "--mount-proc"]),
                _ => packhorse,
            };
            digests.push((format!("{rung} of root, {how}"), packhorse.run().ok().digest()));
        }
        // The next rung begins without a cache.
        machine.run(&["cache", "prune", "--older-than", "0s"]).ok();
    }
    digests
}

fn on_every_rung_of_a_plain_user(
    machine: &Machine,
    app: &Folder,
    buildpack: &Folder,
    locked: &str,
) -> Digests {
    let user = PlainUser::new();
    std::fs::write(user.path("home/lock"), locked).unwrap();
    let blobs = machine.store().join("blobs");
    // The packages need not be fetched twice.
    for (from, to) in [
        (app.path(), "home/app"),
        (buildpack.path(), "home/buildpack"),
        (blobs, "store"),
    ] {
        succeed(Command::new("cp").arg("-a").arg(from).arg(user.path(to)));
    }
    PlainUser::own(&user.path("home"));
    PlainUser::own(&user.path("store"));
    let mut digests = Vec::new();
    for rung in ["rootless", "outer-proc", "single-id"] {
        let packhorse =
            |arguments: &[&str]| user.runs(machine.packhorse(&[arguments, &["--sandbox", rung]].concat()));
        if rung != "outer-proc" {
            let create = packhorse(&["base", "create", "--lock", "lock"]);
            create.patience(ASSEMBLY).run().ok();
        }
        let arguments = [
            "build",
            "app",
            "--buildpack",
            "buildpack",
            "-o",
            "oci:image",
            "--force",
        ];
        for how in ways(rung) {
            digests.push((
                format!("{rung} of a plain user, {how}"),
                packhorse(&arguments).run().ok().digest(),
            ));
        }
        // What the user's ids made must be theirs to remove.
        packhorse(&["cache", "prune", "--older-than", "0s"]).run().ok();
    }
    digests
}
