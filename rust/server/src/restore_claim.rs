//! Who restores to a target database: a claim that the server itself makes unique, so that two restores never write to
//! one database at a time.
//!
//! A claim is a table in the database of the record of restores, named by its target and a number. The server creates a
//! table of one name only once, so of two restores that want the same number one gets it. The claim with the highest
//! number is the one that holds, and it is never dropped, only outnumbered. The table's comment says whose it is, one
//! of its rows is the owner's sign of life, and another one says that the owner is done.

use crate::{
    Connection, SqlError,
    restore_record::{self, DATABASE},
    sql,
};

/// A claim to a target database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The target.
    pub target: String,
    /// Its number; the highest of a target holds.
    pub number: u64,
    /// Whose it is, as the owner wrote it.
    pub owner: String,
}

/// What a claim's owner last said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sign {
    /// How often the owner has said that it is alive; `None` if it did not yet.
    pub beats: Option<i64>,
    /// Whether it is done.
    pub ended: bool,
}

/// The rows of a claim: the first one counts signs of life, the second one is there when the owner is done.
const ALIVE: u8 = 0;
const ENDED: u8 = 1;

/// What the names of a target's claims begin with.
fn prefix(target: &str) -> String {
    format!("claim_{}_", restore_record::digits(target))
}

impl Claim {
    fn table(&self) -> String {
        sql::table(
            DATABASE,
            &format!("{}{}", prefix(&self.target), self.number),
        )
    }

    /// Creates it, unless somebody else has it: [`newest`] says whose it is. The database of the record must be there.
    pub fn create(&self, connection: &Connection) -> Result<(), SqlError> {
        let created = connection.execute(&format!(
            "CREATE TABLE {} (ts TIMESTAMP, beats BIGINT) COMMENT {}",
            self.table(),
            sql::text(&self.owner)
        ));
        match created {
            Err(error) if error.is_there_already() => Ok(()),
            created => created.map(drop),
        }
    }

    /// Says that its owner is alive.
    pub fn beat(&self, connection: &Connection, beats: i64) -> Result<(), SqlError> {
        self.write(connection, ALIVE, beats)
    }

    /// Says that its owner is done.
    pub fn end(&self, connection: &Connection) -> Result<(), SqlError> {
        self.write(connection, ENDED, 0)
    }

    fn write(&self, connection: &Connection, row: u8, beats: i64) -> Result<(), SqlError> {
        let table = self.table();
        connection
            .execute(&format!("INSERT INTO {table} VALUES ({row}, {beats})"))
            .map(drop)
    }

    /// What its owner last said. Nothing, if the claim is gone.
    pub fn sign(&self, connection: &Connection) -> Result<Sign, SqlError> {
        let query = format!(
            "SELECT CAST(ts AS BIGINT), beats FROM {} ORDER BY ts",
            self.table()
        );
        let mut sign = Sign::default();
        let rows = match connection.query(&query) {
            Err(error) if error.is_missing() => return Ok(sign),
            rows => rows?,
        };
        rows.for_each(|row| {
            match row.get(0).as_i64() {
                Some(ts) if ts == i64::from(ALIVE) => sign.beats = row.get(1).as_i64(),
                _ => sign.ended = true,
            }
            Ok::<_, SqlError>(())
        })?;
        Ok(sign)
    }

    /// Drops the target's claims with lower numbers.
    pub fn drop_older(&self, connection: &Connection) -> Result<(), SqlError> {
        for older in all(connection, &self.target)? {
            if older.number < self.number {
                connection.execute(&format!("DROP TABLE IF EXISTS {}", older.table()))?;
            }
        }
        Ok(())
    }
}

/// The claim that holds for a target.
pub fn newest(connection: &Connection, target: &str) -> Result<Option<Claim>, SqlError> {
    let claims = all(connection, target)?;
    Ok(claims.into_iter().max_by_key(|claim| claim.number))
}

fn all(connection: &Connection, target: &str) -> Result<Vec<Claim>, SqlError> {
    let prefix = prefix(target);
    let query = format!(
        "SELECT table_name, table_comment FROM information_schema.ins_tables WHERE db_name = '{DATABASE}' \
         AND table_name LIKE '{prefix}%'"
    );
    let mut claims = Vec::new();
    connection.query(&query)?.for_each(|row| {
        let name = row.text(0);
        // In LIKE an underscore stands for any character.
        let number = name.strip_prefix(&prefix).map(str::parse);
        if let Some(Ok(number)) = number {
            claims.push(Claim {
                target: target.to_owned(),
                number,
                owner: row.text(1),
            });
        }
        Ok::<_, SqlError>(())
    })?;
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_targets_whose_names_begin_alike_have_names_of_their_own() {
        let name = |target: &str, number| {
            let owner = String::new();
            let target = target.to_owned();
            Claim {
                target,
                number,
                owner,
            }
            .table()
        };
        assert_eq!(name("ab", 12), "`taosdump_incremental`.`claim_6162_12`");
        assert!(!name("abc", 1).contains(&prefix("ab")));
        // The longest name of a database, in a name of a table.
        assert!(prefix(&"x".repeat(64)).len() + 20 < 192);
    }
}
