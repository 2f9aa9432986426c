//! Offset commits, fetches and deletions, with and without members.

use e2e::{
    engine::Engine,
    wait::{WAIT_LIMIT, until_eq},
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetFetchResponse,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
};

use super::{
    client::{Client, beat, group, join, text, topic},
    script::{Script, compare},
};

/// A commit without a member, of these partitions and offsets.
pub(super) fn commit(id: &str, name: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    let partitions = offsets.iter().map(|(index, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text("note")))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic(name))
        .with_partitions(partitions.collect());
    OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_topics(vec![topic])
}

/// The partitions with their error codes, sorted.
pub(super) fn committed(response: &OffsetCommitResponse) -> String {
    let topics = response.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| (topic.name.as_str(), partition.partition_index, partition.error_code))
    });
    let mut all: Vec<_> = topics.collect();
    all.sort_unstable();
    format!("{all:?}")
}

/// A fetch of committed offsets; of all, if no partitions are named.
fn fetch(version: i16, id: &str, wanted: Option<(&str, &[i32])>) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default();
    if version < 8 {
        let topics = wanted.map(|(name, indexes)| {
            let topic = OffsetFetchRequestTopic::default().with_name(topic(name));
            vec![topic.with_partition_indexes(indexes.to_vec())]
        });
        return request.with_group_id(group(id)).with_topics(topics);
    }
    request.with_groups(vec![fetch_of_group(id, wanted)])
}

/// The part of a fetch for one group.
pub(super) fn fetch_of_group(id: &str, wanted: Option<(&str, &[i32])>) -> OffsetFetchRequestGroup {
    let topics = wanted.map(|(name, indexes)| {
        let topic = OffsetFetchRequestTopics::default().with_name(topic(name));
        vec![topic.with_partition_indexes(indexes.to_vec())]
    });
    OffsetFetchRequestGroup::default()
        .with_group_id(group(id))
        .with_topics(topics)
}

/// The committed offsets and error codes, sorted.
pub(super) fn fetched(response: &OffsetFetchResponse) -> String {
    let mut all = vec![];
    for topic in &response.topics {
        for partition in &topic.partitions {
            let committed = (
                partition.committed_offset,
                partition.committed_leader_epoch,
                partition.metadata.as_deref(),
            );
            let name = (topic.name.as_str(), partition.partition_index);
            all.push(format!("{name:?} {committed:?} {}", partition.error_code));
        }
    }
    for group in &response.groups {
        all.push(format!("{} {}", group.group_id.as_str(), group.error_code));
        for topic in &group.topics {
            for partition in &topic.partitions {
                let committed = (
                    partition.committed_offset,
                    partition.committed_leader_epoch,
                    partition.metadata.as_deref(),
                );
                let name = (group.group_id.as_str(), topic.name.as_str(), partition.partition_index);
                all.push(format!("{name:?} {committed:?} {}", partition.error_code));
            }
        }
    }
    all.sort_unstable();
    format!("{} {all:?}", response.error_code)
}

pub(crate) async fn offsets_match(built_in: &Engine, kafka: &Engine) {
    compare(built_in, kafka, async |script| {
        let name = script.topic.clone();
        script.create(&name, 3, -1).await;
        script.until_known(3).await;
        for index in 0..3 {
            script.partition(index).await;
        }
        let id = name.as_str();
        let mut client = Client::to_coordinator(&script.brokers, id).await;

        without_members(script, &mut client, id).await;
        unknown_members(script, &mut client, id).await;
        one_member(script, &mut client, id).await;
        deletions(script, &mut client, id).await;
    })
    .await;
}

/// All versions, and invalid commits.
async fn without_members(script: &mut Script, client: &mut Client, id: &str) {
    for version in 1..=9 {
        let response = client.call(version, &fetch(version, id, Some((id, &[0, 7])))).await;
        script.say(&format!("no offsets v{version}"), &fetched(&response));
    }
    for version in 2..=9 {
        let mut request = commit(id, id, &[(0, i64::from(version)), (1, 0), (3, 1), (-1, 1)]);
        if version >= 6 {
            request.topics[0].partitions[0].committed_leader_epoch = 5;
        }
        request.topics[0].partitions[1].committed_metadata = None;
        let response = client.call(version, &request).await;
        script.say(&format!("commit v{version}"), &committed(&response));
        for version in [1, 2, 5, 7, 8, 9] {
            let response = client
                .call(version, &fetch(version, id, Some((id, &[0, 1, 2, 3]))))
                .await;
            script.say(&format!("offsets v{version}"), &fetched(&response));
            if version > 1 {
                let response = client.call(version, &fetch(version, id, None)).await;
                script.say(&format!("all offsets v{version}"), &fetched(&response));
            }
        }
    }
    for metadata in [0, 4096, 4097] {
        let mut request = commit(id, id, &[(2, 3), (1, 4)]);
        request.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(metadata)));
        let response = client.call(9, &request).await;
        script.say(&format!("commit with {metadata} bytes"), &committed(&response));
    }
    for offset in [-1, -2, i64::MAX] {
        let response = client.call(9, &commit(id, id, &[(2, offset)])).await;
        script.say(&format!("commit {offset}"), &committed(&response));
        let response = client.call(9, &fetch(9, id, Some((id, &[2])))).await;
        script.say(&format!("after {offset}"), &fetched(&response));
    }
    let mut several = commit(id, id, &[(0, 9)]);
    several.topics.extend(commit(id, "not-there", &[(0, 1), (1, 1)]).topics);
    script.say("commit to two topics", &committed(&client.call(9, &several).await));
    let unknown = fetch(9, id, Some(("not-there", &[0])));
    script.say("offsets in no topic", &fetched(&client.call(9, &unknown).await));
    let groups = vec![
        fetch_of_group(id, None),
        fetch_of_group("not-there", None),
        fetch_of_group("not-there-either", Some((id, &[0]))),
    ];
    let request = OffsetFetchRequest::default().with_groups(groups);
    for version in [8, 9] {
        let response = client
            .call(version, &request.clone().with_require_stable(version == 9))
            .await;
        script.say(&format!("offsets of several v{version}"), &fetched(&response));
    }
    for version in [5, 6] {
        let request = DescribeGroupsRequest::default().with_groups(vec![group(id), group("not-there")]);
        let response = client.call(version, &request).await;
        let groups = response.groups.iter();
        let groups = groups.map(|found| {
            let texts = (found.group_state.to_string(), found.protocol_type.to_string());
            (found.error_code, texts)
        });
        script.say(
            &format!("describe v{version}"),
            &format!("{:?}", groups.collect::<Vec<_>>()),
        );
    }
}

