//! Topics that have to be there before what uses them.

use anyhow::Result;
use rskafka::client::{
    Client,
    error::{Error, ProtocolError},
};

/// How long Kafka may take over it.
const LIMIT_MS: i32 = 5_000;

/// Creates a topic with so many partitions unless it is there.
pub(crate) async fn create(client: &Client, name: &str, partitions: i32) -> Result<()> {
    match client
        .controller_client()?
        .create_topic(name, partitions, -1, LIMIT_MS)
        .await
    {
        Ok(())
        | Err(Error::ServerError {
            protocol_error: ProtocolError::TopicAlreadyExists,
            ..
        }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
