//! Numbers that the environment sets.

use std::{env, str::FromStr};

/// What the variable says, or else the default.
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    let value = env::var(name).ok().and_then(|value| value.parse().ok());
    value.unwrap_or(default)
}
