//! The positions of groups: what is committed, and who may.

use e2e::{
    engine::Engine,
    wait::{SOON, until_eq},
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetFetchResponse,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
};

use super::{
    script::{Script, compare},
    wire::{Wire, beat, group, join, text, topic},
};

/// A commit of nobody in particular: partitions and offsets.
pub(super) fn commit(id: &str, name: &str, positions: &[(i32, i64)]) -> OffsetCommitRequest {
    let partitions = positions.iter().map(|(index, offset)| {
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

/// The partitions of each topic in order, with their errors.
pub(super) fn committed(response: &OffsetCommitResponse) -> String {
    let topics = response.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|it| (topic.name.as_str(), it.partition_index, it.error_code))
    });
    let mut all: Vec<_> = topics.collect();
    all.sort_unstable();
    format!("{all:?}")
}

/// A question for positions; for all of them, if no partitions are named.
fn ask(version: i16, id: &str, asked: Option<(&str, &[i32])>) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default();
    if version < 8 {
        let topics = asked.map(|(name, indexes)| {
            let topic = OffsetFetchRequestTopic::default().with_name(topic(name));
            vec![topic.with_partition_indexes(indexes.to_vec())]
        });
        return request.with_group_id(group(id)).with_topics(topics);
    }
    request.with_groups(vec![ask_group(id, asked)])
}

/// The same for one of several groups.
pub(super) fn ask_group(id: &str, asked: Option<(&str, &[i32])>) -> OffsetFetchRequestGroup {
    let topics = asked.map(|(name, indexes)| {
        let topic = OffsetFetchRequestTopics::default().with_name(topic(name));
        vec![topic.with_partition_indexes(indexes.to_vec())]
    });
    OffsetFetchRequestGroup::default()
        .with_group_id(group(id))
        .with_topics(topics)
}

/// All positions in order, and all errors.
pub(super) fn positions(response: &OffsetFetchResponse) -> String {
    let mut all = vec![];
    for topic in &response.topics {
        for it in &topic.partitions {
            let position = (it.committed_offset, it.committed_leader_epoch, it.metadata.as_deref());
            let place = (topic.name.as_str(), it.partition_index);
            all.push(format!("{place:?} {position:?} {}", it.error_code));
        }
    }
    for group in &response.groups {
        all.push(format!("{} {}", group.group_id.as_str(), group.error_code));
        for topic in &group.topics {
            for it in &topic.partitions {
                let position = (it.committed_offset, it.committed_leader_epoch, it.metadata.as_deref());
                let place = (group.group_id.as_str(), topic.name.as_str(), it.partition_index);
                all.push(format!("{place:?} {position:?} {}", it.error_code));
            }
        }
    }
    all.sort_unstable();
    format!("{} {all:?}", response.error_code)
}

pub(crate) async fn of_positions(built_in: &Engine, kafka: &Engine) {
    compare(built_in, kafka, async |script| {
        let name = script.topic.clone();
        script.create(&name, 3, -1).await;
        script.until_known(3).await;
        for index in 0..3 {
            script.partition(index).await;
        }
        let id = name.as_str();
        let mut wire = Wire::to_coordinator(&script.brokers, id).await;

        of_nobody(script, &mut wire, id).await;
        of_strangers(script, &mut wire, id).await;
        of_members(script, &mut wire, id).await;
        that_go(script, &mut wire, id).await;
    })
    .await;
}

/// In every version, and with everything that can be wrong with them.
async fn of_nobody(script: &mut Script, wire: &mut Wire, id: &str) {
    for version in 1..=9 {
        let response = wire.call(version, &ask(version, id, Some((id, &[0, 7])))).await;
        script.say(&format!("no positions v{version}"), &positions(&response));
    }
    for version in 2..=9 {
        let mut request = commit(id, id, &[(0, i64::from(version)), (1, 0), (3, 1), (-1, 1)]);
        if version >= 6 {
            request.topics[0].partitions[0].committed_leader_epoch = 5;
        }
        request.topics[0].partitions[1].committed_metadata = None;
        let response = wire.call(version, &request).await;
        script.say(&format!("commit v{version}"), &committed(&response));
        for version in [1, 2, 5, 7, 8, 9] {
            let response = wire.call(version, &ask(version, id, Some((id, &[0, 1, 2, 3])))).await;
            script.say(&format!("positions v{version}"), &positions(&response));
            if version > 1 {
                let response = wire.call(version, &ask(version, id, None)).await;
                script.say(&format!("all positions v{version}"), &positions(&response));
            }
        }
    }
    for metadata in [0, 4096, 4097] {
        let mut request = commit(id, id, &[(2, 3), (1, 4)]);
        request.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(metadata)));
        let response = wire.call(9, &request).await;
        script.say(&format!("commit with {metadata} bytes"), &committed(&response));
    }
    for offset in [-1, -2, i64::MAX] {
        let response = wire.call(9, &commit(id, id, &[(2, offset)])).await;
        script.say(&format!("commit {offset}"), &committed(&response));
        let response = wire.call(9, &ask(9, id, Some((id, &[2])))).await;
        script.say(&format!("after {offset}"), &positions(&response));
    }
    let mut several = commit(id, id, &[(0, 9)]);
    several.topics.extend(commit(id, "not-there", &[(0, 1), (1, 1)]).topics);
    script.say("commit to two topics", &committed(&wire.call(9, &several).await));
    let unknown = ask(9, id, Some(("not-there", &[0])));
    script.say("positions in no topic", &positions(&wire.call(9, &unknown).await));
    let groups = vec![
        ask_group(id, None),
        ask_group("not-there", None),
        ask_group("not-there-either", Some((id, &[0]))),
    ];
    let request = OffsetFetchRequest::default().with_groups(groups);
    for version in [8, 9] {
        let response = wire
            .call(version, &request.clone().with_require_stable(version == 9))
            .await;
        script.say(&format!("positions of several v{version}"), &positions(&response));
    }
    for version in [5, 6] {
        let request = DescribeGroupsRequest::default().with_groups(vec![group(id), group("not-there")]);
        let response = wire.call(version, &request).await;
        let groups = response.groups.iter();
        let groups = groups.map(|it| (it.error_code, it.group_state.to_string(), it.protocol_type.to_string()));
        script.say(
            &format!("describe v{version}"),
            &format!("{:?}", groups.collect::<Vec<_>>()),
        );
    }
}

