//! `ApiVersions`: what is served, straight from the table.

use kafka_protocol::{
    error::ResponseError,
    messages::{ApiVersionsResponse, api_versions_response::ApiVersion},
};

use crate::{
    call::{Call, Refused},
    reply::Reply,
    versions::{self, Served},
};

/// Answers with the table. A version nobody knows is answered as version 0 with an error and the versions of this one
/// call, so that the client can ask again (KIP-511).
pub(crate) fn answer(call: &Call<'_>) -> Result<Reply, Refused> {
    if call.version < 0 {
        let mut reply = Reply::new(call.api, 0, call.correlation_id)?;
        let own = versions::TABLE
            .iter()
            .filter(|row| row.api == call.api)
            .map(range)
            .collect();
        let response = ApiVersionsResponse::default();
        let code = ResponseError::UnsupportedVersion.code();
        reply.encode(&response.with_error_code(code).with_api_keys(own))?;
        return Ok(reply);
    }
    let response = match call.admit() {
        Ok(()) => ApiVersionsResponse::default().with_api_keys(versions::TABLE.iter().map(range).collect()),
        Err(error) => ApiVersionsResponse::default().with_error_code(error.code()),
    };
    call.reply(&response.with_throttle_time_ms(call.throttle_ms()))
}

fn range(row: &Served) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(row.api as i16)
        .with_min_version(row.advertised_min)
        .with_max_version(row.max)
}
