//! A whole build whose buildpack makes the tree of 500 MB a launch layer: its time and the memory of packhorse.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use crate::builds;
use crate::node_modules::Made;
use crate::options::Options;
use crate::table;
use crate::watched;

const DESCRIPTOR: &str =
    "api = \"0.11\"\n[buildpack]\nid = \"bench/tree\"\nversion = \"1.0.0\"\n[[targets]]\nos = \"linux\"\n";
const DETECT: &str = "#!/bin/sh\ntest -f tree.tar || exit 100\n";
const BUILD: &str = "#!/bin/sh\nset -e\nmkdir \"$1/tree\"\ntar -xf tree.tar -C \"$1/tree\"\nrm tree.tar\nprintf \
                     '[types]\\nlaunch = true\\n' >\"$1/tree.toml\"\n";

/// Part e.
pub(crate) fn measure(options: &Options, place: &Path, made: Made) -> anyhow::Result<()> {
    let (app, buildpack) = (
        options.directory.join("tree-app"),
        options.directory.join("tree-buildpack"),
    );
    fs::create_dir_all(&app)?;
    let status = Command::new("tar")
        .arg("-C")
        .arg(place.join("layers/bench/tree"))
        .arg("-cf")
        .arg(app.join("tree.tar"))
        .arg(".")
        .status()?;
    ensure!(status.success(), "tar ended with {status}");
    builds::write_buildpack(&buildpack, DESCRIPTOR, DETECT, BUILD)?;
    let mut command = Command::new(&options.packhorse);
    command.arg("build").arg(&app).arg("--buildpack").arg(&buildpack);
    command.arg("--home").arg(builds::home(options));
    command
        .arg("-o")
        .arg(format!("oci:{}", options.directory.join("tree-out").display()));
    let watched = watched::run(command.args(["--force", "--progress", "json"]))?;
    let output = &watched.output;
    ensure!(
        output.status.success(),
        "the build failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = format!(
        "a build that unpacks the {:.0} MB tree into a launch layer and exports it to a layout",
        table::megabytes(made.bytes)
    );
    table::heading('e', &text);
    let peak = table::megabytes(watched.peak);
    table::line("peak memory of packhorse (VmHWM)", &format!("{peak:9.1} MB"));
    table::line(
        "the whole build",
        &format!("{:9.2} s", watched.elapsed.as_secs_f64()),
    );
    for (phase, seconds) in builds::phases(&output.stdout) {
        table::line(&format!("  phase {phase}"), &format!("{seconds:9.2} s"));
    }
    Ok(())
}
