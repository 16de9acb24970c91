//! Who named a reference: it decides the credentials and the network policy under which it is fetched.

use serde::Deserialize;
use serde::Serialize;

/// Who named a builder, buildpack, image, URL, submodule or mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedBy {
    /// The configuration of the machine or service.
    Operator,
    /// The person who started the build, by a flag or an argument.
    User,
    /// The source itself; fetched under the job's network policy, without credentials.
    Source,
}
