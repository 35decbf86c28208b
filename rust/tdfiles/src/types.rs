//! Data type numbers of the server (taosdef.h) that a primary key can have.

pub(crate) const INT: u8 = 4;
pub(crate) const BIGINT: u8 = 5;
pub(crate) const VARCHAR: u8 = 8;
pub(crate) const TIMESTAMP: u8 = 9;
pub(crate) const UINT: u8 = 13;
pub(crate) const UBIGINT: u8 = 14;
