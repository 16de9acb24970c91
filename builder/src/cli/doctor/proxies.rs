//! The upstream proxies: which are set, by whom, and whether they take a connection.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::cli::config::Config;
use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::cli::failure::CommandError;
use crate::cli::setting::Setting;
use crate::cli::tools;
use crate::http::dialler::Dialler;
use crate::http::dialler::proxy::UpstreamProxy;
use crate::http::dialler::resolver::SystemResolver;
use crate::http::redact::redact;

/// How long a proxy may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// One proxy.
#[derive(Debug)]
pub(super) struct Proxy {
    /// Without its password.
    url: String,
    /// Who sets it.
    origin: String,
    /// Why it does not answer, if it does not.
    fault: Option<String>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Proxies {
    /// For http and for https; none: not set.
    proxies: Vec<(&'static str, Proxy)>,
    /// Hosts that are reached directly.
    direct: Option<Setting<String>>,
}

/// Connects to each proxy that is set.
pub(super) async fn read(config: &Config) -> Proxies {
    let parsed = tools::upstream_proxy(config);
    let dialler = Dialler::new(Arc::new(SystemResolver::default()), UpstreamProxy::default());
    let mut proxies = Vec::new();
    for (name, setting) in [
        ("http proxy", config.http_proxy()),
        ("https proxy", config.https_proxy()),
    ] {
        let Some(Setting { value, origin }) = setting else {
            continue;
        };
        let fault = fault(name, parsed.as_ref(), &dialler).await;
        let proxy = Proxy {
            url: redact(&value),
            origin: origin.to_string(),
            fault,
        };
        proxies.push((name, proxy));
    }
    Proxies {
        proxies,
        direct: config.no_proxy(),
    }
}

async fn fault(
    name: &str,
    parsed: Result<&UpstreamProxy, &CommandError>,
    dialler: &Dialler,
) -> Option<String> {
    let url: Option<&Url> = match parsed {
        // It names the variable, and nothing of the value.
        Err(error) => return Some(error.message.clone()),
        Ok(proxy) if name == "http proxy" => proxy.http.as_ref(),
        Ok(proxy) => proxy.https.as_ref(),
    };
    let reached = tokio::time::timeout(ANSWER_TIMEOUT, dialler.reach_proxy(url?)).await;
    match reached {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!(
            "no connection within {} seconds",
            ANSWER_TIMEOUT.as_secs()
        )),
    }
}

/// A row for each proxy that is set, and one for the exceptions; one if nothing is set.
pub(super) fn rows(found: &Proxies) -> Vec<Row> {
    if found.proxies.is_empty() && found.direct.is_none() {
        return vec![Row::new(
            "proxy",
            State::Info,
            "none is set: everything is reached directly",
        )];
    }
    let mut rows: Vec<Row> = found
        .proxies
        .iter()
        .map(|(name, proxy)| row(name, proxy))
        .collect();
    if let Some(direct) = &found.direct {
        let hosts = format!("reached directly: {} ({})", direct.value, direct.origin);
        rows.push(Row::new("no proxy", State::Info, hosts));
    }
    rows
}

fn row(name: &'static str, proxy: &Proxy) -> Row {
    let place = format!("{} ({})", proxy.url, proxy.origin);
    match &proxy.fault {
        None => Row::new(name, State::Ok, format!("{place} takes connections")),
        Some(fault) => Row::new(name, State::Fail, format!("{place}: {fault}")).cure(
            "a proxy that answers",
            "# correct http_proxy and https_proxy, or `[network]` in packhorse.toml; unset them where none is needed",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::setting::Origin;

    fn proxy(fault: Option<&str>) -> Proxies {
        let proxy = Proxy {
            url: "http://proxy.example:3128/".to_owned(),
            origin: "environment variable https_proxy".to_owned(),
            fault: fault.map(str::to_owned),
        };
        Proxies {
            proxies: vec![("https proxy", proxy)],
            direct: Some(Setting {
                value: "localhost".to_owned(),
                origin: Origin::Default,
            }),
        }
    }

    #[test]
    fn each_state_of_a_proxy_has_its_row() {
        let states = |found: &Proxies| rows(found).iter().map(|row| row.state).collect::<Vec<_>>();
        assert_eq!(states(&proxy(None)), [State::Ok, State::Info]);
        assert_eq!(states(&proxy(Some("refused"))), [State::Fail, State::Info]);
        let nothing = Proxies {
            proxies: Vec::new(),
            direct: None,
        };
        assert_eq!(states(&nothing), [State::Info]);
    }

    #[tokio::test]
    async fn a_proxy_is_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap().port();
        let closed = {
            let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            gone.local_addr().unwrap().port()
        };
        let environment = [
            ("HOME", "/h".to_owned()),
            ("http_proxy", format!("http://me:s3cret@127.0.0.1:{open}")),
            ("https_proxy", format!("me:s3cret@127.0.0.1:{closed}")),
        ];
        let environment = environment
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let config = Config::from_environment(None, environment).unwrap();
        let rows = rows(&read(&config).await);
        assert_eq!(
            (rows[0].state, rows[1].state),
            (State::Ok, State::Fail),
            "{rows:?}"
        );
        assert!(!format!("{rows:?}").contains("s3cret"), "{rows:?}");
    }
}
