//! `ListGroups`: the groups that this node coordinates.

use kafka_protocol::{
    messages::{GroupId, ListGroupsRequest, ListGroupsResponse, list_groups_response::ListedGroup},
    protocol::StrBytes,
};

use crate::{groups::Group, request::RequestContext};

/// Filters by state and type; filters ignore case.
pub(super) fn handle(context: &RequestContext<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    let response = ListGroupsResponse::default();
    if let Err(error) = context.check_fault() {
        return response.with_error_code(error.code());
    }
    let cluster = context.cluster;
    let groups = cluster.groups.all(&cluster.snapshot(), |(id, group)| list(id, group));
    let is_coordinator = |group: &ListedGroup| {
        let coordinator = cluster.coordinator(&group.group_id);
        coordinator.is_some_and(|node| node.id == context.node)
    };
    let groups = groups.into_iter().filter(|group| {
        is_coordinator(group)
            && matches(&request.states_filter, &group.group_state)
            && matches(&request.types_filter, &group.group_type)
    });
    response.with_groups(groups.collect())
}

fn list(id: &str, group: &Group) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(id.to_owned())))
        .with_protocol_type(StrBytes::from_static_str(group.protocol_type()))
        .with_group_state(StrBytes::from_static_str(group.state()))
        .with_group_type(StrBytes::from_static_str(group.group_type()))
}

fn matches(filter: &[StrBytes], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|allowed| allowed.trim().eq_ignore_ascii_case(value))
}
