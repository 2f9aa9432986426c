//! The layouts of the served requests, from
//! <https://github.com/apache/kafka/tree/4.3/clients/src/main/resources/common/message>. Adjacent fields of fixed size are
//! merged.

use super::{
    Field,
    Type::{Array, Bytes, Fixed, Str, Structs},
    always, between, since, until,
};

pub(crate) const PRODUCE: &[Field] = &[
    always(Str),
    always(Fixed(2 + 4)),
    always(Structs(&[
        until(12, Str),
        since(13, Fixed(16)),
        always(Structs(&[always(Fixed(4)), always(Bytes)])),
    ])),
];

pub(crate) const FETCH: &[Field] = &[
    until(14, Fixed(4)),
    always(Fixed(4 + 4 + 4 + 1)),
    since(7, Fixed(4 + 4)),
    always(Structs(&[
        until(12, Str),
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
        Structs(&[until(12, Str), since(13, Fixed(16)), always(Array(&Fixed(4)))]),
    ),
    since(11, Str),
];

pub(crate) const LIST_OFFSETS: &[Field] = &[
    always(Fixed(4)),
    since(2, Fixed(1)),
    always(Structs(&[
        always(Str),
        always(Structs(&[always(Fixed(4)), since(4, Fixed(4)), always(Fixed(8))])),
    ])),
    since(10, Fixed(4)),
];

pub(crate) const METADATA: &[Field] = &[
    always(Structs(&[since(10, Fixed(16)), always(Str)])),
    since(4, Fixed(1)),
    between(8, 10, Fixed(1)),
    since(8, Fixed(1)),
];

pub(crate) const API_VERSIONS: &[Field] = &[since(3, Str), since(3, Str)];

pub(crate) const CREATE_TOPICS: &[Field] = &[
    always(Structs(&[
        always(Str),
        always(Fixed(4 + 2)),
        always(Structs(&[always(Fixed(4)), always(Array(&Fixed(4)))])),
        always(Structs(&[always(Str), always(Str)])),
    ])),
    always(Fixed(4 + 1)),
];

pub(crate) const DELETE_TOPICS: &[Field] = &[
    since(6, Structs(&[always(Str), always(Fixed(16))])),
    until(5, Array(&Str)),
    always(Fixed(4)),
];

pub(crate) const DELETE_RECORDS: &[Field] = &[
    always(Structs(&[always(Str), always(Structs(&[always(Fixed(4 + 8))]))])),
    always(Fixed(4)),
];

pub(crate) const INIT_PRODUCER_ID: &[Field] = &[always(Str), always(Fixed(4)), since(3, Fixed(8 + 2))];

pub(crate) const CREATE_PARTITIONS: &[Field] = &[
    always(Structs(&[
        always(Str),
        always(Fixed(4)),
        always(Structs(&[always(Array(&Fixed(4)))])),
    ])),
    always(Fixed(4 + 1)),
];

pub(crate) const FIND_COORDINATOR: &[Field] = &[until(3, Str), since(1, Fixed(1)), since(4, Array(&Str))];

pub(crate) const OFFSET_COMMIT: &[Field] = &[
    always(Str),
    always(Fixed(4)),
    always(Str),
    since(7, Str),
    until(4, Fixed(8)),
    always(Structs(&[
        always(Str),
        always(Structs(&[always(Fixed(4 + 8)), since(6, Fixed(4)), always(Str)])),
    ])),
];

pub(crate) const OFFSET_FETCH: &[Field] = &[
    until(7, Str),
    until(7, Structs(&[always(Str), always(Array(&Fixed(4)))])),
    since(
        8,
        Structs(&[
            always(Str),
            since(9, Str),
            since(9, Fixed(4)),
            always(Structs(&[always(Str), always(Array(&Fixed(4)))])),
        ]),
    ),
    since(7, Fixed(1)),
];

pub(crate) const OFFSET_DELETE: &[Field] = &[
    always(Str),
    always(Structs(&[always(Str), always(Structs(&[always(Fixed(4))]))])),
];

pub(crate) const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    always(Str),
    always(Str),
    always(Fixed(4)),
    always(Str),
    always(Str),
    always(Fixed(4)),
    always(Array(&Str)),
    since(1, Str),
    always(Str),
    always(Structs(&[always(Fixed(16)), always(Array(&Fixed(4)))])),
];

pub(crate) const CONSUMER_GROUP_DESCRIBE: &[Field] = &[always(Array(&Str)), always(Fixed(1))];

pub(crate) const LIST_GROUPS: &[Field] = &[since(4, Array(&Str)), since(5, Array(&Str))];

pub(crate) const DESCRIBE_GROUPS: &[Field] = &[always(Array(&Str)), since(3, Fixed(1))];

pub(crate) const DELETE_GROUPS: &[Field] = &[always(Array(&Str))];

pub(crate) const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    since(3, Fixed(4)),
    always(Structs(&[always(Str), always(Structs(&[always(Fixed(4 + 4 + 4))]))])),
];
