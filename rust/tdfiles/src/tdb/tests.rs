//! Files of pages that are put together by hand.

use super::*;

const PAGE: usize = 512;
const NAMES: (Length, Length) = (Length::Fixed(2), Length::Stored);

/// A number of the header: 2 bytes, 3 in pages of 64 KiB or more.
fn number(page_size: usize, n: usize) -> Vec<u8> {
    let bytes = (n as u32).to_le_bytes();
    match page_size {
        ..65_536 => bytes[..2].to_vec(),
        _ => vec![bytes[2], bytes[0], bytes[1]],
    }
}

/// A page with these cells, the first at the end.
fn page(page_size: usize, header: &[u8], cells: &[Vec<u8>]) -> Vec<u8> {
    let mut page = vec![0; page_size];
    let mut end = page_size - 4;
    let mut front = header.to_vec();
    front.extend(number(page_size, cells.len()));
    front.extend([0; 9][..3 * number(page_size, 0).len()].iter());
    for cell in cells {
        end -= cell.len();
        page[end..end + cell.len()].copy_from_slice(cell);
        front.extend(number(page_size, end));
    }
    page[..front.len()].copy_from_slice(&front);
    page
}

fn leaf(cells: &[Vec<u8>]) -> Vec<u8> {
    page(PAGE, &[2], cells)
}

fn inner(children: &[u32], last: u32) -> Vec<u8> {
    let header = [&[0][..], &last.to_le_bytes()].concat();
    let cells = children
        .iter()
        .map(|child| [&child.to_le_bytes()[..], b"zz"].concat());
    page(PAGE, &header, &cells.collect::<Vec<_>>())
}

fn overflow(bytes: &[u8], next: u32) -> Vec<u8> {
    page(
        PAGE,
        &[4, 0, 0, 0, 0],
        &[[bytes, &next.to_le_bytes()].concat()],
    )
}

/// An entry that fits into its leaf.
fn cell(key: &[u8; 2], value: &[u8]) -> Vec<u8> {
    [&[value.len() as u8][..], key, value].concat()
}

/// The directory: one tree `t` with its root in page 2.
fn directory(page_size: usize) -> Vec<u8> {
    let value = [2u32.to_le_bytes(), [0; 4], [0; 4]].concat();
    page(page_size, &[3], &[[&[2][..], b"t\0", &value].concat()])
}

fn file(pages: &[Vec<u8>]) -> Vec<u8> {
    [directory(PAGE), pages.concat()].concat()
}

fn entries(
    main: &[u8],
    journals: Vec<&[u8]>,
    size: usize,
) -> Result<Vec<(String, Vec<u8>)>, FormatError> {
    let mut tdb = Tdb::open(main, journals, size)?;
    let tree = tdb.tree("t", NAMES.0, NAMES.1)?.unwrap();
    let mut entries = Vec::new();
    tdb.scan(tree, |entry| -> Result<(), FormatError> {
        entries.push((
            String::from_utf8_lossy(entry.key).into_owned(),
            entry.value.to_vec(),
        ));
        Ok(())
    })?;
    Ok(entries)
}

fn keys(main: &[u8], journals: Vec<&[u8]>) -> String {
    let entries = entries(main, journals, PAGE).unwrap();
    entries.into_iter().map(|(key, _)| key).collect()
}

fn three_leaves() -> Vec<u8> {
    file(&[
        inner(&[4, 3], 5),
        leaf(&[cell(b"c1", b"")]),
        leaf(&[cell(b"a1", b"x"), cell(b"b1", b"y")]),
        leaf(&[cell(b"d1", b"z")]),
    ])
}

#[test]
fn leaves_are_visited_in_the_order_of_the_tree_not_of_the_file() {
    assert_eq!(keys(&three_leaves(), vec![]), "a1b1c1d1");
}

#[test]
fn a_file_without_pages_and_a_name_that_is_not_there_have_no_tree() {
    let mut tdb = Tdb::open(&b""[..], vec![], PAGE).unwrap();
    assert!(tdb.tree("t", NAMES.0, NAMES.1).unwrap().is_none());
    let file = three_leaves();
    let mut tdb = Tdb::open(file.as_slice(), vec![], PAGE).unwrap();
    assert!(tdb.tree("tt", NAMES.0, NAMES.1).unwrap().is_none());
}

