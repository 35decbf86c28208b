//! A scan whose caller can't use a change.

use crate::scanned::vnode;
use capture::{CaptureError, SourceChoice, Start};
use model::Version;
use tdfiles::FormatError;
use tdwriter::{
    Row,
    vnode::{VnodeBuilder, VnodeConfig},
};

#[test]
fn the_first_error_of_the_caller_ends_the_scan() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = VnodeBuilder::create(dir.path(), VnodeConfig::default()).unwrap();
    let stb = builder.create_stb("s", None);
    for at in 0..10 {
        builder.auto_create(&format!("t{at}"), stb, vec![Row::new(1_000 + at, 1)]);
    }
    builder.commit().unwrap();
    builder.save().unwrap();
    let start = Start {
        version: Version::BEGINNING,
        known: None,
    };
    for source in [SourceChoice::Tsdb, SourceChoice::Wal, SourceChoice::Auto] {
        let mut told = 0;
        let ended = vnode(dir.path()).unwrap().scan(&start, source, &mut |_| {
            told += 1;
            if told < 3 {
                return Ok(());
            }
            Err(FormatError::Corrupt {
                what: "row",
                offset: 7,
                detail: "a test".into(),
            })
        });
        assert_eq!(told, 3, "{source:?}");
        assert!(
            matches!(
                &ended,
                Err(CaptureError::Rows {
                    source: FormatError::Corrupt { offset: 7, .. },
                    ..
                })
            ),
            "{source:?}: {ended:?}"
        );
    }
}
