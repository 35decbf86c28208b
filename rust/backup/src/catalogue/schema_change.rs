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

fn columns(old: &[Column], new: &[Column], alters: &mut Vec<Alter>) -> Result<(), NoWay> {
    let kept = |column: &Column| new.iter().find(|new| is_same(column, new));
    for column in old.iter().filter(|column| kept(column).is_none()) {
        if column.key {
            return Err(NoWay(format!("key column {} is gone", column.name)));
        }
        alters.push(Alter::DropColumn {
            name: column.name.clone(),
        });
    }
    let mut names: BTreeSet<&str> = old
        .iter()
        .filter(|column| kept(column).is_some())
        .map(|c| c.name.as_str())
        .collect();
    for column in old {
        let Some(now) = kept(column) else { continue };
        if now.name != column.name {
            if names.contains(now.name.as_str()) {
                return Err(NoWay(format!(
                    "columns changed names with each other ({})",
                    now.name
                )));
            }
            names.remove(column.name.as_str());
            names.insert(&now.name);
            alters.push(Alter::RenameColumn {
                from: column.name.clone(),
                to: now.name.clone(),
            });
        }
        if now.sql_type != column.sql_type {
            alters.push(Alter::ResizeColumn {
                name: now.name.clone(),
                sql_type: now.sql_type.clone(),
            });
        }
        if let Some(coding) = now.coding.as_ref().filter(|_| now.coding != column.coding) {
            alters.push(Alter::RecodeColumn {
                name: now.name.clone(),
                coding: coding.clone(),
            });
        }
    }
    for column in new
        .iter()
        .filter(|new| !old.iter().any(|old| is_same(old, new)))
    {
        alters.push(Alter::AddColumn {
            name: column.name.clone(),
            sql_type: column.sql_type.clone(),
            coding: column.coding.clone(),
        });
    }
    Ok(())
}

/// Any way to the same tags is right, as their values are compared and copied: a tag of the same type in the same
/// place is taken to be the old one with another name, unless that name was there before.
fn tags(old: &[Column], new: &[Column], alters: &mut Vec<Alter>) {
    let known = |tags: &[Column], name: &str| tags.iter().any(|tag| tag.name == name);
    let renamed = |old_tag: &Column, new_tag: &Column| {
        old_tag.name == new_tag.name || (!known(old, &new_tag.name) && !known(new, &old_tag.name))
    };
    let in_place = old
        .iter()
        .zip(new)
        .take_while(|(old, new)| base_type(old) == base_type(new) && renamed(old, new))
        .count();
    // Not all can be dropped first: a super table has at least one.
    let (kept, dropped) = old.split_at(in_place);
    let added = new.get(in_place..).unwrap_or_default();
    for (tag, now) in kept.iter().zip(new) {
        if tag.name != now.name {
            alters.push(Alter::RenameTag {
                from: tag.name.clone(),
                to: now.name.clone(),
            });
        }
        if tag.sql_type != now.sql_type {
            alters.push(Alter::ResizeTag {
                name: now.name.clone(),
                sql_type: now.sql_type.clone(),
            });
        }
    }
    let add = |tag: &Column| Alter::AddTag {
        name: tag.name.clone(),
        sql_type: tag.sql_type.clone(),
    };
    let drop = |tag: &Column| Alter::DropTag {
        name: tag.name.clone(),
    };
    if kept.is_empty() {
        // A name that is dropped and added must make room first; another tag keeps the place meanwhile.
        let (fresh, clashing): (Vec<_>, Vec<_>) =
            added.iter().partition(|tag| !known(dropped, &tag.name));
        alters.extend(fresh.into_iter().map(add));
        alters.extend(dropped.iter().map(drop));
        alters.extend(clashing.into_iter().map(add));
    } else {
        alters.extend(dropped.iter().map(drop));
        alters.extend(added.iter().map(add));
    }
}

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
        let old = schema(&[(0, "ts", "TIMESTAMP"), (0, "a", "INT")], &[]);
        let new = schema(&[(0, "ts", "TIMESTAMP"), (0, "a", "BIGINT")], &[]);
        assert_eq!(
            clauses(&old, &new),
            ["DROP COLUMN `a`", "ADD COLUMN `a` BIGINT"]
        );
    }

    #[test]
    fn tags_end_in_the_order_of_the_source() {
        let old = schema(&[], &[("a", "INT"), ("b", "INT"), ("c", "INT")]);
        for (new, expected) in [
            (
                vec![("a", "INT"), ("x", "INT"), ("c", "INT")],
                vec!["RENAME TAG `b` `x`"],
            ),
            (
                vec![("a", "INT"), ("c", "INT")],
                vec!["DROP TAG `b`", "DROP TAG `c`", "ADD TAG `c` INT"],
            ),
            (
                vec![("a", "INT"), ("b", "BIGINT"), ("c", "INT")],
                vec![
                    "DROP TAG `b`",
                    "DROP TAG `c`",
                    "ADD TAG `b` BIGINT",
                    "ADD TAG `c` INT",
                ],
            ),
            (
                vec![("z", "JSON")],
                vec![
                    "ADD TAG `z` JSON",
                    "DROP TAG `a`",
                    "DROP TAG `b`",
                    "DROP TAG `c`",
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
