//! `ApiVersions` responds with the table of served APIs.

use bytes::BytesMut;
use kafka_protocol::{
    error::ResponseError,
    messages::{ApiVersionsResponse, api_versions_response::ApiVersion},
};

use crate::{
    apis::{self, SERVED_APIS, ServedApi},
    request::{RequestContext, RequestError},
};

/// An unsupported version gets a response of version 0 with the supported versions of this API, so that the client can
/// retry (KIP-511).
pub(super) fn handle(context: &RequestContext<'_>) -> Result<BytesMut, RequestError> {
    let response = ApiVersionsResponse::default();
    if context.version < 0 {
        let api_versions = apis::find(context.api as i16).map(version_range);
        let response = response
            .with_error_code(ResponseError::UnsupportedVersion.code())
            .with_api_keys(api_versions.into_iter().collect());
        return context.respond_as(0, &response);
    }
    let response = match context.check_fault() {
        Ok(()) => response.with_api_keys(SERVED_APIS.iter().map(version_range).collect()),
        Err(error) => response.with_error_code(error.code()),
    };
    context.respond(&response)
}

fn version_range(served: &ServedApi) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(served.api as i16)
        .with_min_version(served.advertised_min)
        .with_max_version(served.max)
}
