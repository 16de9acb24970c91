//! What `build` and `run` take about the network.

use clap::Args;

use crate::model::policy::choice::NetworkChoice;

/// Where a job may connect to.
#[derive(Debug, Clone, Default, Args)]
pub struct NetworkArguments {
    /// Where the job may connect to: `none`, `public`, `host` (this machine's own network, without any rule), or a list:
    /// `allow:NAME[:PORT],*.DOMAIN,ADDRESS` [default: public]
    #[arg(
        long,
        env = "PACKHORSE_NETWORK",
        value_name = "POLICY",
        hide_env_values = true
    )]
    pub network: Option<NetworkChoice>,

    /// Connect to nothing but the mirrors and trusted hosts of packhorse.toml
    #[arg(long)]
    pub offline: bool,
}
