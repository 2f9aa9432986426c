//! `DeleteGroups`: groups without members, with all they have committed.

use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, delete_groups_response::DeletableGroupResult,
};

use crate::call::Call;

/// Deletes each group by itself.
pub(crate) fn answer(call: &Call<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let deleted = call
            .admit_group(&id)
            .and_then(|()| call.cluster.groups.delete(&id, &call.cluster.view()));
        DeletableGroupResult::default()
            .with_error_code(deleted.map_or_else(|error| error.code(), |()| 0))
            .with_group_id(id)
    });
    let results = results.collect();
    DeleteGroupsResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_results(results)
}
