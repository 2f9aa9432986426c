//! `ListGroups`: the groups that this node coordinates.

use kafka_protocol::{
    messages::{GroupId, ListGroupsRequest, ListGroupsResponse, list_groups_response::ListedGroup},
    protocol::StrBytes,
};

use crate::{call::Call, groups::Group};

/// Lists the groups in the states and of the types asked for, in any case of the letters.
pub(crate) fn answer(call: &Call<'_>, request: &ListGroupsRequest) -> ListGroupsResponse {
    let response = ListGroupsResponse::default().with_throttle_time_ms(call.throttle_ms());
    if let Err(error) = call.admit() {
        return response.with_error_code(error.code());
    }
    let groups = call
        .cluster
        .groups
        .all(&call.cluster.view(), |(id, group)| list(id, group));
    let here = |group: &ListedGroup| {
        let coordinator = call.cluster.coordinator(&group.group_id);
        coordinator.is_some_and(|node| node.id == call.node)
    };
    let groups = groups.into_iter().filter(|group| {
        here(group)
            && asked_for(&request.states_filter, &group.group_state)
            && asked_for(&request.types_filter, &group.group_type)
    });
    response.with_groups(groups.collect())
}

fn list(id: &str, group: &Group) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(id.to_owned())))
        .with_protocol_type(StrBytes::from_static_str(group.protocol()))
        .with_group_state(StrBytes::from_static_str(group.state()))
        .with_group_type(StrBytes::from_static_str(group.kind()))
}

fn asked_for(filter: &[StrBytes], what: &str) -> bool {
    filter.is_empty() || filter.iter().any(|asked| asked.trim().eq_ignore_ascii_case(what))
}
