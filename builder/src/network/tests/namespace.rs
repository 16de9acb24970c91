//! A network namespace like a job's, for tests: a thread that lives in it and runs what it is given.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::op::MessageType;
use hickory_proto::op::OpCode;
use hickory_proto::op::Query;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use hickory_proto::rr::RecordType;
use rustix::thread::UnshareFlags;

use crate::network::Sockets;

type Work = Box<dyn FnOnce() + Send>;

/// The inside of a job. Dropping it ends the thread, and with the last socket the namespace ends.
pub(super) struct Inside(mpsc::Sender<Work>);

impl Inside {
    /// A new namespace in which every IPv4 address is local. Needs root.
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel::<Work>();
        thread::spawn(move || {
            enter_new_namespace();
            while let Ok(work) = receiver.recv() {
                work();
            }
        });
        Self(sender)
    }

    /// Runs `work` in the namespace.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        self.0.send(Box::new(move || drop(sender.send(work())))).unwrap();
        receiver.recv().unwrap()
    }

    /// What PID 1 of a job passes out.
    pub(super) fn sockets(&self, ports: &[u16]) -> Sockets {
        let ports = ports.to_vec();
        self.run(move || Sockets {
            tcp: ports
                .iter()
                .map(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).unwrap().into())
                .collect(),
            dns: UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap().into(),
            attempts: None,
        })
    }

    /// The same, with listeners for IPv6 too.
    pub(super) fn sockets_of_both(&self, ports: &[u16]) -> Sockets {
        let mut sockets = self.sockets(ports);
        let ports = ports.to_vec();
        let more = self.run(move || -> Vec<std::os::fd::OwnedFd> {
            ports
                .iter()
                .map(|port| {
                    let socket = rustix::net::socket(
                        rustix::net::AddressFamily::INET6,
                        rustix::net::SocketType::STREAM,
                        None,
                    )
                    .unwrap();
                    rustix::net::sockopt::set_ipv6_v6only(&socket, true).unwrap();
                    rustix::net::bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port))).unwrap();
                    rustix::net::listen(&socket, 16).unwrap();
                    socket
                })
                .collect()
        });
        sockets.tcp.extend(more);
        sockets
    }

    /// Asks a question over TCP.
    pub(super) fn ask_over_tcp(&self, name: &str, kind: RecordType) -> Message {
        use std::io::Read as _;
        use std::io::Write as _;
        let mut message = Message::new(815, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let question = message.to_vec().unwrap();
        let mut stream = self.connect(Ipv4Addr::new(198, 18, 0, 1).into(), 53);
        let length = u16::try_from(question.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &question].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        Message::from_vec(&answer).unwrap()
    }

    /// A connection as a program of the job makes it.
    pub(super) fn connect(&self, address: IpAddr, port: u16) -> TcpStream {
        let stream = self.run(move || TcpStream::connect(SocketAddr::new(address, port)).unwrap());
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Asks the name server at `server`.
    pub(super) fn ask(&self, server: Ipv4Addr, name: &str, kind: RecordType) -> (ResponseCode, Vec<IpAddr>) {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        let mut host = Name::from_ascii(name).unwrap();
        host.set_fqdn(true);
        message.add_query(Query::query(host, kind));
        let question = message.to_vec().unwrap();
        let answer = self.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // A connected socket takes an answer from the address that it asked, and from no other.
            socket.connect((server, 53)).unwrap();
            socket.send(&question).unwrap();
            let mut answer = vec![0; 4096];
            let length = socket.recv(&mut answer).unwrap();
            answer.truncate(length);
            answer
        });
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!(answer.metadata.id, 4711);
        assert_eq!(answer.queries, message.queries);
        let addresses = answer
            .answers
            .iter()
            .filter_map(|record| record.data.ip_addr())
            .collect();
        (answer.metadata.response_code, addresses)
    }

    /// The address that the job gets for a name.
    pub(super) fn address_of(&self, name: &str) -> IpAddr {
        let (code, addresses) = self.ask(Ipv4Addr::LOCALHOST, name, RecordType::A);
        assert_eq!((code, addresses.len()), (ResponseCode::NoError, 1), "{name}");
        addresses[0]
    }
}

fn enter_new_namespace() {
    #[expect(
        unsafe_code,
        reason = "a test needs a network namespace, which only unshare(2) makes"
    )]
    // SAFETY: CLONE_NEWNET changes the network of this thread alone, which was made for it; no memory and no
    // descriptor table stops being shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["route", "add", "local", "0.0.0.0/0", "dev", "lo"],
        &["-6", "route", "add", "local", "::/0", "dev", "lo"],
    ] {
        #[expect(clippy::disallowed_methods, reason = "iproute2 sets up the test's namespace")]
        let status = std::process::Command::new("ip").args(arguments).status().unwrap();
        assert!(status.success(), "ip {arguments:?}");
    }
}
