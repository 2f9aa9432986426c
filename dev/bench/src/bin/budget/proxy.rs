//! A proxy in front of the broker that counts the traffic of each client, and can hold back responses.
//!
//! It reads the beginning of Kafka's request header (version 1): length, API key, API version, correlation id, client id.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

const API_KEY_PRODUCE: [u8; 2] = [0, 0];

/// After API key, API version and correlation id.
const CLIENT_ID_OFFSET: usize = 2 + 2 + 4;

/// The traffic of a client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Of Kafka's protocol, in both directions.
    pub(crate) bytes: usize,
    pub(crate) produce_requests: usize,
}

/// Runs as long as its runtime.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    broker: SocketAddr,
    /// By client id.
    traffic: Arc<Mutex<BTreeMap<String, Traffic>>>,
    forwards_responses: watch::Sender<bool>,
}

// === impl Proxy ===

impl Proxy {
    pub(crate) fn spawn(listener: TcpListener, broker: SocketAddr) -> Self {
        let proxy = Self {
            broker,
            traffic: Arc::default(),
            forwards_responses: watch::Sender::new(true),
        };
        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // The client sees a broken connection itself.
                tokio::spawn(accepting.clone().serve(client));
            }
        });
        proxy
    }

    pub(crate) fn traffic(&self, client_id: &str) -> Traffic {
        self.traffic.lock().get(client_id).copied().unwrap_or_default()
    }

    /// `false` holds back all responses.
    pub(crate) fn forward_responses(&self, forwards: bool) {
        self.forwards_responses.send_replace(forwards);
    }

    async fn serve(self, client: TcpStream) -> Result<()> {
        let broker = TcpStream::connect(self.broker).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let (mut from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        let first = read_request(&mut from_client).await?;
        let id = client_id(&first).context("no client id")?;
        tokio::select! {
            ended = self.requests(&id, first, from_client, to_broker) => ended,
            ended = self.responses(&id, from_broker, to_client) => ended,
        }
    }

    async fn requests(
        &self,
        client_id: &str,
        mut request: Vec<u8>,
        mut client: OwnedReadHalf,
        mut broker: OwnedWriteHalf,
    ) -> Result<()> {
        loop {
            let is_produce = request.starts_with(&API_KEY_PRODUCE);
            self.count(client_id, 4 + request.len(), usize::from(is_produce));
            broker.write_u32(u32::try_from(request.len())?).await?;
            broker.write_all(&request).await?;
            request = read_request(&mut client).await?;
        }
    }

    async fn responses(&self, client_id: &str, mut broker: OwnedReadHalf, mut client: OwnedWriteHalf) -> Result<()> {
        let mut forwards = self.forwards_responses.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = broker.read(&mut buffer).await?;
            let bytes = buffer.get(..read).filter(|bytes| !bytes.is_empty());
            let bytes = bytes.context("closed by the broker")?;
            forwards.wait_for(|forwards| *forwards).await?;
            // Before the write: a client that has the response finds it counted.
            self.count(client_id, bytes.len(), 0);
            client.write_all(bytes).await?;
        }
    }

    fn count(&self, client_id: &str, bytes: usize, produce_requests: usize) {
        let mut traffic = self.traffic.lock();
        let traffic = traffic.entry(client_id.to_owned()).or_default();
        traffic.bytes += bytes;
        traffic.produce_requests += produce_requests;
    }
}

/// Without its length.
async fn read_request(client: &mut OwnedReadHalf) -> Result<Vec<u8>> {
    let length = client.read_u32().await?;
    let mut request = vec![0; usize::try_from(length)?];
    client.read_exact(&mut request).await?;
    Ok(request)
}

fn client_id(request: &[u8]) -> Option<String> {
    let (length, rest) = request.get(CLIENT_ID_OFFSET..)?.split_first_chunk()?;
    let id = rest.get(..usize::try_from(i16::from_be_bytes(*length)).ok()?)?;
    Some(String::from_utf8_lossy(id).into_owned())
}
