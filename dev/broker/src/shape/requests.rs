//! How the bodies of the served requests are laid out, by
//! <https://github.com/apache/kafka/tree/4.3/clients/src/main/resources/common/message>. Neighbouring fields of a fixed
//! size are one.

use super::{
    Field,
    Kind::{Blob, Fixed, Structs, Text, Values},
    always, between, since, until,
};

pub(crate) const PRODUCE: &[Field] = &[
    always(Text),
    always(Fixed(2 + 4)),
    always(Structs(&[
        until(12, Text),
        since(13, Fixed(16)),
        always(Structs(&[always(Fixed(4)), always(Blob)])),
    ])),
];

pub(crate) const FETCH: &[Field] = &[
    until(14, Fixed(4)),
    always(Fixed(4 + 4 + 4 + 1)),
    since(7, Fixed(4 + 4)),
    always(Structs(&[
        until(12, Text),
        since(13, Fixed(16)),
        always(Structs(&[
            always(Fixed(4)),
            since(9, Fixed(4)),
            always(Fixed(8)),
            since(12, Fixed(4)),
            since(5, Fixed(8)),
            always(Fixed(4)),
        ])),
    ])),
    since(
        7,
        Structs(&[until(12, Text), since(13, Fixed(16)), always(Values(&Fixed(4)))]),
    ),
    since(11, Text),
];

pub(crate) const LIST_OFFSETS: &[Field] = &[
    always(Fixed(4)),
    since(2, Fixed(1)),
    always(Structs(&[
        always(Text),
        always(Structs(&[always(Fixed(4)), since(4, Fixed(4)), always(Fixed(8))])),
    ])),
    since(10, Fixed(4)),
];

pub(crate) const METADATA: &[Field] = &[
    always(Structs(&[since(10, Fixed(16)), always(Text)])),
    since(4, Fixed(1)),
    between(8, 10, Fixed(1)),
    since(8, Fixed(1)),
];

pub(crate) const API_VERSIONS: &[Field] = &[since(3, Text), since(3, Text)];

pub(crate) const CREATE_TOPICS: &[Field] = &[
    always(Structs(&[
        always(Text),
        always(Fixed(4 + 2)),
        always(Structs(&[always(Fixed(4)), always(Values(&Fixed(4)))])),
        always(Structs(&[always(Text), always(Text)])),
    ])),
    always(Fixed(4 + 1)),
];

pub(crate) const DELETE_TOPICS: &[Field] = &[
    since(6, Structs(&[always(Text), always(Fixed(16))])),
    until(5, Values(&Text)),
    always(Fixed(4)),
];

pub(crate) const DELETE_RECORDS: &[Field] = &[
    always(Structs(&[always(Text), always(Structs(&[always(Fixed(4 + 8))]))])),
    always(Fixed(4)),
];

pub(crate) const INIT_PRODUCER_ID: &[Field] = &[always(Text), always(Fixed(4)), since(3, Fixed(8 + 2))];

pub(crate) const CREATE_PARTITIONS: &[Field] = &[
    always(Structs(&[
        always(Text),
        always(Fixed(4)),
        always(Structs(&[always(Values(&Fixed(4)))])),
    ])),
    always(Fixed(4 + 1)),
];

pub(crate) const FIND_COORDINATOR: &[Field] = &[until(3, Text), since(1, Fixed(1)), since(4, Values(&Text))];

pub(crate) const OFFSET_COMMIT: &[Field] = &[
    always(Text),
    always(Fixed(4)),
    always(Text),
    since(7, Text),
    until(4, Fixed(8)),
    always(Structs(&[
        always(Text),
        always(Structs(&[always(Fixed(4 + 8)), since(6, Fixed(4)), always(Text)])),
    ])),
];

pub(crate) const OFFSET_FETCH: &[Field] = &[
    until(7, Text),
    until(7, Structs(&[always(Text), always(Values(&Fixed(4)))])),
    since(
        8,
        Structs(&[
            always(Text),
            since(9, Text),
            since(9, Fixed(4)),
            always(Structs(&[always(Text), always(Values(&Fixed(4)))])),
        ]),
    ),
    since(7, Fixed(1)),
];

pub(crate) const OFFSET_DELETE: &[Field] = &[
    always(Text),
    always(Structs(&[always(Text), always(Structs(&[always(Fixed(4))]))])),
];

pub(crate) const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    always(Text),
    always(Text),
    always(Fixed(4)),
    always(Text),
    always(Text),
    always(Fixed(4)),
    always(Values(&Text)),
    since(1, Text),
    always(Text),
    always(Structs(&[always(Fixed(16)), always(Values(&Fixed(4)))])),
];

pub(crate) const CONSUMER_GROUP_DESCRIBE: &[Field] = &[always(Values(&Text)), always(Fixed(1))];

pub(crate) const LIST_GROUPS: &[Field] = &[since(4, Values(&Text)), since(5, Values(&Text))];

pub(crate) const DESCRIBE_GROUPS: &[Field] = &[always(Values(&Text)), since(3, Fixed(1))];

pub(crate) const DELETE_GROUPS: &[Field] = &[always(Values(&Text))];

pub(crate) const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    since(3, Fixed(4)),
    always(Structs(&[always(Text), always(Structs(&[always(Fixed(4 + 4 + 4))]))])),
];
