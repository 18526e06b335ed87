//! All attacks, by what they aim at. The order is the order of a run.

mod kernel;

use crate::attack::Attack;

/// Every attack, in the order of a run.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    [kernel::ATTACKS].into_iter().flatten()
}
