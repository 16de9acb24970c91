//! What `doctor`, `config`, `completions` and `man` take: the commands about packhorse itself and its machine.
#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "the brackets are those of a help text"
)]

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Ask this registry too whether an image may be pushed there: REGISTRY/APP[:TAG]
    pub image: Option<String>,

    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,

    /// A registry that may be spoken to without TLS (loopback always may)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// Write a page for each command into this folder, instead of the first page to standard output
    #[arg(long, value_name = "DIRECTORY")]
    pub output_directory: Option<PathBuf>,
}
