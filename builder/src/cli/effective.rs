//! Which value of a setting is in force: that of the environment, else of the operator's file, else the default. The one
//! place that decides it, for builds as for `packhorse config`.

use std::path::PathBuf;

use crate::base::mirror::Mirrors;
use crate::cli::config::Config;
use crate::cli::setting::Origin;
use crate::cli::setting::Setting;
use crate::cli::variable::Variable;

/// Where a Debian system keeps the certificates of authorities, and others do.
const SYSTEM_CA_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Config {
    /// The first of these variables that is set.
    pub(super) fn set(&self, variables: &[Variable]) -> Option<Setting<String>> {
        variables.iter().find_map(|variable| {
            Some(Setting {
                value: self.variable(*variable)?.to_owned(),
                origin: Origin::Variable(*variable),
            })
        })
    }

    /// A value of the operator's file.
    pub(super) fn of_file<T: Clone>(&self, value: Option<&T>) -> Option<Setting<T>> {
        let path = self.file_path.as_ref().map(|path| path.value.clone());
        value.map(|value| Setting {
            value: value.clone(),
            origin: path.map_or(Origin::Default, Origin::File),
        })
    }

    /// The proxy for http, by its variable in either case.
    pub fn http_proxy(&self) -> Option<Setting<String>> {
        self.set(&[Variable::HttpProxy, Variable::HttpProxyUpper])
            .or_else(|| self.of_file(self.file.network.http_proxy.as_ref()))
    }

    /// The proxy for https.
    pub fn https_proxy(&self) -> Option<Setting<String>> {
        self.set(&[Variable::HttpsProxy, Variable::HttpsProxyUpper])
            .or_else(|| self.of_file(self.file.network.https_proxy.as_ref()))
    }

    /// Hosts that are reached without a proxy, with commas.
    pub fn no_proxy(&self) -> Option<Setting<String>> {
        self.set(&[Variable::NoProxy, Variable::NoProxyUpper])
            .or_else(|| self.of_file(self.file.network.no_proxy.as_ref()))
    }

    /// The certificates of authorities that jobs get: the operator's file, `SSL_CERT_FILE`, else the system's.
    pub fn ca_file(&self) -> Option<Setting<PathBuf>> {
        let variable = || Some(self.set(&[Variable::SslCertFile])?.map(PathBuf::from));
        let of_the_system = || {
            let found = SYSTEM_CA_FILES
                .iter()
                .map(PathBuf::from)
                .find(|path| path.is_file());
            found.map(|value| Setting {
                value,
                origin: Origin::Default,
            })
        };
        self.of_file(self.file.network.ca_file.as_ref())
            .or_else(variable)
            .or_else(of_the_system)
    }

    /// The package archive of the base.
    pub fn base_mirror(&self) -> Setting<String> {
        self.mirror(
            Variable::DebianMirror,
            self.file.base.mirror.as_ref(),
            Mirrors::default().main,
        )
    }

    /// The archive of security updates.
    pub fn base_security_mirror(&self) -> Setting<String> {
        self.mirror(
            Variable::DebianSecurityMirror,
            self.file.base.security_mirror.as_ref(),
            Mirrors::default().security,
        )
    }

    fn mirror(&self, variable: Variable, of_file: Option<&String>, otherwise: String) -> Setting<String> {
        self.set(&[variable])
            .or_else(|| self.of_file(of_file))
            .unwrap_or(Setting {
                value: otherwise,
                origin: Origin::Default,
            })
    }

    /// Credentials for registries in a variable. Secret.
    pub fn registry_auth(&self) -> Option<Setting<String>> {
        self.set(&[Variable::CnbRegistryAuth])
    }

    /// Where files with credentials may be: the one that is named, then docker's, then podman's.
    pub fn credential_files(&self) -> Vec<Setting<PathBuf>> {
        let named = self.set(&[Variable::RegistryAuthFile]);
        let docker = self
            .set(&[Variable::DockerConfig])
            .map(|folder| folder.map(PathBuf::from))
            .or_else(|| {
                Some(Setting {
                    value: self.user_home.as_ref()?.join(".docker"),
                    origin: Origin::Default,
                })
            });
        let containers = self.set(&[Variable::XdgRuntimeDirectory]);
        [
            named.map(|file| file.map(PathBuf::from)),
            docker.map(|folder| folder.map(|folder| folder.join("config.json"))),
            containers.map(|folder| folder.map(|folder| PathBuf::from(folder).join("containers/auth.json"))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether a build with limits may start itself in a scope: not again, once it has.
    pub fn may_use_scope(&self) -> Setting<bool> {
        if let Some(inside) = self.set(&[Variable::PackhorseScope]) {
            return inside.map(|_| false);
        }
        self.of_file(self.file.sandbox.scope.as_ref()).unwrap_or(Setting {
            value: true,
            origin: Origin::Default,
        })
    }

    /// How git starts ssh: a command, or by `GIT_SSH` a program. May hold a password.
    pub fn ssh(&self) -> Option<Setting<String>> {
        self.set(&[Variable::GitSshCommand, Variable::GitSsh])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::tests::config;

    #[test]
    fn proxies_are_found_in_either_case() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packhorse.toml");
        std::fs::write(&path, "[network]\nno-proxy = \"x\"\nhttp-proxy = \"x\"\n").unwrap();
        let config = config(&[
            ("HOME", "/h"),
            ("HTTPS_PROXY", "http://p:1"),
            ("no_proxy", "a,b"),
            ("http_proxy", ""),
            ("PACKHORSE_CONFIG", path.to_str().unwrap()),
        ]);
        let https = config.https_proxy().unwrap();
        assert_eq!(https.value, "http://p:1");
        assert_eq!(https.origin, Origin::Variable(Variable::HttpsProxyUpper));
        assert_eq!(config.no_proxy().unwrap().value, "a,b");
        let http = config.http_proxy().unwrap();
        assert_eq!((http.value.as_str(), http.origin), ("x", Origin::File(path)));
    }

    #[test]
    fn a_scope_is_used_once_and_only_where_the_operator_lets_it() {
        assert!(config(&[("HOME", "/h")]).may_use_scope().value);
        let inside = config(&[("HOME", "/h"), ("PACKHORSE_SCOPE", "1")]).may_use_scope();
        assert_eq!(
            (inside.value, inside.origin),
            (false, Origin::Variable(Variable::PackhorseScope))
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("packhorse.toml");
        std::fs::write(&path, "[sandbox]\nscope = false\n").unwrap();
        let config = config(&[("HOME", "/h"), ("PACKHORSE_CONFIG", path.to_str().unwrap())]);
        assert!(!config.may_use_scope().value);
    }
}
