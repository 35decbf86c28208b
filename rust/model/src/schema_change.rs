//! What leads from one schema to the next: the ALTER statements, and the columns whose old values are gone.

use crate::{
    DataType,
    catalogue::{Coding, Column, ColumnType, Schema},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, iter};

/// One ALTER statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are what their names say")]
pub enum Alter {
    AddColumn {
        name: String,
        #[serde(rename = "sql_type")]
        column_type: ColumnType,
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
        #[serde(rename = "sql_type")]
        column_type: ColumnType,
    },
    RecodeColumn {
        name: String,
        coding: Coding,
    },
    AddTag {
        name: String,
        #[serde(rename = "sql_type")]
        column_type: ColumnType,
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
        #[serde(rename = "sql_type")]
        column_type: ColumnType,
    },
    Comment {
        text: String,
    },
    Ttl {
        days: i64,
    },
    /// The KEEP of a super table, in the server's words.
    Keep {
        span: String,
    },
}

/// A change of schema that no ALTER makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoWay(pub String);

impl Alter {
    /// Whether a table of this schema still needs the change. A restore that is repeated meets tables that have
    /// part of the changes already.
    pub fn is_needed(&self, now: &Schema) -> bool {
        let column = |name: &str| now.columns.iter().find(|column| column.name == name);
        let tag = |name: &str| now.tags.iter().find(|tag| tag.name == name);
        match self {
            Self::AddColumn { name, .. } => column(name).is_none(),
            Self::DropColumn { name } => column(name).is_some(),
            Self::RenameColumn { from, to } => column(from).is_some() && column(to).is_none(),
            Self::ResizeColumn { name, column_type } => {
                column(name).is_some_and(|column| column.column_type != *column_type)
            }
            Self::RecodeColumn { name, coding } => {
                column(name).is_some_and(|column| column.coding.as_ref() != Some(coding))
            }
            Self::AddTag { name, .. } => tag(name).is_none(),
            Self::DropTag { name } => tag(name).is_some(),
            Self::RenameTag { from, to } => tag(from).is_some() && tag(to).is_none(),
            Self::ResizeTag { name, column_type } => {
                tag(name).is_some_and(|tag| tag.column_type != *column_type)
            }
            Self::Keep { span } => now.keep() != Some(span),
            Self::Comment { .. } | Self::Ttl { .. } => true,
        }
    }

    /// Whether it changes which tags there are, so that every child's values have to be set again.
    pub fn moves_tags(&self) -> bool {
        matches!(self, Self::AddTag { .. } | Self::DropTag { .. })
    }
}

/// The statements that lead from `old` to `new`, in order.
pub fn alters(old: &Schema, new: &Schema) -> Result<Vec<Alter>, NoWay> {
    let mut alters = Vec::new();
    columns(&old.columns, &new.columns, &mut alters)?;
    tags(&old.tags, &new.tags, &mut alters);
    match (old.keep(), new.keep()) {
        (before, Some(span)) if before != Some(span) => alters.push(Alter::Keep {
            span: span.to_owned(),
        }),
        // A KEEP can be changed and never taken away: it is another super table then.
        (Some(_), None) => {
            return Err(NoWay(
                "it has no KEEP any more, and no ALTER does that".to_owned(),
            ));
        }
        _ => {}
    }
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
        _ => old.name == new.name && old.column_type.has_the_storage_of(new.column_type),
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
    let adds = added.iter().flat_map(|column| {
        let add = Alter::AddColumn {
            name: column.name.clone(),
            column_type: column.column_type,
            coding: column.coding.clone(),
        };
        // The coding of a BLOB can be altered once it is there, and not be given with it.
        let coding = column.coding.clone();
        let coding = coding.filter(|_| column.column_type.data_type.is_blob());
        let recode = coding.map(|coding| Alter::RecodeColumn {
            name: column.name.clone(),
            coding,
        });
        iter::once(add).chain(recode)
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
        if now.column_type != before.column_type {
            alters.push(Alter::ResizeColumn {
                name: now.name.clone(),
                column_type: now.column_type,
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
        let same_type = |before: &Column| before.column_type.has_the_storage_of(now.column_type);
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
            column_type: ColumnType::fixed(DataType::Int),
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
        if before.column_type != now.column_type {
            alters.push(Alter::ResizeTag {
                name: now.name.clone(),
                column_type: now.column_type,
            });
        }
    }
    alters.extend(added.iter().map(|tag| Alter::AddTag {
        name: tag.name.clone(),
        column_type: tag.column_type,
    }));
    if placeholder {
        alters.push(Alter::DropTag {
            name: PLACEHOLDER.to_owned(),
        });
    }
}

/// A tag that is there only while all others are replaced.
const PLACEHOLDER: &str = "taosdump_incremental_placeholder";
