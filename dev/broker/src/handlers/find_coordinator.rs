//! `FindCoordinator`: which node to ask about a group. librdkafka takes a broker that does not serve version 0 of it for
//! one that cannot take LZ4.

use kafka_protocol::{
    error::ResponseError,
    messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator},
    protocol::StrBytes,
};

use crate::{call::Call, cluster::Node};

/// The kinds of keys: groups, transactions, and share groups (KIP-932).
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Answers for each key by itself; before version 4 there is one.
pub(crate) fn answer(call: &Call<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default().with_throttle_time_ms(call.throttle_ms());
    if call.version < 4 {
        let one = look_up(call, request.key_type, request.key);
        return response
            .with_error_code(one.error_code)
            .with_error_message(one.error_message)
            .with_node_id(one.node_id)
            .with_host(one.host)
            .with_port(one.port);
    }
    let keys = request.coordinator_keys.into_iter();
    response.with_coordinators(keys.map(|key| look_up(call, request.key_type, key)).collect())
}

fn look_up(call: &Call<'_>, kind: i8, key: StrBytes) -> Coordinator {
    let coordinator = match find(call, kind, &key) {
        Ok(node) => {
            let (id, host, port) = call.located(&node);
            Coordinator::default().with_node_id(id).with_host(host).with_port(port)
        }
        Err(error) => Coordinator::default()
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(error.to_string())))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    };
    coordinator.with_key(key)
}

fn find(call: &Call<'_>, kind: i8, key: &str) -> Result<Node, ResponseError> {
    call.admit()?;
    match kind {
        GROUP => call
            .cluster
            .coordinator(key)
            .ok_or(ResponseError::CoordinatorNotAvailable),
        // Nobody coordinates these.
        TRANSACTION => Err(ResponseError::CoordinatorNotAvailable),
        SHARE if call.version >= 6 => Err(ResponseError::CoordinatorNotAvailable),
        _ => Err(ResponseError::InvalidRequest),
    }
}
