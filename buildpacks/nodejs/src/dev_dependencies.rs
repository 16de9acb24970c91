//! What becomes of development dependencies, as npm's own settings say it.

/// Where development dependencies are present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DevDependencies {
    /// There for the build script, gone from the image.
    BuildOnly,
    /// There for the build script and in the image.
    Kept,
    /// Never installed.
    NeverInstalled,
}

/// `omit` is the value of `NPM_CONFIG_OMIT`, `node_env` that of `NODE_ENV`; an empty value counts as none.
///
/// An explicit list of what to omit replaces npm's default, which is `dev` in production, and so it does here.
pub(crate) fn decide_dev_dependencies(omit: Option<&str>, node_env: Option<&str>) -> DevDependencies {
    let is_set = |value: &&str| !value.trim().is_empty();
    if let Some(omit) = omit.filter(is_set) {
        let omits_dev = omit
            .split(|separator: char| separator.is_whitespace() || separator == ',')
            .any(|kind| kind == "dev");
        return if omits_dev {
            DevDependencies::NeverInstalled
        } else {
            DevDependencies::Kept
        };
    }
    match node_env.filter(is_set) {
        None | Some("production") => DevDependencies::BuildOnly,
        Some(_) => DevDependencies::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npm_settings_decide() {
        for (omit, node_env, expected) in [
            (None, None, DevDependencies::BuildOnly),
            (None, Some("production"), DevDependencies::BuildOnly),
            (None, Some(""), DevDependencies::BuildOnly),
            (None, Some("development"), DevDependencies::Kept),
            (Some(""), None, DevDependencies::BuildOnly),
            (Some("dev"), None, DevDependencies::NeverInstalled),
            (
                Some("optional dev"),
                Some("development"),
                DevDependencies::NeverInstalled,
            ),
            (Some("optional"), Some("production"), DevDependencies::Kept),
        ] {
            assert_eq!(
                decide_dev_dependencies(omit, node_env),
                expected,
                "{omit:?} {node_env:?}"
            );
        }
    }
}
