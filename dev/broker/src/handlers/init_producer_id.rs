//! `InitProducerId` for idempotent producers (KIP-98). Each request gets an unused producer id, as in Kafka.

use kafka_protocol::{
    error::ResponseError,
    messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId},
};

use crate::request::RequestContext;

pub(super) fn handle(context: &RequestContext<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let result = match request.transactional_id {
        // Transactions are not served. Clients do not retry this error.
        Some(_) => Err(ResponseError::InvalidRequest),
        None => context.check_fault(),
    };
    let response = InitProducerIdResponse::default();
    match result {
        Ok(()) => response.with_producer_id(ProducerId(context.cluster.new_producer_id())),
        Err(error) => response
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}
