//! The buildpack for apps with a Procfile: what `bin/detect` and `bin/build` do, in order.

mod procfile;
mod procfile_file;
mod launch;

mod errors;
mod output;

use crate::launch::launch;
use crate::procfile::ParseProcfileError;
use crate::procfile::parse_procfile;
use crate::procfile_file::PROCFILE;
use crate::procfile_file::ReadProcfileError;
use crate::procfile_file::read_procfile;
use libcnb::Buildpack;
use libcnb::build::BuildContext;
use libcnb::build::BuildResult;
use libcnb::build::BuildResultBuilder;
use libcnb::buildpack_main;
use libcnb::detect::DetectContext;
use libcnb::detect::DetectResult;
use libcnb::detect::DetectResultBuilder;
use libcnb::generic::GenericMetadata;
use libcnb::generic::GenericPlatform;

/// The buildpack.
struct ProcfileBuildpack;

impl Buildpack for ProcfileBuildpack {
    type Platform = GenericPlatform;
    type Metadata = GenericMetadata;
    type Error = ProcfileBuildpackError;

    fn detect(&self, context: DetectContext<Self>) -> libcnb::Result<DetectResult, Self::Error> {
        if context.app_dir.join(PROCFILE).is_file() {
            return DetectResultBuilder::pass().build();
        }
        output::line("no Procfile in the app's folder");
        DetectResultBuilder::fail().build()
    }

    fn build(&self, context: BuildContext<Self>) -> libcnb::Result<BuildResult, Self::Error> {
        output::header("Reading the Procfile");
        let text = read_procfile(&context.app_dir).map_err(ProcfileBuildpackError::Read)?;
        let procfile = parse_procfile(&text).map_err(ProcfileBuildpackError::Parse)?;
        for warning in procfile.warnings() {
            output::warning(&warning);
        }
        for process in procfile.processes() {
            output::line(&format!("{}: {}", process.name, process.command));
        }
        BuildResultBuilder::new().launch(launch(&procfile)?).build()
    }

    fn on_error(&self, error: libcnb::Error<Self::Error>) {
        output::error(&errors::message(&error));
    }
}

/// The ways in which the buildpack fails, one for each step.
#[derive(Debug, thiserror::Error)]
enum ProcfileBuildpackError {
    #[error(transparent)]
    Read(ReadProcfileError),
    #[error(transparent)]
    Parse(ParseProcfileError),
}

impl From<ProcfileBuildpackError> for libcnb::Error<ProcfileBuildpackError> {
    fn from(error: ProcfileBuildpackError) -> Self {
        Self::BuildpackError(error)
    }
}

buildpack_main!(ProcfileBuildpack);
