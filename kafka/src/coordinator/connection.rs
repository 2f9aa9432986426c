//! A connection to one broker, with one call at a time.
//!
//! A caller that cancels a call must drop the connection too: the next call would get its answer.

use std::collections::BTreeMap;

use bytes::Buf;
use kafka_protocol::{
    error::ResponseError,
    messages::{ApiVersionsRequest, ApiVersionsResponse},
    protocol::StrBytes,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, ToSocketAddrs},
};

use super::{
    calls::Call,
    error::{Error, InvalidResponse},
    frame,
};

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    client_id: &'static str,
    correlation: i32,
    /// The first and last version of each call that the broker supports.
    versions: BTreeMap<i16, (i16, i16)>,
}

// === impl Connection ===

impl Connection {
    /// Connects, and asks the broker for its versions.
    pub(crate) async fn open(broker: impl ToSocketAddrs, client_id: &'static str) -> Result<Self, Error> {
        let stream = TcpStream::connect(broker).await?;
        // Requests are small, and the caller waits for each answer.
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            client_id,
            correlation: 0,
            versions: BTreeMap::new(),
        };
        // The client's software and version, by KIP-511.
        let call = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(client_id))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        connection.versions = connection.ask_versions(&call).await?;
        Ok(connection)
    }

    /// Makes one call. After an error the connection must not be used again.
    pub(crate) async fn call<C: Call>(&mut self, call: &C) -> Result<C::Answer, Error> {
        let supported = self.versions.get(&(C::KEY as i16));
        let version = supported.and_then(|(min, max)| {
            let newest = *max.min(C::VERSIONS.end());
            (newest >= *min.max(C::VERSIONS.start())).then_some(newest)
        });
        let version = version.ok_or_else(C::unsupported)?;
        let answer = self.exchange(call, version).await?;
        frame::decode(answer, version, self.correlation)
    }

    async fn ask_versions(&mut self, call: &ApiVersionsRequest) -> Result<BTreeMap<i16, (i16, i16)>, Error> {
        let version = *ApiVersionsRequest::VERSIONS.end();
        let answer = self.exchange(call, version).await?;
        // A broker without this version answers in version 0. Correlation id and error code come first in both.
        let code = answer
            .get(size_of::<i32>()..)
            .and_then(|mut body| body.try_get_i16().ok());
        if code.and_then(ResponseError::try_from_code) == Some(ResponseError::UnsupportedVersion) {
            return Err(ApiVersionsRequest::unsupported());
        }
        let answer: ApiVersionsResponse = frame::decode(answer, version, self.correlation)?;
        match ResponseError::try_from_code(answer.error_code) {
            None if answer.api_keys.is_empty() => Err(InvalidResponse::Field("the list of versions").into()),
            None => Ok(answer
                .api_keys
                .iter()
                .map(|api| (api.api_key, (api.min_version, api.max_version)))
                .collect()),
            Some(code) => Err(Error::ErrorCode(code)),
        }
    }

    async fn exchange<C: Call>(&mut self, call: &C, version: i16) -> Result<bytes::Bytes, Error> {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = frame::encode(call, version, self.correlation, self.client_id)?;
        self.stream.write_all(&frame).await?;
        frame::read(&mut self.stream).await
    }
}
