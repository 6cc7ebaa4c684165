//! Unix sockets: a session reaches the addresses on its list and no others.

use crate::bench::Bench;

#[test]
fn whole_on_this_kernel() {
    let bench = Bench::new();
    assert_eq!(bench.gate().missing_layers(), []);
}
