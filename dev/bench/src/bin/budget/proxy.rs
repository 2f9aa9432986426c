//! A proxy in front of the broker that counts what clients send, and can hold back what they get.
//!
//! It reads only what every request of Kafka's protocol begins with: length, API key, API version, correlation id and
//! client id (the request header of version 1).

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::Result;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// The API key of Produce.
const PRODUCE: [u8; 2] = [0, 0];

/// Where the client id begins in a request: after its length, API key, version and correlation id.
const CLIENT_ID_AT: usize = 4 + 2 + 2 + 4;

/// What a client has sent, and been sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Both directions, in bytes of Kafka's protocol.
    pub(crate) bytes: usize,
    /// Produce requests.
    pub(crate) frames: usize,
}

/// A proxy that runs as long as its runtime.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    broker: SocketAddr,
    traffic: Mutex<BTreeMap<Vec<u8>, Traffic>>,
    /// Whether answers pass.
    open: watch::Sender<bool>,
}

// === impl Proxy ===

impl Proxy {
    /// Accepts connections for the broker.
    pub(crate) fn spawn(listener: TcpListener, broker: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            broker,
            traffic: Mutex::default(),
            open: watch::Sender::new(true),
        });
        tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    // A connection that breaks is the client's to see.
                    tokio::spawn(serve(Arc::clone(&shared), client));
                }
            }
        });
        Self { shared }
    }

    /// All traffic of a client so far.
    pub(crate) fn traffic(&self, client_id: &str) -> Traffic {
        let traffic = self.shared.traffic.lock();
        traffic.get(client_id.as_bytes()).copied().unwrap_or_default()
    }

    /// Holds all answers back, or lets them pass.
    pub(crate) fn set_open(&self, open: bool) {
        self.shared.open.send_replace(open);
    }
}

async fn serve(shared: Arc<Shared>, client: TcpStream) -> Result<()> {
    let broker = TcpStream::connect(shared.broker).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let (who, name) = watch::channel(Vec::new());
    tokio::select! {
        ended = requests(&shared, from_client, to_broker, &who) => ended,
        ended = answers(&shared, from_broker, to_client, name) => ended,
    }
}

async fn requests(
    shared: &Shared,
    mut client: OwnedReadHalf,
    mut broker: OwnedWriteHalf,
    who: &watch::Sender<Vec<u8>>,
) -> Result<()> {
    loop {
        let length = client.read_u32().await?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.resize(4 + usize::try_from(length)?, 0);
        client.read_exact(frame.get_mut(4..).unwrap_or_default()).await?;
        let client_id = client_id(&frame).unwrap_or_default().to_vec();
        {
            let mut traffic = shared.traffic.lock();
            let traffic = traffic.entry(client_id.clone()).or_default();
            traffic.bytes += frame.len();
            traffic.frames += usize::from(frame.get(4..6) == Some(&PRODUCE));
        }
        who.send_replace(client_id);
        broker.write_all(&frame).await?;
    }
}

async fn answers(
    shared: &Shared,
    mut broker: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    who: watch::Receiver<Vec<u8>>,
) -> Result<()> {
    let mut open = shared.open.subscribe();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = match broker.read(&mut bytes).await? {
            0 => return Ok(()),
            read => read,
        };
        open.wait_for(|open| *open).await?;
        // Counted before it is written: whoever has the answer finds it counted.
        shared.traffic.lock().entry(who.borrow().clone()).or_default().bytes += read;
        client.write_all(bytes.get(..read).unwrap_or_default()).await?;
    }
}

fn client_id(frame: &[u8]) -> Option<&[u8]> {
    let (length, rest) = frame.get(CLIENT_ID_AT..)?.split_first_chunk()?;
    rest.get(..usize::try_from(i16::from_be_bytes(*length)).ok()?)
}
