//! Published ports: what `-p` says, and the listeners on this machine's loopback.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::network::publish::ConnectInside;
use crate::network::publish::PublishError;
use crate::network::publish::Published;
use crate::network::publish::serve;
use crate::sandbox::native::NativeJob;

/// A port of the image and where it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Port {
    /// On this machine's loopback.
    pub(super) local: u16,
    /// In the image.
    pub(super) inside: u16,
}

/// Reads `[LOCAL:]PORT`.
pub(super) fn parse(text: &str) -> Result<Port, String> {
    let port = |part: &str| {
        let number: Option<u16> = part.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| format!("`{part}` is no port: a port is a number from 1 to 65535"))
    };
    let (local, inside) = text.split_once(':').unwrap_or((text, text));
    Ok(Port {
        local: port(local)?,
        inside: port(inside)?,
    })
}

/// Listens on each port; dropping what comes back closes them.
pub(super) async fn publish(ports: &[Port], job: &Arc<NativeJob>) -> Result<Vec<Published>, PublishError> {
    let mut published = Vec::with_capacity(ports.len());
    for port in ports {
        let (job, inside) = (Arc::clone(job), port.inside);
        let connect: ConnectInside = Arc::new(move || job.connect_inside(inside).map_err(io::Error::other));
        published.push(serve(SocketAddr::from((Ipv4Addr::LOCALHOST, port.local)), connect).await?);
    }
    Ok(published)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_the_same_on_both_sides() {
        assert_eq!(
            parse("8080"),
            Ok(Port {
                local: 8080,
                inside: 8080
            })
        );
        assert_eq!(
            parse("80:3000"),
            Ok(Port {
                local: 80,
                inside: 3000
            })
        );
        for text in ["", "0", "70000", "a:1", "1:", "0.0.0.0:1:2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