/// Unknown members, in a group without members and in a missing group.
async fn unknown_members(script: &mut Script, client: &mut Client, id: &str) {
    for version in [8, 9] {
        for group in [id, "not-there"] {
            for (member, epoch) in [("", 0), ("", 1), ("x", -1), ("x", 1), ("x", -2)] {
                // A commit without a member would create the group.
                if group != id && epoch < 0 {
                    continue;
                }
                let request = commit(group, id, &[(1, 8)])
                    .with_member_id(text(member))
                    .with_generation_id_or_member_epoch(epoch);
                let response = client.call(version, &request).await;
                let what = format!("commit of {member:?}, {epoch} v{version}, in it: {}", group == id);
                script.say(&what, &committed(&response));
            }
        }
    }
    for (member, epoch) in [(None, -1), (Some(""), -1), (Some("x"), 1)] {
        let wanted = fetch_of_group(id, None)
            .with_member_id(member.map(text))
            .with_member_epoch(epoch);
        let response = client
            .call(9, &OffsetFetchRequest::default().with_groups(vec![wanted]))
            .await;
        script.say(&format!("offsets for {member:?}, {epoch}"), &fetched(&response));
    }
}

/// A group with one member.
async fn one_member(script: &mut Script, client: &mut Client, id: &str) {
    let joined = client.call(1, &join(id, "one", &[id])).await;
    script.say("join", &format!("{} {}", joined.error_code, joined.member_epoch));
    for version in [8, 9] {
        for (member, epoch) in [
            ("", -1),
            ("x", 1),
            ("one", -1),
            ("one", 0),
            ("one", 1),
            ("one", 3),
            ("one", 2),
        ] {
            let request = commit(id, id, &[(0, 20 + i64::from(version)), (1, 5)])
                .with_member_id(text(member))
                .with_generation_id_or_member_epoch(epoch);
            let response = client.call(version, &request).await;
            script.say(
                &format!("commit of {member:?}, {epoch} v{version}"),
                &committed(&response),
            );
            let wanted = fetch_of_group(id, None);
            let wanted = if version == 9 {
                wanted.with_member_id(Some(text(member))).with_member_epoch(epoch)
            } else {
                wanted
            };
            let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
            let response = client.call(version, &request).await;
            script.say(
                &format!("offsets for {member:?}, {epoch} v{version}"),
                &fetched(&response),
            );
        }
    }
    script.say("delete an offset in use", &delete_offsets(client, id, id, &[0]).await);
    let left = client.call(1, &beat(id, "one", -1)).await;
    script.say("leave", &format!("{} {}", left.error_code, left.member_epoch));
    let response = client.call(9, &commit(id, id, &[(0, 1)])).await;
    script.say("commit when all have left", &committed(&response));
}

/// Deletion of offsets, of the topic and of the group.
async fn deletions(script: &mut Script, client: &mut Client, id: &str) {
    script.say("delete offsets", &delete_offsets(client, id, id, &[0, 0, 2, 9]).await);
    script.say(
        "delete offsets in no topic",
        &delete_offsets(client, id, "not-there", &[0]).await,
    );
    script.say(
        "delete offsets of no group",
        &delete_offsets(client, "not-there", id, &[0]).await,
    );
    let all = client.call(9, &fetch(9, id, None)).await;
    script.say("what is left", &fetched(&all));

    let name = script.topic.clone();
    script.delete(&name).await;
    let nothing = format!("0 {:?}", [format!("{id} 0")]);
    until_eq("no offsets of the deleted topic", WAIT_LIMIT, nothing, async || {
        fetched(&client.call(9, &fetch(9, id, None)).await)
    })
    .await;
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(id), group("not-there")]);
    for version in [1, 2] {
        let response = client.call(version, &delete).await;
        let mut codes: Vec<_> = response.results.iter().map(|result| result.error_code).collect();
        codes.sort_unstable();
        script.say(&format!("delete groups v{version}"), &format!("{codes:?}"));
    }
}

async fn delete_offsets(client: &mut Client, id: &str, name: &str, partitions: &[i32]) -> String {
    let partitions = partitions.iter();
    let partitions = partitions.map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic(name))
        .with_partitions(partitions.collect());
    let request = OffsetDeleteRequest::default()
        .with_group_id(group(id))
        .with_topics(vec![topic]);
    let response = client.call(0, &request).await;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let mut codes: Vec<_> = partitions
        .map(|partition| (partition.partition_index, partition.error_code))
        .collect();
    codes.sort_unstable();
    codes.dedup();
    format!("{} {codes:?}", response.error_code)
}
