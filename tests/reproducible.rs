//! The same input gives the same digest: another home, path, user, time.

use crate::support::app::Folder;
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
fn the_same_digest_as_root_and_as_a_plain_user() {
    if !is_root() {
        left_out("only root can be two users");
        return;
    }
    let buildpack = Folder::scripts("varied", "exit 0", BUILD);
    let machine = Machine::new();
    let first = app();
    let digest = build(&machine, &first, &buildpack).digest();

    let user = PlainUser::new();
    let lock = machine.run(&["base", "inspect", "--lock"]).ok().stdout;
    std::fs::write(user.path("home/lock"), lock).unwrap();
    for (from, to) in [(first.path(), "home/app"), (buildpack.path(), "home/buildpack")] {
        succeed(
            std::process::Command::new("cp")
                .arg("-a")
                .arg(from)
                .arg(user.path(to)),
        );
    }
    // The packages need not be fetched twice.
    succeed(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(machine.store().join("blobs"))
            .arg(user.path("store")),
    );
    PlainUser::own(&user.path("home"));
    PlainUser::own(&user.path("store"));
    let create = user.runs(machine.packhorse(&["base", "create", "--lock", "lock"]));
    create.patience(std::time::Duration::from_secs(900)).run().ok();
    let run = user
        .runs(machine.packhorse(&["build", "app", "--buildpack", "buildpack", "-o", "oci:image"]))
        .run()
        .ok();
    assert_eq!(run.digest(), digest);
    let again = user
        .runs(machine.packhorse(&[
            "build",
            "app",
            "--buildpack",
            "buildpack",
            "-o",
            "oci:image",
            "--force",
        ]))
        .run()
        .ok();
    assert_eq!(again.digest(), digest, "with its own cache");
    // What the user's ids made must be theirs to remove.
    let prune = user.runs(machine.packhorse(&["cache", "prune", "--older-than", "0s"]));
    prune.run().ok();
}
