//! The C ABI of the engine: a static and a shared library. Headers are in `c-shim/include`.
