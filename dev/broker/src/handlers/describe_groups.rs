//! `DescribeGroups` describes classic groups, which have committed offsets but no members.

use kafka_protocol::{
    error::ResponseError,
    messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId, describe_groups_response::DescribedGroup},
    protocol::StrBytes,
};

use crate::{groups::Group, request::RequestContext};

/// An unknown group is dead; since version 6 it is an error as well (KIP-1043).
pub(super) fn handle(context: &RequestContext<'_>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| describe(context, id));
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn describe(context: &RequestContext<'_>, id: GroupId) -> DescribedGroup {
    let described = DescribedGroup::default();
    let state = |group: &Group| group.consumer_group.is_none().then(|| group.state());
    let found = context
        .check_coordinator(&id)
        .and_then(|()| context.cluster.groups.with(&id, &context.cluster.snapshot(), state))
        .and_then(|state| state.ok_or(ResponseError::GroupIdNotFound));
    let described = match found {
        Ok(state) => described.with_group_state(StrBytes::from_static_str(state)),
        Err(ResponseError::GroupIdNotFound) => {
            let dead = described.with_group_state(StrBytes::from_static_str("Dead"));
            if context.version < 6 {
                dead
            } else {
                let error = ResponseError::GroupIdNotFound;
                dead.with_error_code(error.code())
                    .with_error_message(Some(StrBytes::from_string(error.to_string())))
            }
        }
        Err(error) => described.with_error_code(error.code()),
    };
    described.with_group_id(id)
}
