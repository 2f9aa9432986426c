//! `DescribeGroups`: groups of the classic type, of which there are only simple ones: without members.

use kafka_protocol::{
    error::ResponseError,
    messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId, describe_groups_response::DescribedGroup},
    protocol::StrBytes,
};

use crate::{call::Call, groups::Group};

/// Describes each group by itself. One that is not there is dead, and an error from version 6 on (KIP-1043).
pub(crate) fn answer(call: &Call<'_>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| one(call, id));
    let groups = groups.collect();
    DescribeGroupsResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_groups(groups)
}

fn one(call: &Call<'_>, id: GroupId) -> DescribedGroup {
    let described = DescribedGroup::default();
    let state = |group: &Group| group.membership.is_none().then(|| group.state());
    let found = call
        .admit_group(&id)
        .and_then(|()| call.cluster.groups.with(&id, &call.cluster.view(), state))
        .and_then(|state| state.ok_or(ResponseError::GroupIdNotFound));
    let described = match found {
        Ok(state) => described.with_group_state(StrBytes::from_static_str(state)),
        Err(ResponseError::GroupIdNotFound) => {
            let dead = described.with_group_state(StrBytes::from_static_str("Dead"));
            if call.version < 6 {
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
