//! References of images.
