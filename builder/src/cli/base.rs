//! `packhorse base`: makes the built-in Debian base, or shows what it is made of.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::base::ensure::Base;
use crate::base::ensure::BaseRequest;
use crate::base::ensure::STALE_AFTER_DAYS;
use crate::base::ensure::current_lock;
use crate::base::ensure::ensure;
use crate::base::ensure::put_in_force;
use crate::base::ensure::update;
use crate::base::flavour::Flavour;
use crate::base::layer;
use crate::base::lock::Lock;
use crate::base::lock::LockedPackage;
use crate::cli::arguments::upkeep::BaseCommand;
use crate::cli::config::Config;
use crate::cli::failure::CommandError;
use crate::cli::interrupt;
use crate::cli::render;
use crate::cli::render::Manner;
use crate::cli::render::Renderer;
use crate::cli::tools;
use crate::cli::tools::Toolbox;
use crate::cli::words;
use crate::error::BuildError;
use crate::model::digest::Digest;
use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::model::timestamp::Timestamp;
use crate::phases::detect::DetectError;
use crate::phases::handover::ARCHITECTURE;

/// The most bytes of a lock file.
const LOCK_BYTES_MAX: u64 = 4 << 20;

/// There is nothing to inspect yet.
#[derive(Debug, thiserror::Error)]
#[error("no base was made on this machine yet")]
pub struct NoBase;

impl Failure for NoBase {
    fn facts(&self) -> Facts {
        Facts::user("base_not_made")
    }
}

/// Runs the command.
pub fn run(command: BaseCommand, config: &Config, manner: Manner) -> Result<u8, CommandError> {
    let toolbox = Toolbox::open(config, &[], tools::watcher(Renderer::new(manner)))?;
    match command {
        BaseCommand::Create { lock } => create(lock.as_deref(), IfThere::Keep, &toolbox, manner),
        BaseCommand::Update => create(None, IfThere::Renew, &toolbox, manner),
        BaseCommand::Inspect { lock, json } => inspect(&toolbox, lock, json),
    }
}

/// What happens to a lock that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfThere {
    /// The base is made of its packages.
    Keep,
    /// The archive's newest packages take its place.
    Renew,
}

fn create(
    lock: Option<&Path>,
    if_there: IfThere,
    toolbox: &Toolbox,
    manner: Manner,
) -> Result<u8, CommandError> {
    let lock = lock.map(read_lock).transpose()?;
    let bases = tools::block_on(interrupt::or_ended(
        &toolbox.cancel,
        both_flavours(lock.as_ref(), if_there, toolbox),
    ))??;
    if let Some(lock) = &lock {
        put_in_force(toolbox.store.root(), lock)?;
    }
    let [run, build] = &bases;
    match manner {
        Manner::Quiet => render::result(&run.lock_digest.to_string())?,
        Manner::Json => render::json(&serde_json::json!({
            "event": "succeeded", "digest": run.lock_digest, "run": run.root, "build": build.root,
        })),
        Manner::Plain | Manner::Terminal => {
            let layer = run.layer.as_ref().map_or_else(String::new, |layer| {
                format!(
                    "layer  {} of the run image ({})\n",
                    layer.diff_id,
                    words::bytes(layer.blob.size)
                )
            });
            render::result(&format!("{layer}digest {}", run.lock_digest))?;
        }
    }
    Ok(0)
}

/// The run flavour first: it is smaller, and what it fetches the other needs too.
async fn both_flavours(
    lock: Option<&Lock>,
    if_there: IfThere,
    toolbox: &Toolbox,
) -> Result<[Base; 2], BuildError> {
    // No blob that is fetched here is evicted before the base counts on it.
    let _blobs_in_use = toolbox
        .store
        .blobs()
        .and_then(|blobs| blobs.use_all())
        .map_err(DetectError::from)?;
    if if_there == IfThere::Renew {
        let request = request(Flavour::Run, None, toolbox)?;
        let renewed = update(&request, &toolbox.http, &toolbox.watcher, &toolbox.cancel).await;
        renewed.map_err(DetectError::from)?;
    }
    let run = one_flavour(Flavour::Run, lock, toolbox).await?;
    let build = one_flavour(Flavour::Build, lock, toolbox).await?;
    Ok([run, build])
}

async fn one_flavour(flavour: Flavour, lock: Option<&Lock>, toolbox: &Toolbox) -> Result<Base, DetectError> {
    let request = request(flavour, lock, toolbox)?;
    Ok(ensure(request, &toolbox.http, &toolbox.watcher, &toolbox.cancel).await?)
}

fn request(flavour: Flavour, lock: Option<&Lock>, toolbox: &Toolbox) -> Result<BaseRequest, DetectError> {
    let blobs = toolbox.store.blobs()?;
    Ok(BaseRequest {
        flavour,
        architecture: ARCHITECTURE.to_owned(),
        data_directory: toolbox.store.root().to_owned(),
        mirrors: toolbox.builder.mirrors.clone(),
        lock: lock.cloned(),
        now: toolbox.builder.now,
        owners: toolbox.builder.ground.owners(),
        begin_layer: (flavour == Flavour::Run).then(|| layer::begin(blobs)),
    })
}

