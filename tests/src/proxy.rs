//! TCP proxy whose network can be made bad while it runs.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

/// Maximum number of chunks on their way in one direction of a connection; beyond it the sender has to wait, as with
/// TCP.
const ON_THE_WAY: usize = 64;

/// Proxy that listens on a port of its own and forwards to a target. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

/// Faults of the network from now on, in both directions unless a field says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Delay of bytes.
    pub latency: Duration,
    /// No bytes arrive at the target. They are not lost: as with TCP, they arrive when this ends.
    pub block_to_target: bool,
    /// No bytes arrive at the client.
    pub block_to_client: bool,
    /// New connections are reset.
    pub refuse: bool,
}

/// Counts of the faults so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub accepted: u64,
    /// Connections that met [`Weather::refuse`], or a target that refused them.
    pub refused: u64,
    /// Connections that were reset by [`Proxy::reset_all`] or [`Proxy::retarget`].
    pub reset: u64,
    /// Connections that [`Proxy::half_open`] left open and dead.
    pub half_open: u64,
    /// Chunks that had to wait for a blocked direction.
    pub held: u64,
    /// Chunks that arrived late.
    pub delayed: u64,
}

#[derive(Debug)]
struct Shared {
    weather: watch::Sender<Weather>,
    target: Mutex<SocketAddr>,
    connections: Mutex<HashMap<u64, watch::Sender<Fate>>>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    half_open: AtomicU64,
    held: AtomicU64,
    delayed: AtomicU64,
}

/// State of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Forwarded,
    Reset,
    Silent,
}

#[derive(Clone, Copy)]
enum Direction {
    ToTarget,
    ToClient,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let shared = Arc::new(Shared {
            weather: watch::Sender::default(),
            target: Mutex::new(target),
            connections: Mutex::default(),
            counters: Counters::default(),
        });
        let addr = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { addr, shared, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Address that clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// Makes the network good again. Connections that [`Proxy::half_open`] left dead stay dead.
    pub fn heal(&self) {
        self.set(Weather::default());
    }

    /// Resets every connection; returns how many.
    pub fn reset_all(&self) -> u64 {
        let reset = self.decide(Fate::Reset);
        self.shared.counters.reset.fetch_add(reset, Ordering::Relaxed);
        reset
    }

    /// Lets the peer of every present connection vanish silently: the sockets stay open, and nothing passes any more,
    /// not even an end. New connections work. Returns the number of connections.
    pub fn half_open(&self) -> u64 {
        let silent = self.decide(Fate::Silent);
        self.shared.counters.half_open.fetch_add(silent, Ordering::Relaxed);
        silent
    }

    /// Sends new connections to `target`, and resets the present ones.
    pub fn retarget(&self, target: SocketAddr) {
        *self.shared.target.lock() = target;
        self.reset_all();
    }

    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            accepted: read(&counters.accepted),
            refused: read(&counters.refused),
            reset: read(&counters.reset),
            half_open: read(&counters.half_open),
            held: read(&counters.held),
            delayed: read(&counters.delayed),
        }
    }

    fn decide(&self, fate: Fate) -> u64 {
        let connections = self.shared.connections.lock();
        let alive = connections.values().filter(|it| it.send_if_modified(|now| now.is_changed_to(fate)));
        alive.count() as u64
    }
}

