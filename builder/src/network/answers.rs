//! The job's name server: a name that exists gets an address that stands for it (RFC 1035).

use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Edns;
use hickory_proto::op::Message;
use hickory_proto::op::MessageType;
use hickory_proto::op::OpCode;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::DNSClass;
use hickory_proto::rr::RData;
use hickory_proto::rr::Record;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::AAAA;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::http::dialler::resolver::ResolveError;
use crate::model::policy::names::normal_name;
use crate::network::gateway::State;
use crate::network::gateway::until_stopped;
use crate::network::names::Full;
use crate::network::names::version_6;
use crate::network::refusals::Reason;
use crate::network::refusals::Refusal;

/// A question over UDP; ours to refuse if longer.
const QUESTION_BYTES_MAX: usize = 4096;
/// How long a question over TCP may take to come, and how long the next is awaited.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Questions that are looked up at once.
const QUESTIONS_AT_ONCE_MAX: usize = 16;
/// How long a job may keep an answer, in seconds. Whether the name still exists is asked again then; its address
/// stays.
const ANSWER_TTL: u32 = 10;
/// How long the server rests when the kernel gives it an error instead of a question.
const RECEIVE_REST: Duration = Duration::from_millis(10);

/// Answers until it is dropped.
pub(super) async fn answer_all(state: Arc<State>, socket: UdpSocket, tasks: TaskTracker) {
    let socket = Arc::new(socket);
    let permits = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE_MAX));
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        state.pace.wait().await;
        let (length, asker) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // The asker of an earlier answer is gone, most likely.
                tracing::debug!(%error, "no question of a job");
                sleep(RECEIVE_REST).await;
                continue;
            }
        };
        let Some(question) = Message::from_vec(&buffer[..length]).ok().filter(is_question) else {
            continue;
        };
        let (state, socket) = (Arc::clone(&state), Arc::clone(&socket));
        tasks.spawn(until_stopped(state.stopped(), async move {
            if let Ok(answer) = answer(&state, &question).await.to_vec()
                && let Err(error) = socket.send_to(&answer, asker).await
            {
                tracing::debug!(%error, "a job took no answer");
            }
            drop(permit);
        }));
    }
}

/// Answers what comes over TCP, one question after another: each with its length before it (RFC 7766 §8).
pub(super) async fn answer_stream(state: &State, mut stream: TcpStream) {
    loop {
        let asked = timeout(QUESTION_TIMEOUT, read_question(&mut stream)).await;
        let Ok(Ok(Some(question))) = asked else {
            return;
        };
        state.pace.wait().await;
        let Ok(answer) = answer(state, &question).await.to_vec() else {
            return;
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return;
        };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

/// The next question; none if what came is none, or is too long.
async fn read_question(stream: &mut TcpStream) -> io::Result<Option<Message>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Message::from_vec(&bytes).ok().filter(is_question))
}

fn is_question(message: &Message) -> bool {
    message.metadata.message_type == MessageType::Query
}

/// What is said of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It has this address.
    Address(IpAddr),
    /// It has nothing of what was asked.
    Nothing,
    /// An answer without records.
    Code(ResponseCode),
}

async fn answer(state: &State, question: &Message) -> Message {
    let said = say(state, question).await;
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_queries(question.queries.iter().take(1).cloned());
    if question.edns.is_some() {
        answer.set_edns(Edns::new());
    }
    match said {
        Said::Address(address) => {
            if let Some(query) = question.queries.first() {
                let data = match address {
                    IpAddr::V4(address) => RData::A(A(address)),
                    IpAddr::V6(address) => RData::AAAA(AAAA(address)),
                };
                answer.add_answer(Record::from_rdata(query.name().clone(), ANSWER_TTL, data));
            }
        }
        Said::Nothing => {}
        Said::Code(code) => answer.metadata.response_code = code,
    }
    answer
}

async fn say(state: &State, question: &Message) -> Said {
    if question.metadata.op_code != OpCode::Query {
        return Said::Code(ResponseCode::NotImp);
    }
    let [query] = &question.queries[..] else {
        return Said::Code(ResponseCode::FormErr);
    };
    if query.query_class() != DNSClass::IN {
        return Said::Code(ResponseCode::NotImp);
    }
    let Some(name) = normal_name(&query.name().to_ascii()) else {
        return Said::Code(ResponseCode::NXDomain);
    };
    let is_loopback = name == "localhost" || name.ends_with(".localhost");
    match query.query_type() {
        RecordType::A if is_loopback => Said::Address(Ipv4Addr::LOCALHOST.into()),
        RecordType::AAAA if is_loopback && state.has_ipv6 => Said::Address(Ipv6Addr::LOCALHOST.into()),
        _ if is_loopback => Said::Nothing,
        kind => say_of_name(state, &name, kind).await,
    }
}

async fn say_of_name(state: &State, name: &str, kind: RecordType) -> Said {
    let in_force = state.in_force();
    let refuse = |why| {
        let refusal = Refusal {
            asker: in_force.asker.clone(),
            name: Some(name.to_owned()),
            address: None,
            port: None,
            why,
            count: 1,
        };
        state.refusals.record(refusal);
    };
    // Not REFUSED: a C library asks again and again, and then says "temporary failure".
    if let Err(why) = state.dialler.check_name(name, &in_force.policy) {
        refuse(Reason::Policy(why));
        return Said::Code(ResponseCode::NXDomain);
    }
    // Nothing but addresses is looked up, so nothing else is known, not even whether `_http._tcp.…` exists.
    if !matches!(kind, RecordType::A | RecordType::AAAA) {
        return Said::Nothing;
    }
    match state.dialler.check_existence(name).await {
        Err(ResolveError::NotFound) => Said::Code(ResponseCode::NXDomain),
        Err(ResolveError::Temporary { why }) => {
            refuse(Reason::Unreachable(why));
            Said::Code(ResponseCode::ServFail)
        }
        // Its addresses in the job say nothing of those that it has: every host has one of each kind.
        Ok(()) if kind == RecordType::AAAA && !state.has_ipv6 => Said::Nothing,
        Ok(()) => state.names.address_for(name).map_or_else(
            |Full| {
                refuse(Reason::TooManyNames);
                Said::Code(ResponseCode::ServFail)
            },
            |address| match kind {
                RecordType::AAAA => Said::Address(version_6(address).into()),
                _ => Said::Address(address.into()),
            },
        ),
    }
}

/// So many in a second and no more, of all who ask.
#[derive(Debug)]
pub(super) struct Pace {
    per_second_max: u32,
    second: Mutex<Second>,
}

#[derive(Debug)]
struct Second {
    began: Instant,
    count: u32,
}

impl Pace {
    pub(super) fn new(per_second_max: u32) -> Self {
        Self {
            per_second_max: per_second_max.max(1),
            second: Mutex::new(Second {
                began: Instant::now(),
                count: 0,
            }),
        }
    }

    async fn wait(&self) {
        // Whoever comes later waits for the lock, and so for the next second too.
        let mut second = self.second.lock().await;
        let ends = second.began + Duration::from_secs(1);
        if second.count >= self.per_second_max {
            sleep_until(ends).await;
        }
        if Instant::now() >= ends {
            second.began = Instant::now();
            second.count = 0;
        }
        second.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn questions_over_the_rate_wait() {
        let began = Instant::now();
        let pace = Pace::new(10);
        for _ in 0..35 {
            pace.wait().await;
        }
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
