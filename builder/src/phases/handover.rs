//! What one phase hands to the next, and the tools that they share. Only a phase can make a handed value.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::base::ensure::Base;
use crate::base::mirror::Mirrors;
use crate::buildpack::build::Built;
use crate::buildpack::detect::Detected;
use crate::buildpack::failed_step::Visitor;
use crate::buildpack::setting::Setting;
use crate::events::Cancel;
use crate::events::Watcher;
use crate::git::repository::Git;
use crate::git::repository::Resolved;
use crate::http::client::Client;
use crate::model::build_key::BuildKey;
use crate::model::build_key::KeyInputs;
use crate::model::descriptor::Descriptor;
use crate::model::descriptor::LayerDescriptor;
use crate::model::policy::NetworkPolicy;
use crate::model::previous_image::PreviousImage;
use crate::model::receipt::LayerOutcome;
use crate::model::receipt::Receipt;
use crate::model::secret::SearchWidth;
use crate::model::timestamp::Timestamp;
use crate::network::gateway::Gateway;
use crate::oci::layer::LayerTar;
use crate::registry::client::Registry;
use crate::sandbox::ladder::Ground;
use crate::sandbox::ladder::Missing;
use crate::sandbox::native::NativeJob;
use crate::secrets::search::LayerSearch;
use crate::secrets::search::Search;
use crate::store::Store;
use crate::store::blobs::BlobsInUse;
use crate::store::caches::Cache;
use crate::store::caches::Pending;
use crate::store::caches::State;
use crate::store::caches::record::CachedLayer;

/// The trust scope of what the command line builds.
pub(super) const SCOPE: &str = "default";
/// The architecture that is built for, in the words of Debian and of the OCI image spec.
pub const ARCHITECTURE: &str = "amd64";

/// The job's user and group: what the base says of `cnb`.
pub(super) const USER_ID: u32 = 1000;

/// What the phases work with: the owners of the outside things, made once by the caller.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// Fetches git sources.
    pub git: &'a Git,
    /// The HTTP client.
    pub http: &'a Client,
    /// Speaks to registries.
    pub registry: &'a Registry,
    /// What is kept on this machine.
    pub store: &'a Store,
    /// The builder's settings.
    pub builder: &'a BuilderSettings,
    /// Who watches.
    pub watcher: &'a Watcher,
    /// Set when the build is to end.
    pub cancel: &'a Cancel,
    /// Who looks at a step that fails.
    pub visitor: Option<&'a Arc<dyn Visitor>>,
}

impl Tools<'_> {
    /// When the command began.
    pub(super) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.builder.now.0.try_into().unwrap_or(0))
    }
}

/// What the machine and its operator decide about builds.
#[derive(Debug, Clone)]
pub struct BuilderSettings {
    /// Where the base's packages come from.
    pub mirrors: Mirrors,
    /// What jobs stand on on this machine.
    pub ground: Ground,
    /// What keeps jobs from standing higher.
    pub missing: Vec<Missing>,
    /// The certificates of authorities that jobs trust beside their image's own.
    pub ca_file: Option<PathBuf>,
    /// Where build steps may connect to.
    pub network: NetworkPolicy,
    /// Proxies that the worker dials through.
    pub proxy: crate::http::dialler::proxy::UpstreamProxy,
    /// The time, for the archive's expiry and the base's age.
    pub now: Timestamp,
}

/// What the first phase comes to.
#[derive(Debug)]
pub enum Fetched {
    /// Nothing changed since a build whose image the outputs still hold.
    Unchanged(Receipt),
    /// There is work to do.
    Changed(Box<Source>),
}

/// A source that is known, outputs that may be written, and what the last image offers.
#[derive(Debug)]
pub struct Source {
    pub(super) origin: Origin,
    pub(super) identity: SourceIdentity,
    pub(super) app: String,
    pub(super) key: KeyInputs,
    pub(super) previous: Option<PreviousImage>,
    pub(super) guard: Guard,
}

