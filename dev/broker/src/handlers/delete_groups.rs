//! `DeleteGroups` deletes groups without members, with their committed offsets.

use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, delete_groups_response::DeletableGroupResult,
};

use crate::request::RequestContext;

pub(super) fn handle(context: &RequestContext<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let deleted = context
            .check_coordinator(&id)
            .and_then(|()| context.cluster.groups.delete(&id, &context.cluster.snapshot()));
        DeletableGroupResult::default()
            .with_error_code(deleted.map_or_else(|error| error.code(), |()| 0))
            .with_group_id(id)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}
