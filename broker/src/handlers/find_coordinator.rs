//! `FindCoordinator`: there are no groups yet, so nobody coordinates them. librdkafka takes a broker that does not serve
//! the call at all for one that cannot take LZ4.

use kafka_protocol::{
    error::ResponseError,
    messages::{BrokerId, FindCoordinatorResponse},
};

use crate::call::Call;

/// Says that there is no coordinator, or what a test wants said.
pub(crate) fn answer(call: &Call<'_>) -> FindCoordinatorResponse {
    let error = call.admit().err().unwrap_or(ResponseError::CoordinatorNotAvailable);
    FindCoordinatorResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_error_code(error.code())
        .with_node_id(BrokerId(-1))
        .with_port(-1)
}