#[test]
fn a_value_goes_on_in_as_many_pages_as_it_needs() {
    // A cell of a leaf has at most 497 bytes in pages of 512; as 1 504 − 61 leave 457 beyond whole parts of 493, which do
    // not fit beside 61, it has 61 here: 2 of the length, 55 of the entry, and the page's number.
    let value: Vec<u8> = (0..1_500).map(|i| i as u8).collect();
    let entry = [&b"k1"[..], &value].concat();
    let local = 55;
    let (local, rest) = entry.split_at(local);
    let parts: Vec<&[u8]> = rest.chunks(489).collect();
    assert_eq!(parts.len(), 3);
    let cell = [&[0xdc, 0x0b][..], local, &3u32.to_le_bytes()].concat();
    let pages = [
        leaf(&[cell]),
        overflow(parts[0], 5),
        overflow(parts[2], 0),
        overflow(parts[1], 4),
    ];
    let whole = file(&pages);
    assert_eq!(
        entries(&whole, vec![], PAGE).unwrap(),
        [("k1".to_owned(), value)]
    );
    for (page, with, detail) in [
        (1, overflow(parts[0], 0), "page 0"),
        (1, overflow(parts[0], 9), "behind the end"),
        (1, overflow(parts[0], 3), "reached twice"),
        (1, leaf(&[]), "not a page of overflow"),
        (2, overflow(parts[2], 5), "goes on"),
    ] {
        let mut pages = pages.to_vec();
        pages[page] = with;
        let error = entries(&file(&pages), vec![], PAGE)
            .unwrap_err()
            .to_string();
        assert!(error.contains(detail), "{error}");
    }
}

#[test]
fn pages_of_64_kib_have_wider_numbers() {
    let size = 65_536;
    let main = [directory(size), page(size, &[3], &[cell(b"a1", b"x")])].concat();
    assert_eq!(
        entries(&main, vec![], size).unwrap(),
        [("a1".to_owned(), b"x".to_vec())]
    );
}

fn journal(entries: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let entries = entries.iter();
    entries
        .flat_map(|(page, bytes)| [&page.to_le_bytes()[..], bytes].concat())
        .collect()
}

#[test]
fn the_oldest_journal_and_in_it_the_first_entry_of_a_page_counts() {
    let main = three_leaves();
    let (p, q, r) = (b"p1", b"q1", b"r1");
    let older = journal(&[(5, leaf(&[cell(p, b"")])), (5, leaf(&[cell(q, b"")]))]);
    let newer = journal(&[(5, leaf(&[cell(r, b"")])), (3, leaf(&[cell(q, b"")]))]);
    assert_eq!(keys(&main, vec![&older, &newer]), "a1b1q1p1");
    // An entry that is being written does not count yet.
    let cut = &older[..older.len() / 2 - 1];
    assert_eq!(keys(&main, vec![cut, &newer]), "a1b1q1r1");
}

#[test]
fn an_entry_that_a_journal_gets_while_the_file_is_read_counts() {
    use std::cell::RefCell;

    /// A file that grows.
    struct Growing<'a>(&'a RefCell<Vec<u8>>);
    impl ReadAt for Growing<'_> {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
            self.0.borrow().as_slice().read_at(buf, offset)
        }
        fn size(&self) -> std::io::Result<u64> {
            self.0.borrow().as_slice().size()
        }
    }

    let (main, log) = (RefCell::new(three_leaves()), RefCell::new(Vec::new()));
    let mut tdb = Tdb::open(Growing(&main), vec![Growing(&log)], PAGE).unwrap();
    let tree = tdb.tree("t", NAMES.0, NAMES.1).unwrap().unwrap();
    let mut seen = String::new();
    tdb.scan(tree, |entry| -> Result<(), FormatError> {
        seen += &String::from_utf8_lossy(entry.key);
        if seen.len() == 2 {
            // The server changes the last leaf: its journal first.
            let last = 4 * PAGE..5 * PAGE;
            log.borrow_mut()
                .extend(journal(&[(5, main.borrow()[last.clone()].to_vec())]));
            main.borrow_mut()[last].copy_from_slice(&leaf(&[cell(b"zz", b"")]));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, "a1b1c1d1");
}

#[test]
fn a_node_that_is_reached_twice_or_lies_behind_the_end_is_damage() {
    for (children, last, detail) in [
        (vec![3, 4], 4, "reached twice"),
        (vec![2], 3, "reached twice"),
        (vec![3], 6, "behind the end"),
        (vec![0], 3, "page 0"),
    ] {
        let mut main = three_leaves();
        main[PAGE..2 * PAGE].copy_from_slice(&inner(&children, last));
        let error = entries(&main, vec![], PAGE).unwrap_err().to_string();
        assert!(error.contains(detail), "{error}");
    }
}

#[test]
fn no_byte_that_is_wrong_and_no_cut_makes_a_reader_panic() {
    let main = three_leaves();
    let read = |bytes: &[u8]| {
        let mut tdb = Tdb::open(bytes, vec![], PAGE).unwrap();
        if let Ok(Some(tree)) = tdb.tree("t", NAMES.0, NAMES.1) {
            let _ = tdb.scan(tree, |_| Ok::<_, FormatError>(()));
        }
    };
    for at in 0..main.len() {
        for value in [0, 1, 0x7f, 0xff, main[at] ^ 4] {
            let mut main = main.clone();
            main[at] = value;
            read(&main);
        }
        read(&main[..at]);
    }
}
