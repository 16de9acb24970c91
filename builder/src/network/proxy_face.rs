//! The way out of a job that has no network namespace of its own: an HTTP proxy on the worker's loopback, under the same
//! policy and with the same list of refusals as the transparent listeners.
//!
//! [`start`] gives a [`Gateway`] as [`Gateway::start`] does (`set_policy`, `set_asker`, `refusals` and `stop` are the
//! same), and beside it the [`Entrance`], whose [`Entrance::variables`] go into the environment of the job's commands.
//! [`crate::network::way_out`] chooses between both. What holds a job to the proxy is the sandbox: filters refuse
//! datagrams, and Landlock connections to any port but this one (Linux 6.7; the log says where it cannot).
//!
//! Every request must carry the job's own password, so that nobody else on the machine goes out through it.

use std::fmt;
use std::io;
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::dialler::Target;
use crate::model::policy::names::normal_name;
use crate::network::connection::TLS_PORT;
use crate::network::connection::read_server_name;
use crate::network::connection::reason;
use crate::network::copy::arrives_when_dropped;
use crate::network::copy::copy_both_ways;
use crate::network::gateway::Face;
use crate::network::gateway::Gateway;
use crate::network::gateway::GatewayError;
use crate::network::gateway::GatewaySetup;
use crate::network::gateway::InForce;
use crate::network::gateway::State;
use crate::network::proxy_request::ProxyRequest;
use crate::network::proxy_request::end_of_head;
use crate::network::proxy_request::parse;
use crate::network::refusals::Reason;
use crate::network::refusals::Refusal;

/// Head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a client may take for it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Random bytes of a job's password.
const TOKEN_BYTES: usize = 24;
/// The user of every job.
const USER: &str = "job";
/// What a job reaches without the proxy: itself.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// What every request must carry: `job:TOKEN`.
pub(super) struct Credential(String);

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential")
    }
}

impl Credential {
    fn random() -> io::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        Ok(Self(format!("{USER}:{token}")))
    }

    /// Whether it is what a client said; in the same time wherever they differ.
    fn is(&self, said: &[u8]) -> bool {
        let differences = self
            .0
            .bytes()
            .zip(said)
            .fold(0, |all, (one, other)| all | (one ^ other));
        self.0.len() == said.len() && differences == 0
    }
}

/// Where a job finds its proxy. Its password is in no debug text.
pub struct Entrance {
    port: u16,
    credential: String,
}

impl fmt::Debug for Entrance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Entrance")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Entrance {
    /// The port on the worker's loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The proxy's URL, with the job's password.
    pub fn url(&self) -> String {
        format!("http://{}@{}:{}", self.credential, Ipv4Addr::LOCALHOST, self.port)
    }

    /// What the job's commands need in their environment. Plain Java sends no password to a proxy by itself: Gradle, Ant
    /// and programs that read these properties do.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let url = self.url();
        let (user, password) = self.credential.split_once(':').unwrap_or((USER, ""));
        let java: Vec<String> = ["http", "https"]
            .iter()
            .flat_map(|scheme| {
                [
                    format!("-D{scheme}.proxyHost={}", Ipv4Addr::LOCALHOST),
                    format!("-D{scheme}.proxyPort={}", self.port),
                    format!("-D{scheme}.proxyUser={user}"),
                    format!("-D{scheme}.proxyPassword={password}"),
                ]
            })
            .chain([
                "-Dhttp.nonProxyHosts=localhost|127.*|[::1]".to_owned(),
                // Java gives a proxy no password for a tunnel unless this list is empty.
                "-Djdk.http.auth.tunneling.disabledSchemes=".to_owned(),
            ])
            .collect();
        vec![
            ("http_proxy", url.clone()),
            ("https_proxy", url.clone()),
            ("HTTP_PROXY", url.clone()),
            ("HTTPS_PROXY", url),
            ("no_proxy", NO_PROXY.to_owned()),
            ("NO_PROXY", NO_PROXY.to_owned()),
            ("JAVA_TOOL_OPTIONS", java.join(" ")),
        ]
    }
}

/// Listens on the worker's loopback and begins to serve. Call it inside a tokio runtime.
pub fn start(setup: GatewaySetup) -> Result<(Gateway, Entrance), GatewayError> {
    let socket = |source| GatewayError::Socket {
        which: "proxy",
        source,
    };
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(socket)?;
    listener.set_nonblocking(true).map_err(socket)?;
    let port = listener.local_addr().map_err(socket)?.port();
    let listener = TcpListener::from_std(listener).map_err(socket)?;
    let credential = Credential::random().map_err(socket)?;
    let entrance = Entrance {
        port,
        credential: credential.0.clone(),
    };
    let gateway = Gateway::serve(setup, vec![listener], &Arc::new(Face::Proxy(credential)));
    Ok((gateway, entrance))
}

