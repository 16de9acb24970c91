//! The variables of the environment that packhorse reads, in one list: what is not in it cannot be read.

/// Writes the list, so that no variable is in one place and missing in another.
macro_rules! variables {
    ($($(#[$words:meta])* $variant:ident = $name:literal,)*) => {
        /// A variable of the environment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Variable {
            $($(#[$words])* $variant,)*
        }

        impl Variable {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

variables! {
    /// The data directory; clap reads it.
    PackhorseHome = "PACKHORSE_HOME",
    /// The rung of the sandbox; clap reads it.
    PackhorseSandbox = "PACKHORSE_SANDBOX",
    /// The network policy of jobs; clap reads it.
    PackhorseNetwork = "PACKHORSE_NETWORK",
    /// That packhorse has started itself in a scope; it sets it itself.
    PackhorseScope = "PACKHORSE_SCOPE",
    /// The operator's file.
    PackhorseConfig = "PACKHORSE_CONFIG",
    /// The package archive of the base.
    DebianMirror = "PACKHORSE_DEBIAN_MIRROR",
    /// Its archive of security updates.
    DebianSecurityMirror = "PACKHORSE_DEBIAN_SECURITY_MIRROR",
    /// The user's home folder.
    Home = "HOME",
    /// Where data directories are.
    XdgDataHome = "XDG_DATA_HOME",
    /// Where configurations are.
    XdgConfigHome = "XDG_CONFIG_HOME",
    /// Where podman keeps credentials.
    XdgRuntimeDirectory = "XDG_RUNTIME_DIR",
    /// The proxy for http.
    HttpProxy = "http_proxy",
    /// The same in upper case.
    HttpProxyUpper = "HTTP_PROXY",
    /// The proxy for https.
    HttpsProxy = "https_proxy",
    /// The same in upper case.
    HttpsProxyUpper = "HTTPS_PROXY",
    /// Hosts that are reached without a proxy.
    NoProxy = "no_proxy",
    /// The same in upper case.
    NoProxyUpper = "NO_PROXY",
    /// Certificates of authorities, in one file.
    SslCertFile = "SSL_CERT_FILE",
    /// The same, in a folder; the TLS library reads it.
    SslCertDirectory = "SSL_CERT_DIR",
    /// Credentials for registries.
    CnbRegistryAuth = "CNB_REGISTRY_AUTH",
    /// Podman's file of credentials.
    RegistryAuthFile = "REGISTRY_AUTH_FILE",
    /// Docker's folder.
    DockerConfig = "DOCKER_CONFIG",
    /// How git starts ssh.
    GitSshCommand = "GIT_SSH_COMMAND",
    /// Git's ssh program.
    GitSsh = "GIT_SSH",
    /// Where programs are looked for.
    Path = "PATH",
    /// The user's login name, where `/etc/passwd` has none.
    User = "USER",
    /// Which traces are shown; the tracing library reads it.
    RustLog = "RUST_LOG",
}
