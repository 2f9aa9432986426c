//! `InitProducerId` for idempotent producers (KIP-98). There are no transactions, so there is nothing to recover: whoever
//! asks gets an id nobody had before, as from Kafka.

use kafka_protocol::{
    error::ResponseError,
    messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId},
};

use crate::call::Call;

/// Gives a fresh producer id.
pub(crate) fn answer(call: &Call<'_>, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default().with_throttle_time_ms(call.throttle_ms());
    let refused = |error: ResponseError| {
        response
            .clone()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        // Not one of the errors that clients try again.
        return refused(ResponseError::InvalidRequest);
    }
    match call.admit() {
        Ok(()) => response
            .clone()
            .with_producer_id(ProducerId(call.cluster.new_producer_id())),
        Err(error) => refused(error),
    }
}
