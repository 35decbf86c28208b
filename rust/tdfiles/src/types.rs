//! Numbers of the server (taosdef.h, tdef.h): data types that a primary key can have, and types of tables.

pub(crate) const INT: u8 = 4;
pub(crate) const BIGINT: u8 = 5;
pub(crate) const VARCHAR: u8 = 8;
pub(crate) const TIMESTAMP: u8 = 9;
pub(crate) const UINT: u8 = 13;
pub(crate) const UBIGINT: u8 = 14;

pub(crate) const SUPER_TABLE: i8 = 1;
pub(crate) const CHILD_TABLE: i8 = 2;
pub(crate) const NORMAL_TABLE: i8 = 3;
/// Virtual tables hold references, no rows of their own.
pub(crate) const VIRTUAL_NORMAL_TABLE: i8 = 8;
pub(crate) const VIRTUAL_CHILD_TABLE: i8 = 9;
