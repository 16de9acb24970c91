//! A tunnel through the operator's SOCKS5 proxy (RFC 1928, with user and password by RFC 1929). Names are resolved by the
//! proxy, as by one that speaks HTTP.

use std::io;
use std::net::IpAddr;

use reqwest::Url;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http::dialler::Target;
use crate::http::dialler::proxy::ProxyError;
use crate::http::dialler::proxy::user_and_password;
use crate::http::dialler::proxy::without_credentials;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTED: u8 = 0xff;
const CONNECT: u8 = 1;

/// Asks the proxy for a connection. Afterwards the stream is the target's; no byte of it has been read.
pub(super) async fn open_tunnel(
    stream: &mut TcpStream,
    proxy: &Url,
    target: &Target,
    port: u16,
) -> Result<(), ProxyError> {
    let broken = |source| ProxyError::Answer {
        proxy: without_credentials(proxy),
        source,
    };
    let unauthorized = || ProxyError::Unauthorized {
        proxy: without_credentials(proxy),
    };
    let known = user_and_password(proxy);
    let methods: &[u8] = match known {
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
        None => &[VERSION, 1, NO_AUTHENTICATION],
    };
    stream.write_all(methods).await.map_err(broken)?;
    match (answer::<2>(stream).await.map_err(broken)?, known) {
        ([VERSION, NO_AUTHENTICATION], _) => {}
        ([VERSION, USER_AND_PASSWORD], Some((user, password))) => {
            let request = credentials(&user, &password).map_err(broken)?;
            stream.write_all(&request).await.map_err(broken)?;
            let [_, status] = answer::<2>(stream).await.map_err(broken)?;
            if status != 0 {
                return Err(unauthorized());
            }
        }
        ([VERSION, USER_AND_PASSWORD | NONE_ACCEPTED], _) => return Err(unauthorized()),
        _ => return Err(broken(odd("the answer is not SOCKS5"))),
    }
    let request = connect(target, port).map_err(broken)?;
    stream.write_all(&request).await.map_err(broken)?;
    let [version, status, _, kind] = answer::<4>(stream).await.map_err(broken)?;
    if version != VERSION {
        return Err(broken(odd("the answer is not SOCKS5")));
    }
    if status != 0 {
        return Err(ProxyError::Socks {
            proxy: without_credentials(proxy),
            why: meaning(status),
        });
    }
    skip_bound_address(stream, kind).await.map_err(broken)
}

async fn answer<const LENGTH: usize>(stream: &mut TcpStream) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The address from which the proxy dials, and its port: of no interest.
async fn skip_bound_address(stream: &mut TcpStream, kind: u8) -> io::Result<()> {
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(answer::<1>(stream).await?[0]),
        _ => return Err(odd("the answer is not SOCKS5")),
    };
    let mut rest = vec![0; length + 2];
    stream.read_exact(&mut rest).await.map(drop)
}

/// RFC 1929: each of at most 255 bytes.
fn credentials(user: &[u8], password: &[u8]) -> io::Result<Vec<u8>> {
    let mut request = vec![1];
    for text in [user, password] {
        request
            .push(u8::try_from(text.len()).map_err(|_| odd("its user or password has more than 255 bytes"))?);
        request.extend(text);
    }
    Ok(request)
}

fn connect(target: &Target, port: u16) -> io::Result<Vec<u8>> {
    let mut request = vec![VERSION, CONNECT, 0];
    match target {
        Target::Address(IpAddr::V4(address)) => {
            request.push(1);
            request.extend(address.octets());
        }
        Target::Address(IpAddr::V6(address)) => {
            request.push(4);
            request.extend(address.octets());
        }
        Target::Name(name) => {
            request.push(3);
            request.push(u8::try_from(name.len()).map_err(|_| odd("the name is too long"))?);
            request.extend(name.bytes());
        }
    }
    request.extend(port.to_be_bytes());
    Ok(request)
}

/// RFC 1928 §6.
fn meaning(status: u8) -> &'static str {
    match status {
        2 => "its rules do not allow it",
        3 => "the network is unreachable",
        4 => "the host is unreachable",
        5 => "the connection was refused",
        6 => "it took too long",
        _ => "it failed",
    }
}

fn odd(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
