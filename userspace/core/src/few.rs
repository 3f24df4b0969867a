//! Lists that have one member in most calls.

/// Adds a member. The first one gets room for one, where `Vec::push` makes room for four.
pub(crate) fn push<T>(all: &mut Vec<T>, one: T) {
    if all.is_empty() {
        all.reserve_exact(1);
    }
    all.push(one);
}
