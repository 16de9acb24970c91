//! Resolves names in Rust: the C library's resolver loads shared libraries, which crashes in a static program.

use hickory_resolver::TokioResolver;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::ResolvedSocketAddrs;
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::NextTimeout;

const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

/// No more than ureq has room for.
const ADDRESSES_MAX: usize = 16;

/// Reads `/etc/hosts` and asks the name servers of `/etc/resolv.conf`.
#[derive(Debug)]
pub(crate) struct HickoryResolver;

impl Resolver for HickoryResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let default_port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(default_port);
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => look_up(host, LOOKUP_TIMEOUT.min(*timeout.after))?,
        };
        let mut resolved = self.empty();
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            resolved.push(SocketAddr::new(address, port));
        }
        Ok(resolved)
    }
}

fn look_up(host: &str, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let lookup = async {
        let resolver = TokioResolver::builder_tokio()?.build()?;
        resolver.lookup_ip(host).await
    };
    let found = runtime.block_on(async { tokio::time::timeout(timeout, lookup).await });
    let why = match found {
        Ok(Ok(found)) => {
            let addresses: Vec<IpAddr> = found.iter().collect();
            if !addresses.is_empty() {
                return Ok(addresses);
            }
            "it has no address".to_string()
        }
        Ok(Err(error)) if error.is_no_records_found() => "there is no such name".to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} seconds", timeout.as_secs()),
    };
    Err(io::Error::other(format!(
        "cannot resolve the name `{host}`: {why}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str) -> Result<Vec<SocketAddr>, ureq::Error> {
        let timeout = NextTimeout {
            after: ureq::unversioned::transport::time::Duration::Exact(Duration::from_secs(5)),
            reason: ureq::Timeout::Resolve,
            ..NextTimeout::default()
        };
        HickoryResolver
            .resolve(&url.parse().unwrap(), &Config::default(), timeout)
            .map(|found| found.to_vec())
    }

    #[test]
    fn addresses_need_no_name_server() {
        for (url, expected) in [
            ("https://127.0.0.1/a", "127.0.0.1:443"),
            ("http://127.0.0.1/a", "127.0.0.1:80"),
            ("http://[::1]:4873/", "[::1]:4873"),
        ] {
            assert_eq!(resolve(url).unwrap(), [expected.parse().unwrap()], "{url}");
        }
    }

    #[test]
    fn names_of_etc_hosts_and_unknown_names() {
        let addresses = resolve("http://localhost:4873/").unwrap();
        assert!(
            addresses.contains(&"127.0.0.1:4873".parse().unwrap()),
            "{addresses:?}"
        );
        let error = resolve("https://no-such-host.invalid/").unwrap_err().to_string();
        assert!(
            error.contains("cannot resolve the name `no-such-host.invalid`: "),
            "{error}"
        );
    }
}
