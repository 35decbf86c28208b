//! tdfiles