fn read_lock(path: &Path) -> Result<Lock, CommandError> {
    let unreadable =
        |why: String| CommandError::usage(format!("cannot read the lock file `{}`: {why}", path.display()));
    let size = fs::metadata(path)
        .map_err(|error| unreadable(error.to_string()))?
        .len();
    if size > LOCK_BYTES_MAX {
        return Err(unreadable(format!(
            "it is longer than {}",
            words::bytes(LOCK_BYTES_MAX)
        )));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    Ok(Lock::parse(&text)?)
}

fn inspect(toolbox: &Toolbox, lock_itself: bool, as_json: bool) -> Result<u8, CommandError> {
    let Some(lock) = current_lock(toolbox.store.root(), ARCHITECTURE)? else {
        return Err(NoBase.into());
    };
    if lock_itself {
        render::result(&lock.to_text())?;
        return Ok(0);
    }
    let summary = Summary::of(&lock, toolbox.builder.now);
    if as_json {
        render::json(&summary);
    } else {
        render::result(&summary.text())?;
    }
    Ok(0)
}

/// What a base is made of. The keys of its JSON are stable.
#[derive(Debug, Serialize)]
struct Summary {
    digest: Digest,
    suite: String,
    architecture: String,
    /// The newest date of the archive's suites, in RFC 3339.
    date: String,
    age_days: i64,
    is_old: bool,
    flavours: Vec<FlavourSummary>,
    packages: Vec<LockedPackage>,
}

#[derive(Debug, Serialize)]
struct FlavourSummary {
    name: Flavour,
    packages: usize,
    /// Bytes of its packages as they are fetched.
    size: u64,
}

impl Summary {
    fn of(lock: &Lock, now: Timestamp) -> Self {
        let age_days = (now.0 - lock.date.0).max(0) / 86_400;
        let flavour = |name: Flavour| {
            let packages = lock.of_flavour(name);
            FlavourSummary {
                name,
                packages: packages.len(),
                size: packages.iter().map(|package| package.size).sum(),
            }
        };
        Self {
            digest: lock.digest(),
            suite: lock.suite.clone(),
            architecture: lock.architecture.clone(),
            date: lock.date.to_string(),
            age_days,
            is_old: age_days > STALE_AFTER_DAYS,
            flavours: Flavour::ALL.map(flavour).into(),
            packages: lock.packages.clone(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("base     Debian {} for {}\n", self.suite, self.architecture);
        let days = if self.age_days == 1 { "day" } else { "days" };
        line(&mut text, &format!("digest   {}", self.digest));
        line(
            &mut text,
            &format!("archive  as of {} ({} {days} old)", self.date, self.age_days),
        );
        for flavour in &self.flavours {
            line(
                &mut text,
                &format!(
                    "{:<8} {} packages, {}",
                    flavour.name,
                    flavour.packages,
                    words::bytes(flavour.size)
                ),
            );
        }
        line(&mut text, "packages");
        let name_width = self
            .packages
            .iter()
            .map(|package| package.name.len())
            .max()
            .unwrap_or(0);
        let version_width = self
            .packages
            .iter()
            .map(|package| package.version.len())
            .max()
            .unwrap_or(0);
        for package in &self.packages {
            let flavours: Vec<&str> = package.flavours.iter().map(|flavour| flavour.name()).collect();
            line(
                &mut text,
                &format!(
                    "  {:<name_width$}  {:<version_width$}  {:>9}  {}",
                    package.name,
                    package.version,
                    words::bytes(package.size),
                    flavours.join(", "),
                ),
            );
        }
        if self.is_old {
            line(
                &mut text,
                &format!(
                    "note: the base is older than {STALE_AFTER_DAYS} days, and fixes of Debian are missing from it"
                ),
            );
        }
        text
    }
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lock::Archive;

    fn lock() -> Lock {
        let package = |name: &str, size: u64, flavours: &[Flavour]| LockedPackage {
            name: name.to_owned(),
            version: "1:2.3-4".to_owned(),
            architecture: "amd64".to_owned(),
            archive: Archive::Main,
            filename: format!("pool/main/{name}.deb"),
            size,
            digest: Digest::of(name.as_bytes()),
            flavours: flavours.to_vec(),
        };
        let packages = vec![
            package("gcc", 21_000_000, &[Flavour::Build]),
            package("bash", 1_500_000, &Flavour::ALL),
        ];
        Lock::new("trixie", "amd64", Timestamp(1_790_000_000), packages)
    }

    #[test]
    fn a_base_reads_well() {
        let days = |days: i64| Timestamp(1_790_000_000 + days * 86_400 + 5);
        insta::assert_snapshot!(Summary::of(&lock(), days(12)).text());
        assert!(!Summary::of(&lock(), days(30)).text().contains("note:"));
        assert!(
            Summary::of(&lock(), days(31))
                .text()
                .contains("note: the base is older than 30 days")
        );
    }

    #[test]
    fn the_json_has_stable_keys() {
        insta::assert_snapshot!(
            serde_json::to_string_pretty(&Summary::of(&lock(), Timestamp(1_790_000_000))).unwrap()
        );
    }

    #[test]
    fn a_lock_file_that_is_missing_or_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.lock");
        assert!(read_lock(&path).unwrap_err().message.contains("base.lock"));
        fs::write(&path, lock().to_text()).unwrap();
        assert_eq!(read_lock(&path).unwrap(), lock());
        fs::write(&path, "format = 9").unwrap();
        assert_eq!(read_lock(&path).unwrap_err().facts.code, "base_lock_invalid");
    }
}
