//! The network of jobs: what command line, environment and the operator's file say of it, as one policy.

use std::net::IpAddr;

use reqwest::Url;

use crate::cli::config::Config;
use crate::cli::config::MirrorFile;
use crate::cli::failure::CommandError;
use crate::model::policy::DEFAULT_PORTS;
use crate::model::policy::ListOrigin;
use crate::model::policy::ListedPolicy;
use crate::model::policy::NetworkPolicy;
use crate::model::policy::PublicPolicy;
use crate::model::policy::allow_list::AllowList;
use crate::model::policy::allow_list::Entry;
use crate::model::policy::allow_list::Whom;
use crate::model::policy::choice::NetworkChoice;
use crate::model::policy::names::normal_name;

/// The policy of build steps, or of a trial run.
pub fn policy(config: &Config) -> Result<NetworkPolicy, CommandError> {
    let operator = operators(config)?;
    let choice = config.network.network.clone();
    let choice = choice
        .or_else(|| config.file.network.policy.clone())
        .unwrap_or_default();
    if config.network.offline {
        return match choice {
            NetworkChoice::None => Ok(NetworkPolicy::None),
            NetworkChoice::Public => Ok(NetworkPolicy::Listed(ListedPolicy {
                list: AllowList::new(own_hosts(config)?),
                origin: ListOrigin::Offline,
                operator,
            })),
            NetworkChoice::Host | NetworkChoice::Allow(_) => Err(CommandError::usage(format!(
                "--offline and the network policy `{choice}` contradict each other: leave one of them out"
            ))),
        };
    }
    Ok(match choice {
        NetworkChoice::None => NetworkPolicy::None,
        NetworkChoice::Public => NetworkPolicy::Public(operator),
        NetworkChoice::Host => NetworkPolicy::Host,
        NetworkChoice::Allow(list) => NetworkPolicy::Listed(ListedPolicy {
            list,
            origin: ListOrigin::Allowed,
            operator,
        }),
    })
}

/// What is reached offline: the hosts of the operator's mirror table, each on its port, and the trusted hosts.
pub fn own_hosts(config: &Config) -> Result<Vec<Entry>, CommandError> {
    let mirrors = config.file.mirrors.iter().filter_map(mirror_entry);
    Ok(mirrors.chain(trusted(config)?).collect())
}

/// What the operator's file says for every policy.
fn operators(config: &Config) -> Result<PublicPolicy, CommandError> {
    let network = &config.file.network;
    let ports = network.ports.clone().unwrap_or_else(|| DEFAULT_PORTS.to_vec());
    if ports.contains(&0) {
        return Err(in_file("0 is no port", "ports"));
    }
    for suffix in &network.denied_suffixes {
        let bare = suffix.trim_start_matches('*').trim_start_matches('.');
        if normal_name(bare).is_none() {
            return Err(in_file(&format!("`{suffix}` is no domain"), "denied-suffixes"));
        }
    }
    let mut policy = PublicPolicy {
        ports,
        denied_suffixes: network.denied_suffixes.clone(),
        trusted_hosts: config.file.mirrors.iter().filter_map(mirror_host).collect(),
        ..PublicPolicy::default()
    };
    for entry in trusted(config)? {
        match entry.whom {
            Whom::Name(name) => policy.trusted_hosts.push(name),
            Whom::Address(address) => policy.trusted_addresses.push(address),
            Whom::Below(_) => {}
        }
    }
    Ok(policy)
}

/// The operator's trusted hosts: names and literal addresses.
fn trusted(config: &Config) -> Result<Vec<Entry>, CommandError> {
    let hosts = config.file.network.trusted_hosts.iter();
    let entries = hosts.map(|text| match text.parse::<Entry>() {
        Ok(entry) if entry.port.is_some() => Err(in_file(
            &format!("`{text}` has a port, which belongs into `ports`"),
            "trusted-hosts",
        )),
        Ok(Entry {
            whom: Whom::Below(_), ..
        }) => Err(in_file(
            &format!("`{text}` is a domain; name each host"),
            "trusted-hosts",
        )),
        Ok(entry) => Ok(entry),
        Err(error) => Err(in_file(&error.to_string(), "trusted-hosts")),
    });
    entries.collect()
}

fn in_file(what: &str, field: &str) -> CommandError {
    CommandError::usage(format!(
        "{what}: correct `{field}` of `[network]` in packhorse.toml"
    ))
}

/// The host of a mirror; none: it is a folder.
fn mirror_host(mirror: &MirrorFile) -> Option<String> {
    Some(Url::parse(&mirror.target).ok()?.host_str()?.to_owned())
}

