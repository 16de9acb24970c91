//! Layer tars: the writer gives the bytes that the reference lifecycle gives (cnb §5.3); the reader takes any tar.

pub mod header;
pub mod inspector;
pub mod reader;
pub mod writer;
