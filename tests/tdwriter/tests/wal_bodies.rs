//! Submit bodies read back by a decoder of their own.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use tdwriter::wal::{CreateTable, Form, TableKind, TableRows, submit};
use tdwriter::{Pk, PkType, Row};

/// Reads primitives off the front.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }

    fn uvar(&mut self) -> u64 {
        let (mut v, mut shift) = (0, 0);
        loop {
            let byte = self.u8();
            v |= u64::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                return v;
            }
        }
    }

    fn ivar(&mut self) -> i64 {
        let v = self.uvar();
        (v >> 1) as i64 ^ -((v & 1) as i64)
    }

    fn structure(&mut self) -> Input<'a> {
        let len = self.i32() as usize;
        Input(self.bytes(len))
    }
}

#[derive(Debug, PartialEq)]
struct Table {
    created: Option<i64>,
    suid: i64,
    uid: i64,
    keys: Vec<(i64, Option<Pk>)>,
    rest: usize,
}

fn decode(body: &[u8]) -> (Vec<Table>, usize) {
    let mut b = Input(body);
    assert_eq!(b.i32() as usize, body.len());
    b.i32();
    assert_eq!(b.bytes(8), 1i64.to_be_bytes());
    let mut b = b.structure();
    let tables = (0..b.uvar()).map(|_| table(b.structure())).collect();
    (tables, b.0.len())
}

fn table(mut b: Input) -> Table {
    let flags = b.ivar();
    let created = (flags & 1 != 0).then(|| {
        let mut create = b.structure();
        create.ivar();
        let name = create.uvar() as usize;
        create.bytes(name);
        create.i64()
    });
    let (suid, uid) = (b.i64(), b.i64());
    b.ivar();
    let n = b.uvar();
    let keys = if flags & 2 == 0 {
        (0..n).map(|_| row(&mut b)).collect()
    } else {
        columns(n, flags >> 8, &mut b)
    };
    let requested = b.i64();
    assert!(requested > 1_700_000_000_000);
    Table {
        created,
        suid,
        uid,
        keys,
        rest: b.0.len(),
    }
}

fn row(b: &mut Input) -> (i64, Option<Pk>) {
    let len = u32::from_le_bytes(b.0[4..8].try_into().unwrap()) as usize;
    let mut row = Input(b.bytes(len));
    let (flag, keys) = (row.u8(), row.u8());
    row.bytes(6);
    let ts = row.i64();
    let pk = (keys == 1).then(|| {
        let (kind, offset) = (row.u8(), row.uvar() as usize);
        let mut at = Input(&row.0[offset..]);
        if flag >> 4 != 0 {
            assert_eq!(at.ivar(), 2);
        }
        value(kind, &mut at)
    });
    (ts, pk)
}

fn value(kind: u8, b: &mut Input) -> Pk {
    match kind {
        4 => Pk::Int(b.i32()),
        5 => Pk::BigInt(b.i64()),
        8 => {
            let len = b.uvar() as usize;
            Pk::VarChar(b.bytes(len).to_vec())
        }
        other => panic!("{other}"),
    }
}

fn columns(n: u64, version: i64, b: &mut Input) -> Vec<(i64, Option<Pk>)> {
    let mut keys: Vec<(i64, Option<Pk>)> = Vec::new();
    for i in 0..n {
        assert_eq!(b.ivar(), i as i64 + 1);
        let (kind, rows, flag) = (b.u8(), b.ivar() as usize, b.u8());
        if flag == 6 {
            b.bytes(rows.div_ceil(8));
        }
        let is_key = n == 4 && i == 1;
        if flag & 4 != 0 && kind == 8 {
            let offsets: Vec<_> = (0..rows).map(|_| b.i32() as usize).collect();
            let len = b.ivar() as usize;
            let data = b.bytes(len);
            for (row, &from) in offsets.iter().enumerate().filter(|_| is_key) {
                let to = offsets.get(row + 1).copied().unwrap_or(len);
                keys[row].1 = Some(Pk::VarChar(data[from..to].to_vec()));
            }
        } else if flag & 4 != 0 {
            for row in 0..rows {
                match (i, kind) {
                    (0, 9) => keys.push((b.i64(), None)),
                    (1, _) if is_key => keys[row].1 = Some(value(kind, b)),
                    _ => drop(b.i32()),
                }
            }
        }
        if version == 1 {
            assert_eq!(b.u8() & 4 != 0, is_key);
        }
    }
    keys
}

#[test]
fn every_form_carries_every_key() {
    let pks: [fn(i64) -> Option<Pk>; 4] = [
        |_| None,
        |i| Some(Pk::Int(-i as i32)),
        |i| Some(Pk::BigInt(i << 50)),
        |i| Some(Pk::VarChar(vec![b'x'; i as usize % 200])),
    ];
    for form in [
        Form::Tuple,
        Form::KeyValue,
        Form::ColumnsV0,
        Form::ColumnsV1,
    ] {
        let tables: Vec<_> = pks
            .iter()
            .zip(1..)
            .map(|(pk, uid)| TableRows {
                suid: uid % 2,
                uid,
                sver: 3,
                rows: (0..300)
                    .map(|i| Row {
                        ts: i * 7 - 50,
                        pk: pk(i),
                        value: (i % 3 > 0 || uid == 2).then_some(i as i32),
                        text: (i % 5 > 0).then(|| vec![b'y'; i as usize]),
                    })
                    .collect(),
                unset: usize::from(uid == 2),
                form,
                create: (uid == 3).then(|| CreateTable {
                    uid,
                    name: "new".into(),
                    created_ms: 5,
                    ttl_days: 0,
                    comment: Some("comment".into()),
                    kind: TableKind::Normal {
                        pk: Some(PkType::BigInt),
                    },
                    extra: vec![1; 3],
                }),
                flags: 4,
                requested_ms: 1_704_067_200_000,
                extra: vec![9; uid as usize],
            })
            .collect();
        let (found, rest) = decode(&submit(2, &tables, &[1, 2]));
        assert_eq!(rest, 2);
        assert_eq!(found.len(), 4);
        for (found, table) in found.iter().zip(&tables) {
            let keys: Vec<_> = table.rows.iter().map(|r| (r.ts, r.pk.clone())).collect();
            let expected = Table {
                created: table.create.as_ref().map(|c| c.uid),
                suid: table.suid,
                uid: table.uid,
                keys,
                rest: table.extra.len(),
            };
            assert_eq!(*found, expected, "{form:?}");
        }
    }
}
