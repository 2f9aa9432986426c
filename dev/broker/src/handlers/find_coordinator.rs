//! `FindCoordinator`: the node that coordinates a group. librdkafka disables LZ4 unless version 0 of it is supported.

use kafka_protocol::{
    error::ResponseError,
    messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator},
    protocol::StrBytes,
};

use crate::{cluster::Node, request::RequestContext};

/// Key types; share groups are KIP-932.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Version 4 added several keys in one request.
pub(super) fn handle(context: &RequestContext<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default();
    if context.version < 4 {
        let coordinator = find(context, request.key_type, request.key);
        return response
            .with_error_code(coordinator.error_code)
            .with_error_message(coordinator.error_message)
            .with_node_id(coordinator.node_id)
            .with_host(coordinator.host)
            .with_port(coordinator.port);
    }
    let keys = request.coordinator_keys.into_iter();
    response.with_coordinators(keys.map(|key| find(context, request.key_type, key)).collect())
}

fn find(context: &RequestContext<'_>, key_type: i8, key: StrBytes) -> Coordinator {
    let coordinator = match find_node(context, key_type, &key) {
        Ok(node) => {
            let (id, host, port) = context.broker(&node);
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

fn find_node(context: &RequestContext<'_>, key_type: i8, key: &str) -> Result<Node, ResponseError> {
    context.check_fault()?;
    match key_type {
        GROUP => context
            .cluster
            .coordinator(key)
            .ok_or(ResponseError::CoordinatorNotAvailable),
        // There are no transactions and no share groups.
        TRANSACTION => Err(ResponseError::CoordinatorNotAvailable),
        SHARE if context.version >= 6 => Err(ResponseError::CoordinatorNotAvailable),
        _ => Err(ResponseError::InvalidRequest),
    }
}