fn mirror_entry(mirror: &MirrorFile) -> Option<Entry> {
    let url = Url::parse(&mirror.target).ok()?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    let whom = match host.parse::<IpAddr>() {
        Ok(address) => Whom::Address(address.to_canonical()),
        Err(_) => Whom::Name(normal_name(host)?),
    };
    Some(Entry {
        whom,
        port: url.port_or_known_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::network::NetworkArguments;
    use crate::cli::setting::Origin;
    use crate::cli::setting::Setting;
    use crate::model::policy::Why;

    fn config(file: &str, network: Option<&str>, offline: bool) -> Config {
        Config {
            home: Setting {
                value: "/h".into(),
                origin: Origin::Default,
            },
            user_home: None,
            environment: std::collections::BTreeMap::new(),
            file: toml::from_str(file).unwrap(),
            file_path: None,
            rung: Setting {
                value: crate::model::rung::RungChoice::default(),
                origin: Origin::Default,
            },
            network: NetworkArguments {
                network: network.map(|text| text.parse().unwrap()),
                offline,
            },
        }
    }

    #[test]
    fn the_command_line_is_stronger_than_the_file() {
        let file = "[network]\npolicy = 'allow:a.example'\nports = [443, 8443]\n";
        let policy = |network| policy(&config(file, network, false)).unwrap();
        assert_eq!(policy(None).to_string(), "allow:a.example");
        assert_eq!(policy(None).ports(), [443, 8443]);
        assert_eq!(policy(Some("none")), NetworkPolicy::None);
        assert_eq!(policy(Some("host")), NetworkPolicy::Host);
        assert_eq!(policy(Some("public")).ports(), [443, 8443]);
    }

    #[test]
    fn the_operator_s_hosts_are_trusted_and_are_all_that_is_reached_offline() {
        let file = "[network]\ntrusted-hosts = ['npm.corp', '10.0.0.7']\n\
                    [[mirrors]]\nprefix = 'https://a/'\ntarget = 'http://Mirror.lan:8081/a'\n\
                    [[mirrors]]\nprefix = 'https://b/'\ntarget = '/srv/b'\n";
        let public = policy(&config(file, None, false)).unwrap();
        let private = "10.0.0.1".parse().unwrap();
        for name in ["npm.corp", "mirror.lan"] {
            assert_eq!(public.check_named_address(name, private, &[]), Ok(()), "{name}");
        }
        assert_eq!(public.check_address("10.0.0.7".parse().unwrap(), &[]), Ok(()));
        let offline = policy(&config(file, None, true)).unwrap();
        assert_eq!(offline.check_name("mirror.lan"), Ok(()));
        assert_eq!(offline.check_port_of_name("mirror.lan", 8081), Ok(()));
        assert_eq!(offline.check_port_of_name("npm.corp", 443), Ok(()));
        assert_eq!(offline.check_name("a.example"), Err(Why::Offline));
        assert_eq!(offline.check_address(private, &[]), Err(Why::Offline));
        assert_eq!(
            policy(&config(file, Some("none"), true)).unwrap(),
            NetworkPolicy::None
        );
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error_that_says_why() {
        let cases = [
            (
                "",
                Some("host"),
                true,
                "--offline and the network policy `host` contradict each other",
            ),
            (
                "",
                Some("allow:a"),
                true,
                "--offline and the network policy `allow:a` contradict",
            ),
            (
                "[network]\nports = [0]",
                None,
                false,
                "0 is no port: correct `ports` of `[network]`",
            ),
            (
                "[network]\ndenied-suffixes = ['a b']",
                None,
                false,
                "`a b` is no domain",
            ),
            (
                "[network]\ntrusted-hosts = ['a:80']",
                None,
                false,
                "`a:80` has a port",
            ),
            (
                "[network]\ntrusted-hosts = ['*.a']",
                None,
                false,
                "`*.a` is a domain; name each host",
            ),
            (
                "[network]\ntrusted-hosts = ['10.0.0.0/8']",
                None,
                false,
                "`10.0.0.0/8` is a network",
            ),
        ];
        for (file, network, offline, words) in cases {
            let error = policy(&config(file, network, offline)).unwrap_err();
            assert_eq!(error.exit_code, 2, "{words}");
            assert!(error.message.contains(words), "{}", error.message);
        }
        assert!(toml::from_str::<crate::cli::config::File>("[network]\npolicy = 'open'").is_err());
    }
}