impl Fate {
    /// Changes the state of a connection that is still forwarded; others keep theirs.
    fn is_changed_to(&mut self, fate: Self) -> bool {
        let changes = *self == Self::Forwarded;
        if changes {
            *self = fate;
        }
        changes
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for id in 0.. {
        let Ok((client, _)) = listener.accept().await else { continue };
        count(&shared.counters.accepted);
        // The connection is registered before any fault can be decided for it.
        let fate = watch::Sender::new(Fate::Forwarded);
        let decided = fate.subscribe();
        shared.connections.lock().insert(id, fate);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            serve(&shared, client, decided).await;
            shared.connections.lock().remove(&id);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(shared: &Shared, mut client: TcpStream, mut fate: watch::Receiver<Fate>) {
    let target = *shared.target.lock();
    let connected = if shared.weather.borrow().refuse { None } else { TcpStream::connect(target).await.ok() };
    let Some(mut server) = connected else {
        count(&shared.counters.refused);
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let forwarding = async {
            tokio::try_join!(
                forward(shared, Direction::ToTarget, from_client, to_server),
                forward(shared, Direction::ToClient, from_server, to_client)
            )
        };
        tokio::select! {
            biased;
            Ok(decided) = fate.wait_for(|fate| *fate != Fate::Forwarded) => Err(*decided),
            ended = forwarding => Ok(ended.is_ok()),
        }
    };
    match ended {
        Ok(true) => {}
        // A connection that breaks on one side is reset on the other.
        Ok(false) | Err(Fate::Reset | Fate::Forwarded) => {
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
        // The kernel goes on answering for both: only silence on the connection itself gives it away.
        Err(Fate::Silent) => std::future::pending().await,
    }
}

/// Forwards one direction until the sender has ended its half of the connection and all bytes have arrived.
async fn forward(
    shared: &Shared,
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> io::Result<()> {
    let (sent, mut on_the_way) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let sending = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            let due = Instant::now() + shared.weather.borrow().latency;
            if read == 0 || sent.send((due, buffer[..read].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let arriving = async {
        while let Some((due, bytes)) = on_the_way.recv().await {
            shared.passes(direction, due).await;
            to.write_all(&bytes).await?;
        }
        // The end of a connection is delayed and blocked as bytes are.
        shared.passes(direction, Instant::now()).await;
        to.shutdown().await
    };
    tokio::try_join!(sending, arriving).map(drop)
}

impl Shared {
    async fn passes(&self, direction: Direction, due: Instant) {
        if due > Instant::now() {
            count(&self.counters.delayed);
            tokio::time::sleep_until(due).await;
        }
        let mut weather = self.weather.subscribe();
        let is_open = |weather: &Weather| match direction {
            Direction::ToTarget => !weather.block_to_target,
            Direction::ToClient => !weather.block_to_client,
        };
        if !is_open(&weather.borrow_and_update()) {
            count(&self.counters.held);
            let _ = weather.wait_for(is_open).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Server that answers every byte with itself plus `add`.
    async fn echo(add: u8) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        stream.write_u8(byte.wrapping_add(add)).await.unwrap();
                    }
                });
            }
        });
        addr
    }

    async fn ask(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
        stream.write_u8(byte).await?;
        stream.read_u8().await
    }

    async fn until(proxy: &Proxy, what: impl Fn(Counts) -> bool) {
        let waiting = async {
            while !what(proxy.counts()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn bytes_and_ends_pass_in_good_weather() {
        let proxy = Proxy::start(echo(1).await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(ask(&mut stream, 7).await.unwrap(), 8);
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the echo ends when it reads an end");
        assert_eq!(proxy.counts(), Counts { accepted: 1, ..Counts::default() });
    }

    #[tokio::test]
    async fn late_bytes_arrive_late_and_in_order() {
        let proxy = Proxy::start(echo(0).await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        let latency = Duration::from_millis(30);
        proxy.set(Weather { latency, ..Weather::default() });
        let started = Instant::now();
        let sent: Vec<u8> = (0..=255).collect();
        stream.write_all(&sent).await.unwrap();
        let mut received = vec![0; sent.len()];
        stream.read_exact(&mut received).await.unwrap();
        assert_eq!(received, sent);
        assert!(started.elapsed() >= 2 * latency, "{:?}", started.elapsed());
        assert!(proxy.counts().delayed >= 2);
    }

    #[tokio::test]
    async fn a_reset_is_one_for_both_sides_and_new_connections_work() {
        let proxy = Proxy::start(echo(0).await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        ask(&mut stream, 1).await.unwrap();
        assert_eq!(proxy.reset_all(), 1);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(ask(&mut stream, 2).await.unwrap(), 2);
        assert_eq!(proxy.counts().reset, 1);
    }

    #[tokio::test]
    async fn a_blocked_direction_holds_what_is_sent_and_the_other_one_works() {
        for (weather, arrives) in [
            (Weather { block_to_target: true, ..Weather::default() }, false),
            (Weather { block_to_client: true, ..Weather::default() }, true),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
            let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
            let (mut target, _) = listener.accept().await.unwrap();
            proxy.set(weather);
            client.write_u8(1).await.unwrap();
            target.write_u8(2).await.unwrap();
            until(&proxy, |counts| counts.held == 1).await;
            let (open, blocked) = if arrives { (&mut target, &mut client) } else { (&mut client, &mut target) };
            assert!(open.read_u8().await.is_ok());
            assert_eq!(blocked.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            proxy.heal();
            assert!(blocked.read_u8().await.is_ok(), "what was held arrives");
        }
    }

    #[tokio::test]
    async fn half_open_connections_stay_dead_and_new_ones_work() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut target, _) = listener.accept().await.unwrap();
        client.write_u8(1).await.unwrap();
        assert_eq!(target.read_u8().await.unwrap(), 1);
        assert_eq!(proxy.half_open(), 1);
        assert_eq!(proxy.half_open(), 0, "it is dead already");
        assert_eq!(proxy.reset_all(), 0, "the dead tell nothing");
        proxy.heal();
        client.write_u8(2).await.unwrap();
        client.shutdown().await.unwrap();
        let mut next = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut next_target, _) = listener.accept().await.unwrap();
        next.write_u8(3).await.unwrap();
        assert_eq!(next_target.read_u8().await.unwrap(), 3);
        // The byte of the dead connection was sent before this one's, and neither it nor the end has arrived.
        assert_eq!(target.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(proxy.counts().half_open, 1);
    }

    #[tokio::test]
    async fn refused_connections_are_reset() {
        let proxy = Proxy::start(echo(0).await).await.unwrap();
        proxy.set(Weather { refuse: true, ..Weather::default() });
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert!(ask(&mut stream, 1).await.is_err());
        assert_eq!(proxy.counts().refused, 1);
        proxy.heal();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_new_target_gets_the_new_connections() {
        let proxy = Proxy::start(echo(1).await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 2);
        proxy.retarget(echo(10).await);
        assert!(stream.read_u8().await.is_err(), "the old connection is over");
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 11);
    }
}
