//! `packhorse doctor`: what this machine allows, what is missing, and how to get it. Facts are gathered here, with the
//! code that builds use; the rows are made of them by pure functions, one file a subject.

mod authorities;
mod clock;
mod credentials;
mod cure;
mod disk;
mod kernel_limits;
mod proxies;
mod registry;
mod row;
mod rung;
mod sandbox;

use std::fs;

use crate::cli::arguments::about::DoctorArguments;
use crate::cli::config::Config;
use crate::cli::doctor::disk::Disk;
use crate::cli::doctor::kernel_limits::Limits;
use crate::cli::doctor::proxies::Proxies;
use crate::cli::doctor::registry::Answer;
use crate::cli::doctor::row::Report;
use crate::cli::failure::CommandError;
use crate::cli::render;
use crate::cli::tools;
use crate::cli::variable::Variable;
use crate::http::client::Client;
use crate::http::error::HttpError;
use crate::model::reference::ImageReference;
use crate::model::timestamp::Timestamp;
use crate::registry::client::Registry;
use crate::sandbox::inventory;
use crate::sandbox::subordinate_ids;

/// When this program was built, in seconds since 1970.
const BUILT: &str = env!("PACKHORSE_BUILT_AT");

/// Runs the command. Its exit code is 0 when a build is possible, 77 when no sandbox may be used, 1 when another check
/// failed.
pub fn run(arguments: &DoctorArguments, config: &Config) -> Result<u8, CommandError> {
    let image: Option<ImageReference> = arguments.image.as_deref().map(str::parse).transpose()?;
    // First, while there is one thread.
    let facts = sandbox_facts(config)?;
    let (proxies, answer) = tools::block_on(ask(config, &arguments.insecure_registry, image.as_ref()))?;

    let origin = config.rung.origin.to_string();
    let mut rows = facts.rows();
    let (rung_row, rung) = rung::row(&facts.climbed, config.rung.value, &origin, &rows);
    rows.push(rung_row);
    rows.extend(Disk::read(&config.home.value).rows());
    rows.extend(Limits::read().rows());
    let time = answer.as_ref().and_then(|answer| answer.as_ref().ok()?.time);
    let built = Timestamp(BUILT.parse().unwrap_or(0));
    let now = tools::now();
    rows.push(clock::row(now, built, time));
    rows.extend(authorities::rows(&authorities::read(config), now));
    rows.extend(proxies::rows(&proxies));
    let search_path = config.environment.get(Variable::Path.name());
    let has_program =
        |program: &str| credentials::is_on_path(program, search_path.map(std::ffi::OsString::as_os_str));
    let held = tools::credential_sources(config).survey();
    rows.extend(credentials::rows(&held, &has_program));
    if let Some(answer) = &answer {
        rows.push(registry::row(answer.as_ref()));
    }

    let report = Report::of(rung, rows);
    if arguments.json {
        render::json(&report);
    } else {
        render::result(&report.text())?;
    }
    Ok(report.exit_code)
}

fn sandbox_facts(config: &Config) -> Result<sandbox::Facts, CommandError> {
    let surroundings = tools::surroundings(config);
    let (climbed, inventory) = inventory::take(&surroundings, &config.home.value)?;
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let accounts = ["/etc/subuid", "/etc/subgid", "/etc/passwd"].map(text);
    let login_name = subordinate_ids::login_name_of(&accounts[2], surroundings.uid)
        .or_else(|| config.variable(Variable::User))
        .map(str::to_owned);
    Ok(sandbox::Facts {
        surroundings,
        login_name,
        accounts,
        program: fs::read_link("/proc/self/exe").unwrap_or_else(|_| "/usr/local/bin/packhorse".into()),
        climbed,
        inventory,
    })
}

/// Everything that is asked over the network. Settings that no client can be made of are an answer too.
async fn ask(
    config: &Config,
    insecure: &[String],
    image: Option<&ImageReference>,
) -> (Proxies, Option<Result<Answer, HttpError>>) {
    let proxies = proxies::read(config).await;
    let Some(image) = image else {
        return (proxies, None);
    };
    let answer = match Client::new(&tools::http_settings(config, insecure)) {
        Ok(client) => {
            let registry = Registry::new(client, tools::credential_sources(config));
            Ok(registry::ask(&registry, image).await)
        }
        Err(error) => Err(error),
    };
    (proxies, Some(answer))
}
