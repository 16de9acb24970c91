//! Which proxy a request goes through, from the variables that every other program reads.

use libcnb::Env;
use ureq::Proxy;

/// A proxy variable whose value is no proxy that can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable `{variable}` does not hold an http or https proxy URL")]
pub(crate) struct InvalidProxyError {
    pub(crate) variable: &'static str,
}

/// The proxy for `url`, or `None` to go straight. Hosts in `no_proxy` are left out at each redirect too.
pub(crate) fn proxy_for(url: &str, env: &Env) -> Result<Option<Proxy>, InvalidProxyError> {
    let variables = if url.starts_with("https:") {
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    };
    let Some((variable, value)) = first_set(&variables, env) else {
        return Ok(None);
    };
    let invalid = || InvalidProxyError { variable };
    let parsed = Proxy::new(&value).map_err(|_| invalid())?;
    if !matches!(
        parsed.protocol(),
        ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https
    ) {
        return Err(invalid());
    }
    let mut builder = Proxy::builder(parsed.protocol())
        .host(parsed.host())
        .port(parsed.port());
    if let Some(user) = parsed.username() {
        builder = builder.username(user);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    let exceptions = first_set(&["no_proxy", "NO_PROXY"], env)
        .map(|(_, value)| value)
        .unwrap_or_default();
    for pattern in no_proxy_patterns(&exceptions) {
        builder = builder.no_proxy(&pattern);
    }
    builder.build().map(Some).map_err(|_| invalid())
}

fn first_set(variables: &[&'static str], env: &Env) -> Option<(&'static str, String)> {
    variables
        .iter()
        .filter_map(|variable| Some((*variable, env.get_string_lossy(variable)?)))
        .find(|(_, value)| !value.is_empty())
}

/// The patterns of ureq for a `no_proxy` list: a domain stands for its subdomains too, and a port is passed over.
fn no_proxy_patterns(list: &str) -> Vec<String> {
    list.split([',', ' '])
        .map(|entry| {
            entry
                .rsplit_once(':')
                .map_or(entry, |(host, port)| if is_port(port) { host } else { entry })
        })
        .filter(|entry| !entry.is_empty())
        .flat_map(|entry| {
            if entry == "*" {
                return vec!["*".to_string()];
            }
            let domain = entry.trim_start_matches('*').trim_start_matches('.');
            vec![domain.to_string(), format!(".{domain}")]
        })
        .collect()
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[(&str, &str)]) -> Env {
        let mut env = Env::new();
        for (name, value) in variables {
            env.insert(name, value);
        }
        env
    }

    #[test]
    fn the_scheme_of_the_request_chooses() {
        let both = env(&[
            ("https_proxy", "http://a.example:1"),
            ("HTTP_PROXY", "b.example:2"),
        ]);
        for (url, variables, expected) in [
            ("https://r.example/x", &both, Some(("a.example", 1))),
            ("http://r.example/x", &both, Some(("b.example", 2))),
            (
                "http://r.example/x",
                &env(&[("https_proxy", "http://a.example:1")]),
                None,
            ),
            (
                "https://r.example/x",
                &env(&[("https_proxy", ""), ("ALL_PROXY", "http://c.example:3")]),
                Some(("c.example", 3)),
            ),
            ("https://r.example/x", &env(&[]), None),
        ] {
            let proxy = proxy_for(url, variables).unwrap();
            assert_eq!(
                proxy.as_ref().map(|proxy| (proxy.host(), proxy.port())),
                expected,
                "{url}"
            );
        }
    }

    #[test]
    fn exceptions_are_hosts_domains_and_everything() {
        for (list, url, straight) in [
            ("r.example", "https://r.example/x", true),
            ("example", "https://r.example/x", true),
            (".example", "https://r.example/x", true),
            ("*.example", "https://r.example/x", true),
            ("other, r.example:443", "https://r.example/x", true),
            ("*", "https://r.example/x", true),
            ("ample", "https://r.example/x", false),
            ("", "https://r.example/x", false),
        ] {
            let variables = env(&[("https_proxy", "http://a.example:1"), ("no_proxy", list)]);
            let proxy = proxy_for(url, &variables).unwrap().unwrap();
            assert_eq!(proxy.is_no_proxy(&url.parse().unwrap()), straight, "{list:?}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_named_and_not_shown() {
        for value in ["socks5://me:secret@a.example:1", "gopher://a.example", "http://"] {
            let error = proxy_for("https://r.example", &env(&[("HTTPS_PROXY", value)])).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the variable `HTTPS_PROXY` does not hold an http or https proxy URL"
            );
        }
    }
}