/// Serves a connection until it ends, or until the policy under which it came is over.
pub(super) async fn serve(state: &State, credential: &Credential, stream: TcpStream) {
    let in_force = state.in_force();
    let work = Box::pin(carry(state, &in_force, credential, stream));
    in_force.over.run_until_cancelled(work).await;
}

async fn carry(state: &State, in_force: &InForce, credential: &Credential, mut inside: TcpStream) {
    let read = timeout(HEAD_TIMEOUT, read_head(&mut inside)).await;
    let Ok(Ok(Some((head, rest)))) = read else {
        return;
    };
    let request = match parse(&head) {
        Ok(request) => request,
        Err(why) => return answer(inside, "400 Bad Request", "", &why.to_string()).await,
    };
    if !request
        .credentials
        .as_deref()
        .is_some_and(|said| credential.is(said))
    {
        let wanted = "Proxy-Authenticate: Basic realm=\"packhorse\"\r\n";
        let why = "this proxy is for one job alone";
        return answer(inside, "407 Proxy Authentication Required", wanted, why).await;
    }
    match dial(state, in_force, &mut inside, request, rest).await {
        Ok(outside) => {
            if let Err(error) = copy_both_ways(inside, outside).await {
                tracing::debug!(%error, "a connection of a job broke");
            }
        }
        Err(refusal) => {
            let text = refusal.to_string();
            let status = match refusal.why {
                // The tunnel was promised already: it is cut.
                Reason::ServerName { .. } | Reason::NotTls => None,
                Reason::Unreachable(_) => Some("502 Bad Gateway"),
                _ => Some("403 Forbidden"),
            };
            // In this order: who sees the answer finds the reason.
            state.refusals.record(*refusal);
            if let Some(status) = status {
                answer(inside, status, "", &text).await;
            }
        }
    }
}

/// The head of the first request, and what came behind it; none if it ends before, or is too long.
async fn read_head(inside: &mut TcpStream) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = end_of_head(&bytes) {
            let rest = bytes.split_off(end);
            return Ok(Some((bytes, rest)));
        }
        if bytes.len() > HEAD_BYTES_MAX || inside.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// An answer of this proxy's own, which ends the connection.
async fn answer(mut inside: TcpStream, status: &str, headers: &str, why: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\npackhorse: \
         {why}\n",
        why.len() + "packhorse: \n".len()
    );
    let said = async {
        inside.write_all(text.as_bytes()).await?;
        // A reset would take back what was said.
        arrives_when_dropped(&inside)?;
        inside.shutdown().await
    };
    if let Err(error) = said.await {
        tracing::debug!(%error, "a job took no answer of its proxy");
    }
}

/// The connection outside, with what was already read sent on. Once the tunnel is promised, a refusal can only cut it.
async fn dial(
    state: &State,
    in_force: &InForce,
    inside: &mut TcpStream,
    request: ProxyRequest,
    rest: Vec<u8>,
) -> Result<TcpStream, Box<Refusal>> {
    let ProxyRequest {
        target, port, head, ..
    } = request;
    let target = match target {
        Target::Name(name) => Target::Name(normal_name(&name).unwrap_or(name)),
        address @ Target::Address(_) => address,
    };
    let (name, address) = match &target {
        Target::Name(name) => (Some(name.clone()), None),
        Target::Address(address) => (None, Some(*address)),
    };
    let refusal = |why, refused| {
        Box::new(Refusal {
            asker: in_force.asker.clone(),
            name: name.clone(),
            address: address.or(refused),
            port: Some(port),
            why,
            count: 1,
        })
    };
    let mut outside = match state.dialler.dial(&target, port, &in_force.policy).await {
        Ok(outside) => outside,
        Err(error) => {
            let (why, refused) = reason(&error);
            return Err(refusal(why, refused));
        }
    };
    let broken = |error: io::Error| refusal(Reason::Unreachable(error.to_string()), None);
    let mut sent = if let Some(head) = head {
        [head, rest].concat()
    } else {
        let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
        inside.write_all(established).await.map_err(broken)?;
        rest
    };
    if let Target::Name(name) = &target
        && port == TLS_PORT
        && state.dialler.is_proxied(&target, port)
    {
        let said = read_server_name(inside, name, sent).await;
        sent = said.map_err(|why| refusal(why, None))?;
    }
    outside.write_all(&sent).await.map_err(broken)?;
    Ok(outside)
}
