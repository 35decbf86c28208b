//! Values that a shell would read as something else.

/// Each arrives in a script's commands as it was given.
pub(crate) const VALUES: [&str; 12] = [
    "$(touch x)",
    "`touch x`",
    "'; touch x; '",
    "\"; touch x; \"",
    "a b  c",
    "-rf",
    "*",
    "~",
    "${HOME}",
    "\\",
    "!!",
    "风's",
];
