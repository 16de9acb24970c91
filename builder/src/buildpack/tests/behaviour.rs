//! Buildpacks of our own, one for each behaviour.
