//! What `run` and `inspect` take: the commands on finished images.
#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "the brackets are those of a help text"
)]

use std::path::PathBuf;

use clap::Args;

use crate::cli::arguments::network::NetworkArguments;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// A name in the local store, or oci:DIRECTORY[:NAME]
    pub image: String,

    /// Publish a port of the image on this machine's loopback: [LOCAL:]PORT
    #[arg(long, short, value_name = "[LOCAL:]PORT")]
    pub publish: Vec<String>,

    /// A variable for the process: NAME=VALUE, or NAME alone for the value it has here
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,

    /// A file of variables, one a line as with --env, which is stronger
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,

    /// Show a folder or file of this machine in the image, read-only unless it says `rw`: an absolute path or ./PATH,
    /// which must exist
    #[arg(long, short, value_name = "SOURCE:TARGET[:ro|rw]")]
    pub volume: Vec<String>,

    /// Start this program in place of the image's entrypoint and default arguments
    #[arg(long, value_name = "PROGRAM", conflicts_with = "process")]
    pub entrypoint: Option<String>,

    /// Pass standard input on; where it and standard output are terminals, as -it
    #[arg(long, short)]
    pub interactive: bool,

    /// Give the process a terminal of its own
    #[arg(long, short)]
    pub tty: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment would become the help's heading")]
    pub network: NetworkArguments,

    /// The process type to start [default: the image's own]
    #[arg(long, value_name = "TYPE")]
    pub process: Option<String>,

    /// Arguments for the image's entrypoint
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// A name in the local store, oci:DIRECTORY[:NAME], or REGISTRY/APP:TAG
    pub image: String,

    /// Print everything as JSON
    #[arg(long)]
    pub json: bool,

    /// A registry that may be spoken to without TLS (loopback always may)
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
}
