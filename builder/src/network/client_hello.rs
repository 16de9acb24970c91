//! The server name that a TLS client asks for, read from its first message (RFC 8446 §4.1.2, RFC 6066 §3).

use crate::model::policy::names::normal_name;

/// Handshake message with its header, in bytes: post-quantum key shares make one of about 2 KiB.
const HELLO_BYTES_MAX: usize = 32 << 10;
/// Records that one message may be cut into.
const RECORDS_MAX: usize = 64;
const RECORD_HANDSHAKE: u8 = 22;
const RECORD_BYTES_MAX: usize = 16 << 10;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_IS_A_HOST: u8 = 0;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hello {
    /// Not all of it has come yet.
    Incomplete,
    /// A whole `ClientHello` and its server name, in lower case.
    Complete(Option<String>),
    /// No well-formed `ClientHello`.
    NotTls,
}

/// Reads what a client sent so far.
pub(super) fn parse(bytes: &[u8]) -> Hello {
    let message = match handshake_message(bytes) {
        Ok(Some(message)) => message,
        Ok(None) => return Hello::Incomplete,
        Err(Malformed) => return Hello::NotTls,
    };
    server_name(&message).unwrap_or(Hello::NotTls)
}

#[derive(Debug)]
struct Malformed;

/// The first handshake message, put together from its records; none as long as it is not whole.
fn handshake_message(bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut rest = bytes;
    let mut message = Vec::new();
    for _ in 0..RECORDS_MAX {
        if rest.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE)
            || rest.get(1).is_some_and(|major| *major != 3)
        {
            return Err(Malformed);
        }
        let [_, _, _, high, low, payload @ ..] = rest else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > RECORD_BYTES_MAX || message.len() + length > HELLO_BYTES_MAX {
            return Err(Malformed);
        }
        let Some((payload, after)) = payload.split_at_checked(length) else {
            return Ok(None);
        };
        message.extend_from_slice(payload);
        rest = after;
        if let [kind, a, b, c, ..] = message[..] {
            let wanted = 4 + usize::try_from(u32::from_be_bytes([0, a, b, c])).map_err(|_| Malformed)?;
            if kind != MESSAGE_CLIENT_HELLO || wanted > HELLO_BYTES_MAX {
                return Err(Malformed);
            }
            if message.len() >= wanted {
                message.truncate(wanted);
                return Ok(Some(message));
            }
        }
    }
    Err(Malformed)
}

/// The host name in a whole message; none if the message is malformed or names several.
fn server_name(message: &[u8]) -> Option<Hello> {
    let mut reader = Reader(message);
    reader.take(4 + 2 + 32)?;
    reader.take_short_vector()?;
    reader.take_vector()?;
    reader.take_short_vector()?;
    if reader.0.is_empty() {
        return Some(Hello::Complete(None));
    }
    let mut extensions = Reader(reader.take_vector()?);
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.take_u16()?;
        let contents = extensions.take_vector()?;
        if kind == EXTENSION_SERVER_NAME {
            let name = host_name(contents)?;
            if found.replace(name).is_some() {
                return None;
            }
        }
    }
    Some(Hello::Complete(found))
}

fn host_name(contents: &[u8]) -> Option<String> {
    let mut list = Reader(Reader(contents).take_vector()?);
    let kind = *list.take(1)?.first()?;
    let name = list.take_vector()?;
    let is_alone = kind == NAME_IS_A_HOST && list.0.is_empty();
    // What is not a host name would only spoil the log.
    str::from_utf8(name)
        .ok()
        .filter(|_| is_alone)
        .and_then(normal_name)
}

/// Takes from the front; none when there is not enough.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn take_u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A vector with a length of one byte.
    fn take_short_vector(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length))
    }

    /// A vector with a length of two bytes.
    fn take_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.take_u16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    /// What rustls sends first to a server.
    pub(in crate::network) fn client_hello(server: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = server.to_owned().try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_name_of_a_real_client_is_read() {
        let bytes = client_hello("Registry.Example");
        assert_eq!(
            parse(&bytes),
            Hello::Complete(Some("registry.example".to_owned()))
        );
        assert_eq!(parse(&client_hello("192.0.2.1")), Hello::Complete(None));
    }

    #[test]
    fn every_beginning_is_incomplete() {
        let bytes = client_hello("registry.example");
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Hello::Incomplete, "{length}");
        }
    }

    #[test]
    fn a_message_in_many_records_is_put_together() {
        let bytes = client_hello("registry.example");
        let mut pieces = Vec::new();
        for piece in bytes[5..].chunks(7) {
            pieces.extend([22, 3, 1, 0, u8::try_from(piece.len()).unwrap()]);
            pieces.extend(piece);
        }
        assert_eq!(
            parse(&pieces),
            Hello::Complete(Some("registry.example".to_owned()))
        );
    }

    #[test]
    fn what_is_not_a_client_hello_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x",
            &[22, 2, 0],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0xff, 0xff],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
            &[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
            &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0],
        ] {
            assert_eq!(parse(bytes), Hello::NotTls, "{bytes:?}");
        }
    }

    #[test]
    fn a_message_in_too_many_records_is_refused() {
        let mut pieces = Vec::new();
        for byte in &client_hello("registry.example")[5..] {
            pieces.extend([22, 3, 1, 0, 1, *byte]);
        }
        assert_eq!(parse(&pieces), Hello::NotTls);
    }

    #[test]
    fn two_names_are_refused() {
        // version, random, no session, one suite, one compression method, then two server_name extensions
        let mut body = vec![3, 3];
        body.extend([0; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        let one = [0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'];
        body.extend([0, 20]);
        body.extend(one);
        body.extend(one);
        let length = u8::try_from(body.len()).unwrap();
        let mut bytes = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
        bytes.extend(&body);
        assert_eq!(parse(&bytes), Hello::NotTls);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_the_parser_fail(front in 0_usize..300, noise: Vec<u8>) {
            let hello = client_hello("registry.example");
            let mut bytes = hello[..front.min(hello.len())].to_vec();
            bytes.extend(noise);
            parse(&bytes);
        }
    }
}
