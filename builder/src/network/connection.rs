//! One connection of a job: where it wants to go, whether it may, and its bytes.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::dialler::DialError;
use crate::http::dialler::Target;
use crate::model::policy::NetworkPolicy;
use crate::network::answers;
use crate::network::client_hello;
use crate::network::client_hello::Hello;
use crate::network::copy::copy_both_ways;
use crate::network::gateway::InForce;
use crate::network::gateway::State;
use crate::network::names::that_stands_for_a_name;
use crate::network::refusals::Reason;
use crate::network::refusals::Refusal;

/// The port on which a TLS server name is demanded behind an upstream proxy.
pub(super) const TLS_PORT: u16 = 443;
/// Names are asked over TCP too, when an answer may be long.
const NAME_PORT: u16 = 53;
/// How long a client may take for its first TLS message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a connection until it ends, or until the policy under which it came is over.
pub(super) async fn serve(state: &State, stream: TcpStream) {
    let in_force = state.in_force();
    let work = Box::pin(carry(state, &in_force, stream));
    in_force.over.run_until_cancelled(work).await;
}

async fn carry(state: &State, in_force: &InForce, mut inside: TcpStream) {
    // In the job every address is local: the near end of the connection is where the job wanted to go.
    let Ok(wanted) = inside.local_addr() else {
        return;
    };
    let (address, port) = (wanted.ip().to_canonical(), wanted.port());
    if port == NAME_PORT {
        return answers::answer_stream(state, inside).await;
    }
    match open(state, in_force, &mut inside, (address, port)).await {
        Ok(outside) => {
            // Only a delay would come of a failure here.
            inside.set_nodelay(true).ok();
            if let Err(error) = copy_both_ways(inside, outside).await {
                tracing::debug!(%address, port, %error, "a connection of a job broke");
            }
        }
        Err(refusal) => {
            // In this order: who sees the reset finds the reason.
            state.refusals.record(*refusal);
            drop(inside);
        }
    }
}

/// The connection outside, with what was already read of the job's side sent on.
async fn open(
    state: &State,
    in_force: &InForce,
    inside: &mut TcpStream,
    (address, port): (IpAddr, u16),
) -> Result<TcpStream, Box<Refusal>> {
    let policy = &in_force.policy;
    let mut refusal = Refusal {
        asker: in_force.asker.clone(),
        name: None,
        address: Some(address),
        port: Some(port),
        why: Reason::UnknownAddress,
        count: 1,
    };
    let target = match that_stands_for_a_name(address).map(|place| state.names.name_of(place)) {
        Some(Some(name)) => {
            refusal.name = Some(name.clone());
            refusal.address = None;
            Target::Name(name)
        }
        Some(None) => return Err(Box::new(refusal)),
        None => Target::Address(address),
    };
    let mut sent = Vec::new();
    if let Target::Name(name) = &target
        && **policy != NetworkPolicy::None
        && port == TLS_PORT
        && state.dialler.is_proxied(&target, port)
    {
        sent = match read_server_name(inside, name, Vec::new()).await {
            Ok(sent) => sent,
            Err(why) => return Err(Box::new(Refusal { why, ..refusal })),
        };
    }
    let mut outside = match state.dialler.dial(&target, port, policy).await {
        Ok(outside) => outside,
        Err(error) => {
            let (why, refused) = reason(&error);
            let address = refusal.address.or(refused);
            return Err(Box::new(Refusal {
                address,
                why,
                ..refusal
            }));
        }
    };
    if let Err(error) = outside.write_all(&sent).await {
        return Err(Box::new(Refusal {
            why: Reason::Unreachable(error.to_string()),
            ..refusal
        }));
    }
    Ok(outside)
}

/// Why a dial brought nothing, and the address behind a name that was refused.
pub(super) fn reason(error: &DialError) -> (Reason, Option<IpAddr>) {
    match error {
        DialError::Refused { why, address, .. } => (Reason::Policy(*why), *address),
        // The sentence around it names target and port already.
        DialError::Resolve { source, .. } => (Reason::Unreachable(source.to_string()), None),
        DialError::Connect { source, .. } => (Reason::Unreachable(source.to_string()), None),
        DialError::Proxy { source, .. } => {
            let why = format!("the upstream proxy made no tunnel: {source}");
            (Reason::Unreachable(why), None)
        }
        DialError::OwnAddresses { .. } | DialError::TimedOut { .. } => {
            (Reason::Unreachable(error.to_string()), None)
        }
    }
}

/// What the client sent up to the end of its first TLS message (`bytes` were read before), once its server name is the name that it asked for.
pub(super) async fn read_server_name(
    inside: &mut TcpStream,
    name: &str,
    mut bytes: Vec<u8>,
) -> Result<Vec<u8>, Reason> {
    let reading = async {
        loop {
            match client_hello::parse(&bytes) {
                Hello::Complete(found) => return Ok(found),
                Hello::NotTls => return Err(Reason::NotTls),
                Hello::Incomplete => {}
            }
            if inside.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return Err(Reason::NotTls);
            }
        }
    };
    let found = timeout(HELLO_TIMEOUT, reading)
        .await
        .unwrap_or(Err(Reason::NotTls))?;
    if found.as_deref() == Some(name) {
        Ok(bytes)
    } else {
        Err(Reason::ServerName { found })
    }
}
