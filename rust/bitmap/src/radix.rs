//! Sorting of pairs, byte by byte. That is fast here, as the marks that become a run have most bytes in common.

/// What is sorted, and what decides among equals.
pub(crate) type Pair = (u64, u64);

/// Fewer pairs than this are sorted by comparing.
const FEW: usize = 512;

/// Sorts `pairs`. `spare` is working space; its content does not matter.
pub(crate) fn sort(pairs: &mut Vec<Pair>, spare: &mut Vec<Pair>) {
    if pairs.is_sorted() {
        return;
    }
    if pairs.len() < FEW {
        pairs.sort_unstable();
        return;
    }
    let varying = pairs
        .iter()
        .fold(0, |bits, pair| bits | (pair.0 ^ pairs[0].0));
    spare.clear();
    spare.resize(pairs.len(), (0, 0));
    for shift in (0..64)
        .step_by(8)
        .filter(|shift| varying >> shift & 0xFF != 0)
    {
        let byte = |pair: &Pair| (pair.0 >> shift & 0xFF) as usize;
        let mut places = [0usize; 256];
        for pair in &*pairs {
            places[byte(pair)] += 1;
        }
        let mut next = 0;
        for place in &mut places {
            next += std::mem::replace(place, next);
        }
        for pair in &*pairs {
            let place = &mut places[byte(pair)];
            spare[*place] = *pair;
            *place += 1;
        }
        std::mem::swap(pairs, spare);
    }
    for equals in pairs.chunk_by_mut(|a, b| a.0 == b.0) {
        if !equals.is_sorted() {
            equals.sort_unstable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_end_up_in_order(
            mut pairs in proptest::collection::vec((any::<u64>(), 0u64..4), 0..2000),
            mask in prop_oneof![Just(u64::MAX), Just(0xFF00_00FF), Just(3), Just(0)],
        ) {
            for pair in &mut pairs {
                pair.0 &= mask;
            }
            let mut expected = pairs.clone();
            expected.sort_unstable();
            sort(&mut pairs, &mut Vec::new());
            prop_assert_eq!(pairs, expected);
        }
    }
}
