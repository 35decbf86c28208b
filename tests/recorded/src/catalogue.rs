//! A catalogue as lines of text, in which what files say and what SQL says can be compared.

use capture::catalogue::{Catalogue, Kind};
use model::{DataType, OwnedValue};
use tdfiles::schema::{Column, Schema};

/// The vnode's super tables, tables, columns and tag values, sorted.
pub fn lines(catalogue: &Catalogue) -> Vec<String> {
    let mut lines = Vec::new();
    for table in catalogue.super_tables.values() {
        let keep = table.keep.unwrap_or(-1);
        let name = &table.name;
        lines.push(format!(
            "super table {name:?} uid {} keep {keep}",
            table.suid
        ));
        lines.extend(columns(name, "column", &table.columns));
        lines.extend(columns(name, "tag", &table.tags));
        lines.push(sma(name, &table.columns));
    }
    for (uid, table) in &catalogue.tables {
        let name = &table.name;
        let (created, ttl, comment) = (table.created_ms, table.ttl_days, &table.comment);
        let options = format!("uid {uid} created {created} ttl {ttl} comment {comment:?}");
        match &table.kind {
            Kind::Child { suid, tags } => {
                let of = catalogue.super_tables.get(suid);
                let of = of.map_or("", |of| &of.name);
                lines.push(format!("table {name:?} of {of:?} {options}"));
                let values: Vec<String> = tags.iter().map(value).collect();
                lines.push(format!("values {name:?} {}", values.join(" ")));
            }
            Kind::Normal { columns: schema } => {
                lines.push(format!("table {name:?} {options}"));
                lines.extend(columns(name, "column", schema));
                lines.push(sma(name, schema));
            }
        }
    }
    lines.sort_unstable();
    lines
}

/// A value bit for bit.
fn value(value: &OwnedValue) -> String {
    match value {
        OwnedValue::Null => "NULL".to_owned(),
        OwnedValue::Bool(value) => value.to_string(),
        OwnedValue::Int(value) => value.to_string(),
        OwnedValue::UInt(value) => value.to_string(),
        OwnedValue::Float(value) => format!("0x{:08x}", value.to_bits()),
        OwnedValue::Double(value) => format!("0x{:016x}", value.to_bits()),
        OwnedValue::Bytes(bytes) => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// As DESCRIBE tells them, with the ids of columns.
fn columns(table: &str, what: &str, schema: &Schema) -> Vec<String> {
    let is_tag = what == "tag";
    let line = |(n, column): (usize, &Column)| {
        let name = &column.name;
        let kind = match column.column_type.data_type {
            data_type if data_type.is_decimal() => column.column_type.to_string(),
            data_type => data_type.to_string(),
        };
        let length = match column.column_type.size {
            model::catalogue::ColumnSize::Length(length) => length,
            _ if column.column_type.data_type == DataType::Json => (column.bytes - 2) / 4,
            _ => column.bytes,
        };
        let key = if column.flags.key() {
            "COMPOSITE KEY"
        } else {
            ""
        };
        let coding = column.coding.as_ref();
        let coding = coding.map_or("disabled/disabled/disabled".to_owned(), |coding| {
            format!("{}/{}/{}", coding.encode, coding.compress, coding.level)
        });
        let id = if is_tag {
            String::new()
        } else {
            column.id.to_string()
        };
        format!("{what} {n} of {table:?}: {name:?} {kind} {length} {key:?} {coding} id {id}")
    };
    schema.columns.iter().enumerate().map(line).collect()
}

/// The columns with SMA, as SHOW CREATE lists them: not at all if it is all of them.
fn sma(table: &str, schema: &Schema) -> String {
    let names = schema.columns.iter().filter(|column| column.flags.sma());
    let names: Vec<String> = names.map(|column| format!("`{}`", column.name)).collect();
    let all = names.len() == schema.columns.len();
    let names = if all { String::new() } else { names.join(",") };
    format!("SMA of {table:?}: {names}")
}
