//! Lists that have one member in most calls.

/// Adds a member. With the first comes room for no more, while a list makes room for four: of each of thousands of calls.
pub(crate) fn push<T>(all: &mut Vec<T>, one: T) {
    if all.is_empty() {
        all.reserve_exact(1);
    }
    all.push(one);
}
