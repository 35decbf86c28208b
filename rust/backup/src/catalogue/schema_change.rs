//! What leads from one schema to the next: the ALTER statements, and the columns whose old values are gone.

use super::{Coding, Column, Schema, comment_literal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use taos::sql;

/// One ALTER statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are what their names say")]
pub enum Alter {
    AddColumn {
        name: String,
        sql_type: String,
        coding: Option<Coding>,
    },
    DropColumn {
        name: String,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    ResizeColumn {
        name: String,
        sql_type: String,
    },
    RecodeColumn {
        name: String,
        coding: Coding,
    },
    AddTag {
        name: String,
        sql_type: String,
    },
    DropTag {
        name: String,
    },
    RenameTag {
        from: String,
        to: String,
    },
    ResizeTag {
        name: String,
        sql_type: String,
    },
    Comment {
        text: String,
    },
    Ttl {
        days: i64,
    },
}

/// A change of schema that no ALTER makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoWay(pub String);

impl Alter {
    /// The statement, but for `ALTER TABLE name`.
    pub fn clause(&self) -> String {
        match self {
            Self::AddColumn {
                name,
                sql_type,
                coding,
            } => {
                let coding = coding.as_ref().map_or_else(String::new, Coding::clause);
                format!("ADD COLUMN {} {sql_type}{coding}", sql::name(name))
            }
            Self::DropColumn { name } => format!("DROP COLUMN {}", sql::name(name)),
            Self::RenameColumn { from, to } => {
                format!("RENAME COLUMN {} {}", sql::name(from), sql::name(to))
            }
            Self::ResizeColumn { name, sql_type } => {
                format!("MODIFY COLUMN {} {sql_type}", sql::name(name))
            }
            Self::RecodeColumn { name, coding } => {
                format!("MODIFY COLUMN {}{}", sql::name(name), coding.clause())
            }
            Self::AddTag { name, sql_type } => format!("ADD TAG {} {sql_type}", sql::name(name)),
            Self::DropTag { name } => format!("DROP TAG {}", sql::name(name)),
            Self::RenameTag { from, to } => {
                format!("RENAME TAG {} {}", sql::name(from), sql::name(to))
            }
            Self::ResizeTag { name, sql_type } => {
                format!("MODIFY TAG {} {sql_type}", sql::name(name))
            }
            Self::Comment { text } => format!("COMMENT {}", comment_literal(text)),
            Self::Ttl { days } => format!("TTL {days}"),
        }
    }

    /// Whether a table of this schema still needs the change. A restore that is repeated meets tables that have
    /// part of the changes already.
    pub fn is_needed(&self, now: &Schema) -> bool {
        let column = |name: &str| now.columns.iter().find(|column| column.name == name);
        let tag = |name: &str| now.tags.iter().find(|tag| tag.name == name);
        match self {
            Self::AddColumn { name, .. } => column(name).is_none(),
            Self::DropColumn { name } => column(name).is_some(),
            Self::RenameColumn { from, to } => column(from).is_some() && column(to).is_none(),
            Self::ResizeColumn { name, sql_type } => {
                column(name).is_some_and(|column| column.sql_type != *sql_type)
            }
            Self::RecodeColumn { name, coding } => {
                column(name).is_some_and(|column| column.coding.as_ref() != Some(coding))
            }
            Self::AddTag { name, .. } => tag(name).is_none(),
            Self::DropTag { name } => tag(name).is_some(),
            Self::RenameTag { from, to } => tag(from).is_some() && tag(to).is_none(),
            Self::ResizeTag { name, sql_type } => {
                tag(name).is_some_and(|tag| tag.sql_type != *sql_type)
            }
            Self::Comment { .. } | Self::Ttl { .. } => true,
        }
    }

    /// Whether it changes which tags there are, so that every child's values have to be set again.
    pub fn moves_tags(&self) -> bool {
        matches!(self, Self::AddTag { .. } | Self::DropTag { .. })
    }
}

/// The statements that lead from `old` to `new`, in order.
pub(crate) fn alters(old: &Schema, new: &Schema) -> Result<Vec<Alter>, NoWay> {
    let mut alters = Vec::new();
    columns(&old.columns, &new.columns, &mut alters)?;
    tags(&old.tags, &new.tags, &mut alters);
    if old.fixed_options() != new.fixed_options() {
        return Err(NoWay(format!(
            "its options changed from {:?} to {:?}, and no ALTER does that",
            old.options, new.options
        )));
    }
    Ok(alters)
}

/// Whether the two columns are the same one, perhaps under another name.
fn is_same(old: &Column, new: &Column) -> bool {
    match (old.id, new.id) {
        (Some(old), Some(new)) => old == new,
        _ => old.name == new.name && base_type(old) == base_type(new),
    }
}

/// A type without its width.
fn base_type(column: &Column) -> &str {
    match column.sql_type.split_once('(') {
        Some((base, _)) if base != "DECIMAL" => base,
        _ => &column.sql_type,
    }
}

/// The columns or tags that are kept, before and now. They are only ever added at the end, so these are the first ones
/// of `new`, in the order of `old`. `find` says which of the old ones that may follow a new one is.
fn kept<'a>(
    old: &'a [Column],
    new: &'a [Column],
    find: impl Fn(&[Column], &Column) -> Option<usize>,
) -> Vec<(&'a Column, &'a Column)> {
    let mut rest = old;
    let mut kept = Vec::new();
    for now in new {
        let at = find(rest, now);
        let Some((before, after)) = at.and_then(|at| rest.get(at..)?.split_first()) else {
            break;
        };
        kept.push((before, now));
        rest = after;
    }
    kept
}

fn columns(old: &[Column], new: &[Column], alters: &mut Vec<Alter>) -> Result<(), NoWay> {
    let kept = kept(old, new, |rest, now| {
        rest.iter().position(|before| is_same(before, now))
    });
    let is_kept = |column: &Column| kept.iter().any(|(before, _)| *before == column);
    let dropped: Vec<&Column> = old.iter().filter(|column| !is_kept(column)).collect();
    let added = new.get(kept.len()..).unwrap_or_default();
    if let Some(key) = dropped.iter().find(|column| column.key) {
        return Err(NoWay(format!("key column {} is gone", key.name)));
    }
    let drops = dropped.iter().map(|column| Alter::DropColumn {
        name: column.name.clone(),
    });
    let adds = added.iter().map(|column| Alter::AddColumn {
        name: column.name.clone(),
        sql_type: column.sql_type.clone(),
        coding: column.coding.clone(),
    });
    if kept.len() < 2 && !dropped.is_empty() {
        // A table must keep a column beside its timestamp.
        let taken = |column: &Column| dropped.iter().any(|before| before.name == column.name);
        if let Some(column) = added.iter().find(|column| taken(column)) {
            return Err(NoWay(format!(
                "all its columns were replaced, {} by another one of its name",
                column.name
            )));
        }
        alters.extend(adds.chain(drops));
        return changed(&kept, alters);
    }
    alters.extend(drops);
    changed(&kept, alters)?;
    alters.extend(adds);
    Ok(())
}

/// What changed about columns that are kept.
fn changed(kept: &[(&Column, &Column)], alters: &mut Vec<Alter>) -> Result<(), NoWay> {
    let mut names: BTreeSet<&str> = kept
        .iter()
        .map(|(before, _)| before.name.as_str())
        .collect();
    for (before, now) in kept {
        if now.name != before.name {
            let dropped =
                |alter: &Alter| matches!(alter, Alter::DropColumn { name } if *name == now.name);
            if alters.iter().any(dropped) {
                // Made again after an interruption, the drop would take this one.
                return Err(NoWay(format!(
                    "column {} took the name of a dropped one, {}",
                    before.name, now.name
                )));
            }
            if names.contains(now.name.as_str()) {
                return Err(NoWay(format!(
                    "columns changed names with each other ({})",
                    now.name
                )));
            }
            names.remove(before.name.as_str());
            names.insert(&now.name);
            alters.push(Alter::RenameColumn {
                from: before.name.clone(),
                to: now.name.clone(),
            });
        }
        if now.sql_type != before.sql_type {
            alters.push(Alter::ResizeColumn {
                name: now.name.clone(),
                sql_type: now.sql_type.clone(),
            });
        }
        if let Some(coding) = now.coding.as_ref().filter(|_| now.coding != before.coding) {
            alters.push(Alter::RecodeColumn {
                name: now.name.clone(),
                coding: coding.clone(),
            });
        }
    }
    Ok(())
}

/// Any way to the same tags in the same order is right, as their values are compared and copied. One that is not there
/// any more under its name may have been renamed to one of its type that was not there.
fn tags(old: &[Column], new: &[Column], alters: &mut Vec<Alter>) {
    let known = |tags: &[Column], name: &str| tags.iter().any(|tag| tag.name == name);
    let renamed =
        |before: &Column, now: &Column| !known(old, &now.name) && !known(new, &before.name);
    let kept = kept(old, new, |rest, now| {
        let same_type = |before: &Column| base_type(before) == base_type(now);
        rest.iter()
            .position(|before| before.name == now.name && same_type(before))
            .or_else(|| {
                rest.iter()
                    .position(|before| renamed(before, now) && same_type(before))
            })
    });
    let added = new.get(kept.len()..).unwrap_or_default();
    let dropped = old
        .iter()
        .filter(|tag| !kept.iter().any(|(before, _)| before.name == tag.name));
    // A super table has at least one tag.
    let placeholder = kept.is_empty() && !old.is_empty();
    if placeholder {
        alters.push(Alter::AddTag {
            name: PLACEHOLDER.to_owned(),
            sql_type: "INT".to_owned(),
        });
    }
    alters.extend(dropped.map(|tag| Alter::DropTag {
        name: tag.name.clone(),
    }));
    for (before, now) in kept {
        if before.name != now.name {
            alters.push(Alter::RenameTag {
                from: before.name.clone(),
                to: now.name.clone(),
            });
        }
        if before.sql_type != now.sql_type {
            alters.push(Alter::ResizeTag {
                name: now.name.clone(),
                sql_type: now.sql_type.clone(),
            });
        }
    }
    alters.extend(added.iter().map(|tag| Alter::AddTag {
        name: tag.name.clone(),
        sql_type: tag.sql_type.clone(),
    }));
    if placeholder {
        alters.push(Alter::DropTag {
            name: PLACEHOLDER.to_owned(),
        });
    }
}

/// A tag that is there only while all others are replaced.
const PLACEHOLDER: &str = "taosdump_incremental_placeholder";

#[cfg(test)]
mod tests {
    use super::*;

    fn column(id: i64, name: &str, sql_type: &str) -> Column {
        let id = (id > 0).then_some(id);
        Column {
            name: name.into(),
            sql_type: sql_type.into(),
            id,
            key: false,
            coding: None,
        }
    }

    fn schema(columns: &[(i64, &str, &str)], tags: &[(&str, &str)]) -> Schema {
        Schema {
            columns: columns
                .iter()
                .map(|(id, name, kind)| column(*id, name, kind))
                .collect(),
            tags: tags
                .iter()
                .map(|(name, kind)| column(0, name, kind))
                .collect(),
            options: String::new(),
        }
    }

    fn clauses(old: &Schema, new: &Schema) -> Vec<String> {
        alters(old, new)
            .unwrap()
            .iter()
            .map(Alter::clause)
            .collect()
    }

    #[test]
    fn columns_are_told_apart_by_their_ids() {
        let old = schema(
            &[
                (1, "ts", "TIMESTAMP"),
                (2, "a", "INT"),
                (3, "b", "VARCHAR(5)"),
            ],
            &[],
        );
        let same = schema(
            &[
                (1, "ts", "TIMESTAMP"),
                (2, "a", "INT"),
                (3, "b", "VARCHAR(5)"),
            ],
            &[],
        );
        assert!(clauses(&old, &same).is_empty());
        let readded = schema(
            &[
                (1, "ts", "TIMESTAMP"),
                (3, "b", "VARCHAR(9)"),
                (4, "a", "INT"),
            ],
            &[],
        );
        assert_eq!(
            clauses(&old, &readded),
            [
                "DROP COLUMN `a`",
                "MODIFY COLUMN `b` VARCHAR(9)",
                "ADD COLUMN `a` INT"
            ]
        );
        let took_its_name = [(1, "ts", "TIMESTAMP"), (3, "a", "VARCHAR(5)")];
        assert!(alters(&old, &schema(&took_its_name, &[])).is_err());
        let renamed = schema(
            &[
                (1, "ts", "TIMESTAMP"),
                (2, "c", "INT"),
                (3, "b", "VARCHAR(5)"),
            ],
            &[],
        );
        assert_eq!(clauses(&old, &renamed), ["RENAME COLUMN `a` `c`"]);
    }

    #[test]
    fn a_column_without_an_id_is_another_one_when_its_type_is() {
        let old = [(0, "ts", "TIMESTAMP"), (0, "a", "INT"), (0, "b", "INT")];
        let old = schema(&old, &[]);
        let new = [(0, "ts", "TIMESTAMP"), (0, "b", "INT"), (0, "a", "BIGINT")];
        assert_eq!(
            clauses(&old, &schema(&new, &[])),
            ["DROP COLUMN `a`", "ADD COLUMN `a` BIGINT"]
        );
        // One that moved to the end was dropped and added again.
        let new = [(0, "ts", "TIMESTAMP"), (0, "b", "INT"), (0, "a", "INT")];
        assert_eq!(
            clauses(&old, &schema(&new, &[])),
            ["DROP COLUMN `a`", "ADD COLUMN `a` INT"]
        );
    }

    #[test]
    fn a_table_keeps_a_column_beside_its_timestamp() {
        let old = schema(&[(1, "ts", "TIMESTAMP"), (2, "a", "INT")], &[]);
        let new = schema(&[(1, "ts", "TIMESTAMP"), (3, "b", "INT")], &[]);
        assert_eq!(
            clauses(&old, &new),
            ["ADD COLUMN `b` INT", "DROP COLUMN `a`"]
        );
        let same_name = schema(&[(1, "ts", "TIMESTAMP"), (3, "a", "INT")], &[]);
        assert!(alters(&old, &same_name).is_err());
    }

    #[test]
    fn tags_end_in_the_order_of_the_source() {
        let old = schema(&[], &[("a", "INT"), ("b", "INT"), ("c", "BOOL")]);
        for (new, expected) in [
            (
                vec![("a", "INT"), ("x", "INT"), ("c", "BOOL")],
                vec!["RENAME TAG `b` `x`"],
            ),
            (vec![("a", "INT"), ("c", "BOOL")], vec!["DROP TAG `b`"]),
            (
                vec![("x", "INT"), ("b", "INT"), ("c", "BOOL")],
                vec!["RENAME TAG `a` `x`"],
            ),
            (
                vec![("b", "INT"), ("z", "BOOL"), ("a", "INT")],
                vec!["DROP TAG `a`", "RENAME TAG `c` `z`", "ADD TAG `a` INT"],
            ),
            (
                vec![("c", "INT")],
                vec![
                    "ADD TAG `taosdump_incremental_placeholder` INT",
                    "DROP TAG `a`",
                    "DROP TAG `b`",
                    "DROP TAG `c`",
                    "ADD TAG `c` INT",
                    "DROP TAG `taosdump_incremental_placeholder`",
                ],
            ),
        ] {
            assert_eq!(clauses(&old, &schema(&[], &new)), expected);
        }
    }

    #[test]
    fn a_change_that_is_there_already_is_not_made_again() {
        let now = schema(&[(1, "ts", "TIMESTAMP"), (2, "a", "INT")], &[("t", "INT")]);
        let add = Alter::AddColumn {
            name: "a".into(),
            sql_type: "INT".into(),
            coding: None,
        };
        assert!(!add.is_needed(&now));
        assert!(Alter::DropColumn { name: "a".into() }.is_needed(&now));
        assert!(!Alter::DropTag { name: "x".into() }.is_needed(&now));
    }
}
