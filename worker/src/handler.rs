//! The handlers of a worker, by topic.

use std::{fmt, pin::Pin, sync::Arc};

use crate::{Failure, Reply, Request};

/// What a handler returns.
pub(crate) type Outcome = Result<Reply, Failure>;

type HandlerFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A request topic with its handler. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// A slash and the name of the topic.
    path: Arc<str>,
    /// The name of the topic.
    topic: Arc<str>,
    handler: Handler,
    /// A request without a reply address is answered at the default address, as the contract of `/ping` says.
    pub(crate) has_default_address: bool,
}

/// A handler.
#[derive(Clone)]
pub(crate) enum Handler {
    /// A pure function, which runs where the request was read.
    Inline(Arc<dyn Fn(&Request) -> Outcome + Send + Sync>),
    /// A future, which is spawned on the runtime of the user.
    Spawned(Arc<dyn Fn(Request) -> HandlerFuture + Send + Sync>),
}

// === impl Service ===

impl Service {
    pub(crate) fn new(topic: &str, handler: Handler) -> Self {
        Self {
            path: format!("/{topic}").into(),
            topic: topic.into(),
            handler,
            has_default_address: false,
        }
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(crate) fn path(&self) -> &Arc<str> {
        &self.path
    }

    pub(crate) fn handler(&self) -> &Handler {
        &self.handler
    }
}

// === impl Handler ===

impl Handler {
    pub(crate) fn inline(answer: impl Fn(&Request) -> Outcome + Send + Sync + 'static) -> Self {
        Self::Inline(Arc::new(answer))
    }

    pub(crate) fn spawned<F, R>(handle: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        Self::Spawned(Arc::new(move |request| Box::pin(handle(request))))
    }

    /// Handles a request, wherever the future is polled.
    pub(crate) async fn call(self, request: Request) -> Outcome {
        match self {
            Self::Inline(answer) => answer(&request),
            Self::Spawned(handle) => handle(request).await,
        }
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inline(_) => "Inline(..)",
            Self::Spawned(_) => "Spawned(..)",
        })
    }
}
