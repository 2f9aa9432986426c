//! A TCP proxy that forgets idle flows without a word, as a NAT or a load balancer does.
//!
//! - A flow without a byte in either direction for as long as the limit is forgotten. From then on the proxy drops the bytes
//!   of both sides. Neither side sees a FIN or an RST.
//! - The proxy still acknowledges the bytes that it drops, so TCP alone cannot tell that a flow is forgotten. (A real
//!   middlebox acknowledges nothing.)

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// The bytes that one read takes.
const BUFFER_BYTES: usize = 64 * 1024;

/// A proxy on the loopback, in front of one node. It ends with this value.
#[derive(Debug)]
pub struct ForgettingProxy {
    addr: SocketAddr,
    flows: Arc<Flows>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Flows {
    idle_limit: Duration,
    /// Where to forward to, once it is known.
    node: watch::Sender<Option<String>>,
    /// Changes when all flows are to be forgotten at once.
    forget_all: watch::Sender<()>,
    forgotten: AtomicUsize,
}

// === impl ForgettingProxy ===

impl ForgettingProxy {
    /// Listens on a free port of the loopback. Connections wait for [`ForgettingProxy::forward_to`].
    ///
    /// # Panics
    /// When no port is free.
    pub async fn listen(idle_limit: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a port left");
        let addr = listener.local_addr().expect("it is bound");
        let flows = Arc::new(Flows {
            idle_limit,
            node: watch::Sender::new(None),
            forget_all: watch::Sender::new(()),
            forgotten: AtomicUsize::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&flows)));
        Self {
            addr,
            flows,
            _accepting: accepting,
        }
    }

    /// Forwards all connections to the node at this address.
    pub fn forward_to(&self, node: &str) {
        self.flows.node.send_replace(Some(node.to_owned()));
    }

    /// The address of the proxy.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Forgets all present flows, as a middlebox that restarts.
    pub fn forget_all(&self) {
        self.flows.forget_all.send_replace(());
    }

    /// How many flows were forgotten so far.
    #[must_use]
    pub fn forgotten(&self) -> usize {
        self.flows.forgotten.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, flows: Arc<Flows>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(Arc::clone(&flows).serve(client));
    }
}

// === impl Flows ===

impl Flows {
    /// Forwards until one side closes or the flow is forgotten.
    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        let mut forget_all = self.forget_all.subscribe();
        let mut known = self.node.subscribe();
        // An error means that the proxy has ended.
        let Ok(Some(addr)) = known.wait_for(Option::is_some).await.map(|node| node.clone()) else {
            return;
        };
        // The client sees a closed connection.
        let Ok(mut node) = TcpStream::connect(addr).await else {
            return;
        };
        // Without it, segments would wait for acknowledgements. A failure makes them slow and nothing else.
        let _ = (client.set_nodelay(true), node.set_nodelay(true));
        let (mut to_node, mut to_client) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
        let mut last_byte = Instant::now();
        loop {
            let forwarded = tokio::select! {
                biased;
                () = sleep_until(last_byte + self.idle_limit) => break,
                _ = forget_all.changed() => break,
                read = client.read(&mut to_node) => forward(read.ok(), &to_node, &mut node).await,
                read = node.read(&mut to_client) => forward(read.ok(), &to_client, &mut client).await,
            };
            if forwarded.is_none() {
                return;
            }
            last_byte = Instant::now();
        }
        self.forgotten.fetch_add(1, Ordering::Relaxed);
        tokio::join!(drop_bytes(client), drop_bytes(node));
    }
}

/// `None` when one of the sides has closed.
async fn forward(read: Option<usize>, buffer: &[u8], to: &mut TcpStream) -> Option<()> {
    let bytes = buffer.get(..read?).filter(|bytes| !bytes.is_empty())?;
    to.write_all(bytes).await.ok()
}

/// Reads until this side closes.
async fn drop_bytes(mut side: TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while side.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