/// What sees to it that no secret leaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    /// What is looked for; none in a build without secrets.
    pub(super) search: Option<Arc<Search>>,
    /// Where.
    pub(super) width: SearchWidth,
}

impl Guard {
    /// Looks at everything that is written to `tar` from now on.
    pub(super) fn watch(&self, tar: &mut LayerTar<'_>) {
        if let Some(search) = &self.search {
            tar.inspect(Box::new(LayerSearch::new(Arc::clone(search))));
        }
    }
}

/// Where the files come from.
#[derive(Debug)]
pub(super) enum Origin {
    Directory {
        /// The folder itself.
        path: PathBuf,
        /// What in it is no part of the source, relative to it.
        leave_out: Vec<PathBuf>,
    },
    Git(Box<Resolved>),
}

/// What labels say of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SourceIdentity {
    /// `https://host/path`, without user, password or query.
    pub(super) remote: Option<String>,
    /// The commit.
    pub(super) revision: Option<String>,
    /// The branch or tag that was asked for.
    pub(super) name: Option<String>,
}

/// The chosen buildpacks, and the sandbox in which they were chosen.
pub struct Plan {
    pub(super) source: Source,
    pub(super) detected: Detected,
    pub(super) setting: Setting,
    pub(super) sandbox: Sandbox,
}

/// The two flavours of the base.
#[derive(Debug, Clone)]
pub(super) struct Bases {
    pub(super) build: Base,
    pub(super) run: Base,
    /// The layer of `run`.
    pub(super) layer: LayerDescriptor,
}

/// A running job with all that belongs to it.
pub(super) struct Sandbox {
    pub(super) gateway: Option<Gateway>,
    /// No blob is evicted while the build counts on it.
    pub(super) _blobs_in_use: BlobsInUse,
    pub(super) job: NativeJob,
    pub(super) cache: Cache,
    pub(super) state: Option<State>,
    pub(super) pending: Pending,
    pub(super) bases: Bases,
    pub(super) rung: String,
    /// Whether what was copied is what was hashed; else the build must not answer for its key.
    pub(super) is_settled: bool,
}

/// The last build's layers are in their places.
pub struct Restored {
    pub(super) plan: Plan,
}

/// All buildpacks have run.
pub struct Finished {
    pub(super) plan: Plan,
    pub(super) built: Built,
    pub(super) early: Vec<EarlyLayer>,
}

/// A layer that was written when its buildpack had exited, while the next one ran.
#[derive(Debug, Clone)]
pub(super) struct EarlyLayer {
    pub(super) buildpack: String,
    pub(super) name: String,
    pub(super) descriptor: LayerDescriptor,
    /// Entries that changed later were changed by another buildpack.
    pub(super) exited: FileTime,
}

/// A time of change as a file system gives it: seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileTime(pub(super) i64, pub(super) i64);

/// A whole image: its blobs are in the store.
#[derive(Debug)]
pub struct Image {
    pub(super) key: BuildKey,
    pub(super) manifest: Vec<u8>,
    pub(super) descriptor: Descriptor,
    pub(super) config: Descriptor,
    pub(super) architecture: String,
    pub(super) layers: Vec<ImageLayer>,
    pub(super) buildpacks: Vec<String>,
    pub(super) rung: String,
    pub(super) is_settled: bool,
    pub(super) next: Option<NextState>,
    /// No blob is evicted until the image is where it goes.
    pub(super) _blobs_in_use: BlobsInUse,
}

/// The cache's next state, which holds once the image is published. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(super) struct NextState {
    pub(super) cache: Cache,
    pub(super) pending: Pending,
    pub(super) layers: Vec<CachedLayer>,
}

/// One layer of an image.
#[derive(Debug, Clone)]
pub(super) struct ImageLayer {
    pub(super) name: String,
    pub(super) outcome: LayerOutcome,
    pub(super) descriptor: LayerDescriptor,
}
