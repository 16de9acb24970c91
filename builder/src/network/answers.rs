//! The job's name server: a name that exists gets an address that stands for it (RFC 1035).

use std::net::Ipv4Addr;
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
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::sleep_until;
use tokio_util::task::TaskTracker;

use crate::http::dialler::resolver::ResolveError;
use crate::model::policy::normal_name;
use crate::network::gateway::State;
use crate::network::gateway::until_stopped;
use crate::network::names::Full;
use crate::network::refusals::Reason;
use crate::network::refusals::Refusal;

/// A question over UDP; ours to refuse if longer.
const QUESTION_BYTES_MAX: usize = 4096;
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
    let mut pace = Pace::new(state.limits.queries_per_second_max);
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        pace.wait().await;
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

fn is_question(message: &Message) -> bool {
    message.metadata.message_type == MessageType::Query
}

/// What is said of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It has this address.
    Address(Ipv4Addr),
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
                let data = RData::A(A(address));
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
        RecordType::A if is_loopback => Said::Address(Ipv4Addr::LOCALHOST),
        _ if is_loopback => Said::Nothing,
        kind => say_of_name(state, &name, kind).await,
    }
}

async fn say_of_name(state: &State, name: &str, kind: RecordType) -> Said {
    let refuse = |why| {
        let refusal = Refusal {
            name: Some(name.to_owned()),
            address: None,
            port: None,
            why,
            count: 1,
        };
        state.refusals.record(refusal);
    };
    // Not REFUSED: a C library asks again and again, and then says "temporary failure".
    if let Err(why) = state.dialler.check_name(name, &state.in_force().policy) {
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
        // The job's way out is IPv4 only, also to hosts that have IPv6 addresses only.
        Ok(()) if kind == RecordType::AAAA => Said::Nothing,
        Ok(()) => state.names.address_for(name).map_or_else(
            |Full| {
                refuse(Reason::TooManyNames);
                Said::Code(ResponseCode::ServFail)
            },
            Said::Address,
        ),
    }
}

/// So many in a second and no more.
struct Pace {
    per_second_max: u32,
    second_began: Instant,
    count: u32,
}

impl Pace {
    fn new(per_second_max: u32) -> Self {
        Self {
            per_second_max: per_second_max.max(1),
            second_began: Instant::now(),
            count: 0,
        }
    }

    async fn wait(&mut self) {
        let second_ends = self.second_began + Duration::from_secs(1);
        if self.count >= self.per_second_max {
            sleep_until(second_ends).await;
        }
        if Instant::now() >= second_ends {
            self.second_began = Instant::now();
            self.count = 0;
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn questions_over_the_rate_wait() {
        let began = Instant::now();
        let mut pace = Pace::new(10);
        for _ in 0..35 {
            pace.wait().await;
        }
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
