use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn it_is_a_set_with_a_least_member(count in 0..=256_usize, steps in prop::collection::vec((0..3_u8, 0..256_usize), 0..300)) {
        let mut bits = Bits::<4> { first: 0, words: [0; 4] };
        bits.fill(count);
        let mut model: BTreeSet<usize> = (0..count).collect();
        for (step, member) in steps {
            match step {
                0 => {
                    bits.insert(member);
                    model.insert(member);
                }
                1 => {
                    bits.remove(member);
                    model.remove(&member);
                }
                _ => assert_eq!(bits.take_least(), model.pop_first()),
            }
            assert_eq!(bits.least(), model.first().copied());
        }
    }
}