/// Who says that they are a member of a group that has none, or that is not there.
async fn of_strangers(script: &mut Script, wire: &mut Wire, id: &str) {
    for version in [8, 9] {
        for there in [id, "not-there"] {
            for (member, epoch) in [("", 0), ("", 1), ("x", -1), ("x", 1), ("x", -2)] {
                // Nobody in particular would make the group.
                if there != id && epoch < 0 {
                    continue;
                }
                let request = commit(there, id, &[(1, 8)])
                    .with_member_id(text(member))
                    .with_generation_id_or_member_epoch(epoch);
                let response = wire.call(version, &request).await;
                let what = format!("commit of {member:?}, {epoch} v{version}, in it: {}", there == id);
                script.say(&what, &committed(&response));
            }
        }
    }
    for (member, epoch) in [(None, -1), (Some(""), -1), (Some("x"), 1)] {
        let asked = ask_group(id, None)
            .with_member_id(member.map(text))
            .with_member_epoch(epoch);
        let response = wire
            .call(9, &OffsetFetchRequest::default().with_groups(vec![asked]))
            .await;
        script.say(&format!("positions for {member:?}, {epoch}"), &positions(&response));
    }
}

/// Of a group with a member.
async fn of_members(script: &mut Script, wire: &mut Wire, id: &str) {
    let joined = wire.call(1, &join(id, "one", &[id])).await;
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
            let response = wire.call(version, &request).await;
            script.say(
                &format!("commit of {member:?}, {epoch} v{version}"),
                &committed(&response),
            );
            let asked = ask_group(id, None);
            let asked = if version == 9 {
                asked.with_member_id(Some(text(member))).with_member_epoch(epoch)
            } else {
                asked
            };
            let request = OffsetFetchRequest::default().with_groups(vec![asked]);
            let response = wire.call(version, &request).await;
            script.say(
                &format!("positions for {member:?}, {epoch} v{version}"),
                &positions(&response),
            );
        }
    }
    script.say("delete a position in use", &forgotten(wire, id, id, &[0]).await);
    let left = wire.call(1, &beat(id, "one", -1)).await;
    script.say("leave", &format!("{} {}", left.error_code, left.member_epoch));
    let response = wire.call(9, &commit(id, id, &[(0, 1)])).await;
    script.say("commit when all have left", &committed(&response));
}

/// With what they belong to.
async fn that_go(script: &mut Script, wire: &mut Wire, id: &str) {
    script.say("delete positions", &forgotten(wire, id, id, &[0, 0, 2, 9]).await);
    script.say(
        "delete positions in no topic",
        &forgotten(wire, id, "not-there", &[0]).await,
    );
    script.say(
        "delete positions of no group",
        &forgotten(wire, "not-there", id, &[0]).await,
    );
    let all = wire.call(9, &ask(9, id, None)).await;
    script.say("what is left", &positions(&all));

    let name = script.topic.clone();
    script.delete(&name).await;
    let nothing = format!("0 {:?}", [format!("{id} 0")]);
    until_eq("no positions in what is gone", SOON, nothing, async || {
        positions(&wire.call(9, &ask(9, id, None)).await)
    })
    .await;
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(id), group("not-there")]);
    for version in [1, 2] {
        let response = wire.call(version, &delete).await;
        let mut codes: Vec<_> = response.results.iter().map(|it| it.error_code).collect();
        codes.sort_unstable();
        script.say(&format!("delete groups v{version}"), &format!("{codes:?}"));
    }
}

async fn forgotten(wire: &mut Wire, id: &str, name: &str, partitions: &[i32]) -> String {
    let partitions = partitions.iter();
    let partitions = partitions.map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic(name))
        .with_partitions(partitions.collect());
    let request = OffsetDeleteRequest::default()
        .with_group_id(group(id))
        .with_topics(vec![topic]);
    let response = wire.call(0, &request).await;
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let mut codes: Vec<_> = partitions.map(|it| (it.partition_index, it.error_code)).collect();
    codes.sort_unstable();
    codes.dedup();
    format!("{} {codes:?}", response.error_code)
}
